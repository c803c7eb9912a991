"""Readers of foreign files that take no more memory or time than the data set can need.

A few bytes of a tar header, of a compressed stream or of a pickle claim any size.
"""

import io
import pickle
import pickletools
import tarfile
from typing import IO, Any

from jax_impl.errors import InputError

MOST = 1 << 30
"""Bytes of an archive, unpacked; CIFAR-10's have 184 million."""
MOST_NAME = 1 << 16
"""Bytes of a header that holds a member's long name or other attributes of it."""
NAMES = (
    tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)  # fmt: skip
OPERATIONS = {operation.code.encode("latin-1"): operation for operation in pickletools.opcodes}


class Bounded:
    """A stream of which `MOST` bytes are read.

    Raises:
        InputError: at the byte after the last of these.
    """

    def __init__(self, stream: IO[bytes]):
        self.stream, self.left = stream, MOST

    def read(self, size: int) -> bytes:
        """At most `size` bytes, which must be given."""
        content = self.stream.read(size)
        self.left -= len(content)
        if self.left < 0:
            raise InputError(f"it unpacks to more than {MOST:,} bytes")
        return content


class Member(tarfile.TarInfo):
    """A member whose header claims no more than the data set can need."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "Member":
        """As TarInfo's; raises InputError of sizes beyond the limits, and of sparse files."""
        found: Any = super().frombuf(buf, encoding, errors)
        if not 0 <= found.size <= (MOST_NAME if found.type in NAMES else MOST):
            raise InputError(f"a member claims {found.size:,} bytes")
        if found.type == tarfile.GNUTYPE_SPARSE:
            raise InputError("a member is a sparse file")
        return found


def check_pickle(content: bytes, start: int = 0) -> int:
    """Where the pickle that begins at `start` ends.

    Raises UnpicklingError if an unpickler would set aside more than the content has bytes.
    Arguments are read as `pickletools.genops` does, but for the text of Python 2's, which that
    takes for ASCII; a reader raises ValueError where an argument claims more than there is.
    """
    file = io.BytesIO(content)
    file.seek(start)
    while code := file.read(1):
        operation = OPERATIONS.get(code)
        if operation is None:
            raise pickle.UnpicklingError(f"it has the operation {code!r}")
        if operation.name == "STRING":
            file.readline()
            continue
        argument = None if operation.arg is None else operation.arg.reader(file)
        memo = "PUT" in operation.name or "GET" in operation.name
        if memo and argument is not None and not 0 <= int(argument) <= len(content):
            raise pickle.UnpicklingError(f"its memo has the entry {argument}")
        if operation.name == "STOP":
            break
    return file.tell()
