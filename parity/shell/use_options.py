"""The options of the commands that use what was trained. Imports no framework."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from parity.shell.options import DataName, MaybePath

Weights = Annotated[Path, tyro.conf.Positional]
MaybeModel = Annotated[str | None, tyro.conf.arg(metavar="STR", help_behavior_hint="")]


@dataclasses.dataclass(frozen=True)
class EvaluateOptions:
    """Tests a trained model: accuracy, loss, every class, and the errors it is surest of."""

    weights: Weights
    """a run directory of `parity train`, or weights: .safetensors, .pth, .pt, or an Orbax
    checkpoint"""

    model: MaybeModel = None
    """whose weights they are: NAME[:OPTION=VALUE]..., as resnet18:stem=cifar; by default what the
    run or the file says"""

    framework: Literal["jax", "torch"] = "jax"
    """what computes, whichever trained it; JAX needs no PyTorch but to read a .pth"""

    data: DataName = "auto"
    """auto: the run's; of a file CIFAR-10 if it is prepared or can be had, else scikit-learn's
    digits"""

    data_dir: MaybePath = None
    """where prepared data lies; by default $PARITY_DATA_DIR or the user's cache directory"""

    mirror: bool = False
    """evaluate by the mean of the logits of each image and its mirror image, as it is done anyway
    for a run that was trained so"""

    batch_size: int = 100
    """images at once, which changes nothing but speed and memory"""

    out: MaybePath = None
    """directory for evaluation.json, confusion.png and errors.png; by default
    runs/evaluate-DATE-TIME"""


@dataclasses.dataclass(frozen=True)
class PredictOptions:
    """Tells what a trained model sees in images: its five likeliest classes of each."""

    weights: Weights
    """a run directory of `parity train`, or weights: .safetensors, .pth, .pt, or an Orbax
    checkpoint"""

    images: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="IMAGE...", help_behavior_hint=""),
    ]
    """files of any kind that Pillow reads and of any size, which are resized to the model's"""

    model: MaybeModel = None
    """whose weights they are: NAME[:OPTION=VALUE]..., as resnet18:stem=cifar; by default what the
    run or the file says"""

    framework: Literal["jax", "torch"] = "jax"
    """what computes, whichever trained it; JAX needs no PyTorch but to read a .pth"""

    classes: DataName = "auto"
    """whose names the classes have. auto: those of the run's data; of a file CIFAR-10's, if it has
    ten"""


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """Writes a trained model as one file that JAX alone runs, on a CPU, a GPU and a TPU.

    It holds StableHLO, by `jax.export`, and the weights: uint8 images [batch, height, width, 3] of
    any batch size in, float32 logits [batch, classes] out.
    """

    weights: Weights
    """a run directory of `parity train`, or weights: .safetensors, .pth, .pt, or an Orbax
    checkpoint"""

    output: Annotated[Path, tyro.conf.Positional]
    """what to write; it must not exist"""

    model: MaybeModel = None
    """whose weights they are: NAME[:OPTION=VALUE]..., as resnet18:stem=cifar; by default what the
    run or the file says"""
