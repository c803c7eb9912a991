"""What the layers of a trained small CNN do, for docs/cnn-vs-resnet.md.

    python benchmarks/pictures.py RUN

RUN is a run directory, or weights, of `simple_cnn` trained on CIFAR-10, of two convolutions or more
with a pool after each of the first two. Writes filters.png, maps.png and pictures.json to
docs/pictures.
"""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax
import matplotlib.style
import numpy as np
import tyro
from matplotlib.figure import Figure

from jax_impl.data.datasets import load_dataset, normalize
from jax_impl.errors import InputError
from jax_impl.models.model import from_spec
from jax_impl.models.registry import CNNOptions, pooled
from jax_impl.ops.convolution import conv2d
from jax_impl.ops.pooling import max_pool2d
from parity.pairs.weight_source import find, load
from parity.report.picture import STYLE, image
from parity.shell import cli
from parity.shell.files import to_json, write_whole
from parity.shell.provenance import provenance
from parity.shell.recipes import IMAGE_SIZE

ROOT = Path(__file__).resolve().parents[1]
CHANNELS = 4
"""Shown of the first convolution: those that light up most."""


@dataclasses.dataclass(frozen=True)
class Options:
    """Draws a trained small CNN's filters and maps."""

    weights: Annotated[Path, tyro.conf.Positional]
    """a run directory or weights of simple_cnn"""

    model: str | None = None
    """whose weights they are, where they do not say it"""

    number: int = 0
    """of the test image that is shown"""

    data_dir: Path | None = None
    """where prepared data lies"""

    out: Path = ROOT / "docs" / "pictures"
    """where the pictures go"""


def main(options: Options) -> None:
    """Draws and writes."""
    source = find(options.weights, options.model)
    cnn = source.spec.options
    if not isinstance(cnn, CNNOptions):
        raise InputError(f"{options.weights} is of {source.spec}: give one of simple_cnn")
    if len(cnn.channels) < 2 or not all(pooled(cnn, number) for number in (1, 2)):
        what = "two convolutions or more and a pool after each of the first two"
        raise InputError(f"{options.weights} is of {source.spec}: give one of {what}")
    dataset = load_dataset("cifar10", options.data_dir)
    if not 0 <= options.number < len(dataset.test.labels):
        raise InputError(f"--number is {options.number}: give 0 to {len(dataset.test.labels) - 1}")
    params = load(source, from_spec(source.spec)).params
    pixels = dataset.test.images[options.number]
    with matplotlib.style.context(["default", STYLE]):
        drawn = {
            "filters": filters(params["conv1"]["kernel"]),
            "maps": maps(params, pixels, cnn.pool_size),
        }
        pictures = {name: image(figure, "png") for name, figure in drawn.items()}
    options.out.mkdir(parents=True, exist_ok=True)
    for name, content in pictures.items():
        write_whole(options.out / f"{name}.png", content)
    told = {
        **provenance(("jax", "numpy", "matplotlib")),
        "command": "python benchmarks/pictures.py RUN",
        "model": str(source.spec),
        "test image": options.number,
        "its class": dataset.class_names[int(dataset.test.labels[options.number])],
    }
    write_whole(options.out / "pictures.json", (to_json(told, indent=2) + "\n").encode())


def filters(kernel: Any) -> Figure:
    """Every filter of the first convolution, [kh, kw, 3, n], as a picture of red, green, blue."""
    kernel = np.asarray(kernel)
    count = kernel.shape[-1]
    across = min(16, count)
    down = -(-count // across)
    figure = Figure((0.55 * across, 0.55 * down + 0.3))
    for number in range(count):
        axes = figure.add_subplot(down, across, number + 1)
        one = kernel[..., number]
        axes.imshow(0.5 + one / (2 * np.abs(one).max()))
        axes.axis("off")
    figure.subplots_adjust(0.01, 0.02, 0.99, 0.98, 0.08, 0.08)
    return figure


def maps(params: Any, pixels: np.ndarray, pool: int) -> Figure:
    """An image uint8 [h, w, 3] on its way through convolution, ReLU and pools of that size."""
    inputs = normalize(pixels[None], np.float32)
    first, second = params["conv1"], params["conv2"]
    size = first["kernel"].shape[0]
    convolved = conv2d(inputs, first["kernel"], padding=size // 2) + first["bias"]
    lit = jax.nn.relu(convolved)
    smaller: Any = max_pool2d(lit, pool, pool)
    deeper = jax.nn.relu(conv2d(smaller, second["kernel"], padding=size // 2) + second["bias"])
    last: Any = max_pool2d(deeper, pool, pool)
    chosen = np.argsort(-np.asarray(lit[0]).std((0, 1)))[:CHANNELS]
    of_second = np.argsort(-np.asarray(last[0]).std((0, 1)))[:CHANNELS]
    columns = (
        (f"convolution, {_size(convolved)}", convolved, chosen),
        ("ReLU", lit, chosen),
        (f"{pool}x{pool} max-pool, {_size(smaller)}", smaller, chosen),
        (f"conv2, ReLU, pool, {_size(last)}", last, of_second),
    )
    figure = Figure((9, 1.75 * CHANNELS))
    grid = figure.add_gridspec(CHANNELS, 1 + len(columns))
    axes = figure.add_subplot(grid[:, 0])
    axes.imshow(pixels)
    axes.set_title("image, {}x{}".format(*IMAGE_SIZE))
    axes.axis("off")
    for column, (title, values, which) in enumerate(columns, 1):
        for row, channel in enumerate(which):
            axes = figure.add_subplot(grid[row, column])
            axes.imshow(np.asarray(values[0, :, :, channel]), cmap="gray")
            axes.axis("off")
            axes.set_title(title if row == 0 else "")
            axes.text(
                0, -0.04, f"channel {channel}", fontsize=7, va="top", transform=axes.transAxes
            )
    figure.subplots_adjust(0.01, 0.02, 0.99, 0.95, 0.06, 0.14)
    return figure


def _size(values: Any) -> str:
    return f"{values.shape[1]}x{values.shape[2]}"


if __name__ == "__main__":
    cli.run(main, Options)
