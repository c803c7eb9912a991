"""Prepares CIFAR-10 for both frameworks: `python scripts/prepare_data.py --help`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from parity.cli import run
from parity.prepare import PrepareOptions, main

if __name__ == "__main__":
    run(main, PrepareOptions)
