"""PyTorch's format of before 2020: five pickles and the storages' numbers, without a checksum.

Imports no framework.
"""

import io
import pickle
from pathlib import Path
from typing import Any

from jax_impl.data.bounded import check_pickle
from jax_impl.errors import InputError, one_line

MAGIC = bytes.fromhex("6cfc9c46f9206aa85019")
"""PyTorch's number, near the beginning of such a file."""
PICKLES = 5
"""The magic number, the version, the system, the object and the names of its storages."""
OBJECT = 3
"""Which of them asks for storages."""


def checked(path: Path) -> io.BytesIO:
    """The file's content, of which a reader can set no more aside than it has bytes.

    Raises:
        OSError: it cannot be read.
        InputError: it is no file of this format, or its storages claim more numbers than it has
            bytes.
    """
    with path.open("rb") as file:
        head = file.read(64)
        if MAGIC not in head:
            what = "is cut off or damaged" if head[:2] == b"PK" else "is no file of torch.save's"
            raise InputError(f"{path} {what}")
        file.seek(0)
        content = file.read()
    ends = [0]
    try:
        for _ in range(PICKLES):
            ends.append(check_pickle(content, ends[-1]))
        sizes = _Sizes(io.BytesIO(content[ends[OBJECT] : ends[OBJECT + 1]]))
        sizes.load()
    # Damaged bytes make an unpickler raise nearly anything.
    except Exception as error:
        raise InputError(f"{path} is damaged ({one_line(error, 200)})") from error
    claimed = sum(sizes.found.values())
    if claimed > len(content):
        raise InputError(f"{path} is damaged: it claims {claimed:,} numbers and is too short")
    return io.BytesIO(content)


class _Anything:
    """Takes the place of whatever a pickle asks for, and does nothing."""

    def __init__(self, *_: Any) -> None: ...

    def __setitem__(self, *_: Any) -> None: ...

    def __setstate__(self, *_: Any) -> None: ...

    def append(self, *_: Any) -> None: ...


class _Sizes(pickle.Unpickler):
    """The numbers of each storage that a pickle asks for; it calls and imports nothing."""

    def __init__(self, file: io.BytesIO):
        super().__init__(file)
        self.found: dict[Any, int] = {}

    def find_class(self, module: str, name: str) -> Any:
        del module, name
        return _Anything

    def persistent_load(self, pid: Any) -> Any:
        _, _, key, _, size, *_ = pid
        if not isinstance(size, int) or size < 0:
            raise pickle.UnpicklingError(f"a storage of {size!r} numbers")
        self.found[str(key)] = max(size, self.found.get(str(key), 0))
        return _Anything()
