"""Trains a model by the notebook's recipe: `python scripts/train_torch.py --help`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from parity.cli import run
from parity.options import TrainOptions


def main(options: TrainOptions) -> None:
    from parity.train_torch import (
        main,  # here, so that a typo is told before the framework is loaded
    )

    main(options)


if __name__ == "__main__":
    run(main, TrainOptions)
