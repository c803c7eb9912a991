"""What every drawn picture shares: its look, the hues of its curves, and its bytes."""

import io
from typing import Any, Literal

from matplotlib import colormaps, font_manager
from matplotlib.figure import Figure

DPI = 150
STYLE = {
    "font.size": 9,
    "font.family": ["DejaVu Sans"],  # matplotlib brings it, so the layout is the same anywhere
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "grid.color": "#d8d8d8",
    "grid.linewidth": 0.6,
    "text.parse_math": False,
    "svg.hashsalt": "parity",
}
"""Of matplotlib's rcParams, upon its defaults."""
FRAMEWORKS = {"JAX": "#2563b0", "PyTorch": "#d9661f"}
"""The hue of a framework, wherever a plot has both."""
DASHES = {"float32": "-", "float64": "--", "bfloat16": ":"}
"""Of a precision, wherever a plot has more than one."""
_HUES = (
    "#2563b0", "#d9661f", "#1b8a5a", "#8e44ad", "#b8860b", "#c0392b", "#16a2b8", "#6b7280",
    "#d94f9d", "#8fb339", "#6b3e1f", "#111111",
)  # fmt: skip


def hues(count: int) -> list[Any]:
    """So many colours that differ."""
    if count <= len(_HUES):
        return list(_HUES[:count])
    return [colormaps["turbo"]((i + 0.5) / count) for i in range(count)]


def image(figure: Figure, kind: Literal["png", "svg"], dpi: int = DPI) -> bytes:
    """A file's content; of one drawing always the same bytes."""
    buffer = io.BytesIO()
    metadata: Any = {"Date": None} if kind == "svg" else {}
    figure.savefig(buffer, format=kind, dpi=dpi, metadata=metadata)
    return buffer.getvalue()


def drawable(text: str) -> str:
    """Escaped where the font has no such letter, which matplotlib would warn of."""
    there = font_manager.get_font(font_manager.findfont("DejaVu Sans")).get_charmap()
    return "".join(c if ord(c) in there else ascii(c)[1:-1] for c in text)
