"""Trains a Flax model by the notebook's recipe: `parity train --framework jax`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from parity.__main__ import entry

if __name__ == "__main__":
    entry("train", "--framework", "jax")
