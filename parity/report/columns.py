"""Tables of plain text that keep to a width. Imports no framework."""

import textwrap
from collections.abc import Collection, Sequence

WIDTH = 80
"""Of a terminal, in letters."""
_LEAST = 8
"""Letters of a column of words, however narrow the table must be."""
_GAP, _INDENT = "  ", "    "


def columns(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    words: Collection[str],
    width: int = WIDTH,
    gap: str = _GAP,
    below: Sequence[str] = (),
) -> list[str]:
    """The lines of a table that is no wider than `width`, where its numbers leave room for that.

    Args:
        header: the columns' names.
        rows: a cell for each column.
        words: the columns whose cells are aligned to the left and may take several lines; the
            others hold numbers, aligned to the right and never broken.
        width: letters of a line.
        gap: between two columns.
        below: what stands under each row, indented; by default nothing does.
    """
    widths = [max(1, *(len(row[i]) for row in (header, *rows))) for i in range(len(header))]
    while sum(widths) + len(gap) * (len(widths) - 1) > width:
        broken = [i for i, name in enumerate(header) if name in words and widths[i] > _LEAST]
        if not broken:
            break
        widths[max(broken, key=lambda i: widths[i])] -= 1
    lines = []
    for row, text in zip((header, *rows), ("", *(below or [""] * len(rows))), strict=True):
        cells = [
            _broken(cell, size) if name in words else [cell]
            for cell, size, name in zip(row, widths, header, strict=True)
        ]
        for number in range(max(len(cell) for cell in cells)):
            parts = [
                part.ljust(size) if name in words else part.rjust(size)
                for cell, size, name in zip(cells, widths, header, strict=True)
                for part in [cell[number] if number < len(cell) else ""]
            ]
            lines.append(gap.join(parts).rstrip())
        if text:
            lines += textwrap.wrap(
                text,
                width,
                initial_indent=_INDENT,
                subsequent_indent=_INDENT,
                break_on_hyphens=False,
            )
    return lines


def _broken(text: str, width: int) -> list[str]:
    """The text in lines, between words where there are any, else behind the last letter."""
    return textwrap.wrap(text, width, break_on_hyphens=False) or [""]
