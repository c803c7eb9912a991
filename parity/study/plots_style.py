"""How a study's pictures look."""

from typing import Any

from matplotlib import colormaps

DPI = 130
RC = {
    "font.size": 9,
    "font.family": ["DejaVu Sans"],  # matplotlib brings it, so the layout is the same anywhere
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#d8d8d8",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "text.parse_math": False,
    "svg.hashsalt": "study",
}
_FEW = (
    "#2563b0", "#d9661f", "#1b8a5a", "#8e44ad", "#b8860b", "#c0392b", "#16a2b8", "#6b7280",
    "#d94f9d", "#8fb339", "#6b3e1f", "#111111",
)  # fmt: skip


def hues(count: int) -> list[Any]:
    """So many that differ."""
    if count <= len(_FEW):
        return list(_FEW[:count])
    return [colormaps["turbo"]((i + 0.5) / count) for i in range(count)]
