"""Changes of bytes as storage, tools and attackers make them."""

import re
from collections.abc import Callable

from hypothesis import strategies as st

SIZES = (1, 2, 4, 8, 64, 512)
NUMBERS = (0, 1, 127, 128, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
DIGITS = (b"0", b"-1", b"1e400", b"NaN", b"9" * 5, b"9" * 10, b"9" * 19, b"9" * 400, b"1.5", b"")
TEXTS = (
    b"..", b"/", b"\\", b"\0", b"\x1b[31m", b"\xff\xfe", b"\n", b"A" * 300,
    b"[" * 2000, b"{" * 2000,
)  # fmt: skip


def changed(content: bytes) -> st.SearchStrategy[bytes]:
    """`content` after one to three changes."""
    edit = st.tuples(st.sampled_from(EDITS), st.integers(0, 1 << 24), st.integers(0, 1 << 24))
    return st.lists(edit, min_size=1, max_size=3).map(lambda edits: _applied(content, edits))


def _applied(content: bytes, edits: list[tuple[Callable[..., bytes], int, int]]) -> bytes:
    for edit, place, choice in edits:
        content = edit(content, place % (len(content) + 1), choice)
    return content


def _flip(content: bytes, at: int, choice: int) -> bytes:
    flipped = bytes(byte ^ (1 << choice % 8) for byte in content[at : at + 1])
    return content[:at] + flipped + content[at + 1 :]


def _put(content: bytes, at: int, choice: int) -> bytes:
    return content[:at] + bytes([choice % 256]) + content[at + 1 :]


def _cut(content: bytes, at: int, choice: int) -> bytes:
    return content[:at] if choice % 2 else content[at:]


def _delete(content: bytes, at: int, choice: int) -> bytes:
    return content[:at] + content[at + SIZES[choice % 6] :]


def _repeat(content: bytes, at: int, choice: int) -> bytes:
    return content[:at] + content[at : at + SIZES[choice % 6]] + content[at:]


def _copy(content: bytes, at: int, choice: int) -> bytes:
    piece = content[choice % (len(content) + 1) :][: SIZES[choice % 6]]
    return content[:at] + piece + content[at + len(piece) :]


def _number(content: bytes, at: int, choice: int) -> bytes:
    size, number = (1, 2, 4, 8)[choice % 4], NUMBERS[choice // 8 % len(NUMBERS)]
    written = (number % (1 << 8 * size)).to_bytes(size, "little")
    return content[:at] + (written if choice // 4 % 2 else written[::-1]) + content[at + size :]


def _digits(content: bytes, at: int, choice: int) -> bytes:
    """Another number in text: the first after the place."""
    found = re.compile(rb"\d+").search(content, at)
    start, stop = found.span() if found else (at, at)
    return content[:start] + DIGITS[choice % len(DIGITS)] + content[stop:]


def _text(content: bytes, at: int, choice: int) -> bytes:
    return content[:at] + TEXTS[choice % len(TEXTS)] + content[at:]


EDITS = (_flip, _put, _cut, _delete, _repeat, _copy, _number, _digits, _text)
