"""How a mesh of devices is asked for. Imports nothing."""

from jax_impl.errors import InputError, shown

AXES = "data", "model"
MOST = 2**20
"""Devices."""


def axes_of(text: str) -> dict[str, int]:
    """The sizes of a mesh's axes by name, of "data=8" or "data=4,model=2".

    Raises:
        InputError: it is none: an axis of another name, twice, or of a size that is no whole number
            of 1 or more.
    """
    found: dict[str, int] = {}
    for part in text.split(","):
        name, _, size = part.partition("=")
        whole = size.isascii() and size.isdecimal() and len(size) < 8 and 1 <= int(size) <= MOST
        if name not in AXES or name in found or not whole:
            raise InputError(
                f"a mesh of {shown(text)!r}: give data=8, or data=4,model=2, with whole numbers of "
                "devices"
            )
        found[name] = int(size)
    return found
