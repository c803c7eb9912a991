"""`parity speed plot`: which framework is faster, from saved runs. Imports no framework."""

from typing import Any

import matplotlib.style

from jax_impl.errors import InputError, shown
from parity.report.curves import check_suffix
from parity.report.picture import STYLE, image
from parity.shell.console import Console
from parity.shell.files import check_picture, default_out, make_place, write_whole
from parity.shell.look_options import SpeedPlotOptions
from parity.speed import faster
from parity.speed.saved import read


def run(options: SpeedPlotOptions) -> None:
    """Draws one picture of all runs; what is wrong is told before anything is written."""
    if not options.files:
        raise InputError("name at least one speed.json, or the directory that holds one")
    place = options.plot or default_out("faster").with_suffix(".png")
    check_suffix(place)
    check_picture(place)
    found = faster.machines([read(path) for path in options.files])
    if not any(each.ratios for each in found):
        raise InputError("no run has a valid timing of both frameworks: there is nothing to draw")
    kind: Any = place.suffix.lower().removeprefix(".")
    with matplotlib.style.context(["default", STYLE]):
        content = image(faster.figure(found), kind)
    make_place(place)
    write_whole(place, content)
    console = Console()
    for each in found:
        console.paragraph(each.stamp)
        for task, ratio in each.ratios.items():
            doubt = f", {each.doubts[task]}" if task in each.doubts else ""
            console.paragraph(f"  {task}: {ratio.told}{doubt}")
        for line in each.left_out:
            console.paragraph(f"  {line}")
    console.line(f"JAX's throughput over PyTorch's: {shown(str(place), 400)}")
