"""What the tests of preparing data share."""

import hashlib
from pathlib import Path

from jax_impl.data import datasets
from torch_ref import layout

ROOT = Path(__file__).parents[1]
TFDS, PYTHON = datasets.TFDS_FOLDER, layout.FOLDER
PREPARED = 3 if datasets.has_tfds() else 2
"""What a preparation leaves in a data directory: its layouts and the manifest."""


def tree(folder: Path) -> dict[str, str] | None:
    """Every path under a folder with the checksum of its content, or None if it is not there."""
    if not folder.exists():
        return None
    return {
        str(path.relative_to(folder)): hashlib.md5(path.read_bytes()).hexdigest()
        if path.is_file()
        else "folder"
        for path in folder.rglob("*")
    }
