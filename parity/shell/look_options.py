"""The options of the commands that look at what there is. Imports no framework."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from parity.shell.options import MaybeInt, MaybePath


@dataclasses.dataclass(frozen=True)
class SummaryOptions:
    """Tells every module of a model: its output, parameters, FLOPs and receptive field.

    It needs no data and no weights, and takes images of any size.
    """

    model: Annotated[str, tyro.conf.Positional]
    """NAME[:OPTION=VALUE]..., as resnet18:stem=cifar; `parity list` gives the names"""

    image_size: MaybeInt = None
    """height and width of the images, in pixels; by default 32, or what simple_cnn is made for"""

    batch_size: int = 1
    """images whose activations are held at once"""


@dataclasses.dataclass(frozen=True)
class CompareOptions:
    """Compares trainings: their curves in one picture, and a table of what differs.

    It reads the run directories of `parity train`, of either framework, also of trainings that are
    not over, and changes nothing in them.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """the run directories"""

    plot: MaybePath = None
    """the picture, a new .png or .svg file; by default runs/compare-DATE-TIME.png"""


@dataclasses.dataclass(frozen=True)
class SpeedPlotOptions:
    """Draws which framework is faster, from the speed.json of one or more runs of `parity speed`.

    A row a workload, a dot with its 95 % interval at JAX's throughput over PyTorch's, a line at 1.
    Runs of one machine with the same versions are put together, several stand side by side.
    """

    files: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """speed.json files, or the directories that hold them"""

    plot: MaybePath = None
    """the picture, a new .png or .svg file; by default runs/faster-DATE-TIME.png"""


@dataclasses.dataclass(frozen=True)
class SpeedCompareOptions:
    """Tells what changed between two runs of `parity speed`: versions, machine, throughputs.

    A change counts where the 95 % interval of the quotient leaves out 1.
    """

    before: Annotated[Path, tyro.conf.Positional]
    """a speed.json, or the directory that holds one"""

    after: Annotated[Path, tyro.conf.Positional]
    """the later one"""
