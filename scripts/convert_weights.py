"""Converts weights between PyTorch and Flax: `python scripts/convert_weights.py --help`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from parity.cli import run
from parity.options import ConvertOptions


def main(options: ConvertOptions) -> None:
    from parity.convert import main  # here, so that a typo is told before the frameworks are loaded

    main(options)


if __name__ == "__main__":
    run(main, ConvertOptions)
