"""Checksums of tensors, in the metadata of the files of weights that are written here."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from jax_impl.errors import InputError, shown

KEY = "sha256"
"""The entry of a file's metadata with the checksum of every tensor, as JSON."""


def checksum(array: np.ndarray) -> str:
    """SHA-256 of an array's type, shape and bytes in C order, in hexadecimal."""
    plain = np.ascontiguousarray(array)
    found = hashlib.sha256(f"{array.dtype.name}{list(array.shape)}".encode())
    found.update(plain.reshape(-1).view(np.uint8).data)
    return found.hexdigest()


def checksums(arrays: Mapping[str, np.ndarray]) -> dict[str, str]:
    """The entry of a file's metadata that `checker` reads."""
    return {KEY: json.dumps({name: checksum(value) for name, value in arrays.items()})}


def checker(metadata: Mapping[str, str], path: Path) -> Callable[[str, np.ndarray], None]:
    """A function of (name, array) that raises InputError if the file says another checksum."""
    try:
        told = json.loads(metadata.get(KEY, "{}"))
    except (ValueError, RecursionError, TypeError):
        told = None
    if not isinstance(told, dict):
        raise InputError(f"{path} is damaged: its checksums cannot be read")

    def check(name: str, array: np.ndarray) -> None:
        if name in told and told[name] != checksum(array):
            raise InputError(f"{path} is damaged: the checksum of {shown(name)} is another")

    return check
