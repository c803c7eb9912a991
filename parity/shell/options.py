"""The options of the main commands, and kinds of options.

Imports no framework, so that a typo is told at once.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import tyro

RungName = Literal[
    "data", "init", "init_exact", "order_exact", "forward", "loss", "gradients", "batch_stats",
    "optimizer", "optimizers", "trajectory", "replay", "recipe", "accuracy",
]  # fmt: skip
DataName = Literal["auto", "cifar10", "digits"]
ModeName = Literal["train", "inference"]
DtypeName = Literal["float64", "float32", "bfloat16"]
RecipeName = Literal[
    "notebook_cnn", "notebook_resnet", "notebook_resnet_slow", "resnet20_he", "resnet18_cifar",
    "resnet18_cutout", "resnet20_short", "resnet18_short",
]  # fmt: skip
PrecisionName = Literal["float32", "tf32", "bf16"]

RUNGS: tuple[RungName, ...] = get_args(RungName)


def unset(metavar: str) -> Any:
    """For an option that may be left out: the help text says itself what happens then."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="")


def names_of(literal: Any) -> str:
    """As a help text names them."""
    return f"{{{','.join(get_args(literal))}}}"


MaybePath = Annotated[Path | None, unset("PATH")]
MaybeInt = Annotated[int | None, unset("INT")]
MaybeFloat = Annotated[float | None, unset("FLOAT")]

RUNG_PURPOSES: dict[RungName, str] = {
    "data": "bytes, labels, order and normalised values of both data pipelines",
    "init": "the distribution of every parameter's initial values",
    "init_exact": "the weights of one seed, bit for bit",
    "order_exact": "the order of the images over three epochs, after one seed",
    "forward": "the output of every module, in eval and in train mode",
    "loss": "cross entropy: mean, sum, of each row, smoothed, and of huge logits",
    "gradients": "the gradient of the loss by every parameter and by the images",
    "batch_stats": "running statistics after three train-mode batches, of three sizes",
    "optimizer": "three steps of the model's optimizer from shared gradients",
    "optimizers": "every optimizer, schedule and clipping, 50 steps each",
    "trajectory": "60 steps of training, and the trained models image by image",
    "replay": "60 steps of training in float64 from nothing but a seed",
    "recipe": "everything a recipe may say at once: augmentation to averages, and going on",
    "accuracy": "both frameworks train for real: losses and test accuracy",
}


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """Checks that the PyTorch models and their JAX twins are the same, and trains both."""

    models: tuple[str, ...] = ("simple_cnn", "resnet18")
    """what to compare: names that `parity list` gives, each NAME[:OPTION=VALUE]..., as
    resnet18:stem=cifar or simple_cnn:channels=16,32,64:kernel_size=5"""

    pair: Annotated[str | None, unset("MODULE:FUNCTION")] = None
    """a pair of your own in place of the models: MODULE:FUNCTION, a function without arguments
    that returns a parity.Pair; MODULE is imported from the current folder too"""

    rungs: tuple[RungName, ...] = RUNGS
    """which checks; `parity list` says what each one does"""

    data: DataName = "auto"
    """auto: CIFAR-10 if it is prepared or can be had, else scikit-learn's digits"""

    data_dir: MaybePath = None
    """where prepared data lies; by default $PARITY_DATA_DIR or the user's cache directory"""

    seed: int = 0
    """of the initial weights and of the batches"""

    out: MaybePath = None
    """directory for report.json, report.md and report.html; by default runs/parity-DATE-TIME"""

    steps: int = 60
    """of training in the trajectory"""

    dtypes: tuple[DtypeName, ...] = ()
    """the precisions of the numeric rungs, by default the pair's own: float64 and float32"""

    accept: tuple[str, ...] = ()
    """departures that are as they should be, by name, as "biased running variance": they are
    listed, and the rest of the rung still counts"""

    strict_float64: bool = False
    """count it as a failure that a module computes in float32 inside of the float64 run"""

    processes: int = 1
    """compare training by so many processes as well, PyTorch's under DistributedDataParallel and
    JAX's on its distributed runtime, on this machine's CPUs"""

    full: bool = False
    """train every model for all epochs of its recipe, however long it takes"""

    budget: float = 10.0
    """minutes for the trainings of each model, but for the notebook's own: the small CNN on
    CIFAR-10 is always trained in full. What there is time for only once is shown, and not judged"""

    device: Literal["auto", "cpu", "gpu"] = "auto"
    """auto: a GPU if both frameworks see one"""


@dataclasses.dataclass(frozen=True)
class ListOptions:
    """Names the models and the rungs."""

    table: bool = False
    """the models as a Markdown table, with parameters, FLOPs and the PyTorch twin of each"""


@dataclasses.dataclass(frozen=True)
class RecipesOptions:
    """Tells the named recipes: the net, how it is trained, and what it comes to."""

    names: Annotated[tuple[RecipeName, ...], tyro.conf.Positional, unset("[NAME ...]")] = ()
    """of which ones; by default of all"""


@dataclasses.dataclass(frozen=True)
class ConvertOptions:
    """Converts weights between PyTorch's .pth and .pt, .safetensors, and Orbax checkpoints.

    The kind of a file is told by its name; a folder, or a name without one of these endings, is an
    Orbax checkpoint, in Flax's names and layout. The others hold a PyTorch state_dict.
    """

    input: Annotated[Path, tyro.conf.Positional]
    """what to read"""

    output: Annotated[Path, tyro.conf.Positional]
    """what to write"""

    model: str
    """whose weights they are: NAME[:OPTION=VALUE]..., as resnet50:num_classes=1000"""

    drop_head: bool = False
    """give the last linear layer new weights, for a model of another number of classes"""

    seed: int = 0
    """of the new head"""

    allow_nan: bool = False
    """accept weights that are NaN or infinite"""

    overwrite: bool = False
    """replace what is at the output"""


@dataclasses.dataclass(frozen=True)
class SpeedOptions:
    """Compares the speed of the frameworks, in training and inference, each written in many ways.

    Each way runs in a process of its own, all of them in turns.
    """

    workloads: tuple[str, ...] = ()
    """what to time: MODEL@BATCH, as resnet18:stem=cifar@128; by default simple_cnn@32,
    simple_cnn@256, resnet18@16, resnet18:stem=cifar@128, resnet50@32 and, on a GPU,
    resnet18:stem=cifar@512 in bfloat16"""

    modes: tuple[ModeName, ...] = ("train", "inference")
    """inference always takes batches of 256"""

    variants: tuple[str, ...] = ("all",)
    """ways of writing it: all, or some of jit scan (JAX), the same without what this project does
    for a CPU: im2col (no Winograd, scanned) every_weight (visits weights that are never read,
    scanned) stock stock_jit (XLA's own convolution and pooling),
    eager channels_last fused fused_channels_last compile compile_channels_last compile_freezing
    max_autotune (PyTorch) and, on a GPU, deterministic (JAX), reduce_overhead cuda_graph
    cuda_graph_channels_last (PyTorch)"""

    rounds: int = 10
    """timed blocks of each variant"""

    seconds: float = 1.0
    """of a block"""

    precision: Annotated[PrecisionName | None, unset(names_of(PrecisionName))] = None
    """in place of the workloads' own: float32, or bf16 where said above"""

    compile_limit: float = 10.0
    """minutes until a variant's warm-up is given up"""

    roofline: bool = True
    """measure the machine's ceilings and count the work, for the distance from the hardware's
    limits"""

    busy: bool = False
    """show the ratios of a task also where other work made its timings invalid"""

    notebook: bool = False
    """also train the notebook's small CNN from start to end, with compilation: JAX's scan,
    PyTorch's eager, its fastest two others at that task and, on a GPU, cuda_graph"""

    notebook_repeats: int = 1
    """trainings of each variant"""

    data: DataName = "auto"
    """auto: CIFAR-10 if it is prepared or can be had, else scikit-learn's digits"""

    data_dir: MaybePath = None
    """where prepared data lies; by default $PARITY_DATA_DIR or the user's cache directory"""

    seed: int = 0
    """of the initial weights and of the batches"""

    out: MaybePath = None
    """directory for speed.json, speed.md and the plots, written after every task; by default
    runs/speed-DATE-TIME"""

    device: Literal["auto", "cpu", "gpu"] = "auto"
    """auto: a GPU if both frameworks see one"""


@dataclasses.dataclass(frozen=True)
class PrepareOptions:
    """Prepares CIFAR-10 for both frameworks, once."""

    archive: MaybePath = None
    """a CIFAR-10 archive (binary or python) or its unpacked folder; without it, a download"""

    data_dir: MaybePath = None
    """where to put the data; by default $PARITY_DATA_DIR or the user's cache directory"""

    overwrite: bool = False
    """replace what is there"""
