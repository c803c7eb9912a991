"""The options of every command. Imports no framework, so that a typo is told at once."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import tyro

from jax_impl.training.optimizer_names import OptimizerName

RungName = Literal[
    "data", "init", "init_exact", "order_exact", "forward", "loss", "gradients", "batch_stats",
    "optimizer", "optimizers", "trajectory", "replay", "recipe", "accuracy",
]  # fmt: skip
DataName = Literal["auto", "cifar10", "digits"]
ModeName = Literal["train", "inference"]
DtypeName = Literal["float64", "float32", "bfloat16"]
ScheduleName = Literal["constant", "cosine", "steps"]
RecipeName = Literal[
    "notebook_cnn", "notebook_resnet", "notebook_resnet_slow", "resnet20_he", "resnet18_cifar",
    "resnet18_cutout", "resnet20_short", "resnet18_short",
]  # fmt: skip
AugmentName = Literal["crop", "flip", "cutout"]
RandomName = Literal["torch", "jax"]
PrecisionName = Literal["float32", "tf32", "bf16"]

RUNGS: tuple[RungName, ...] = get_args(RungName)


def _unset(metavar: str) -> Any:
    """For an option that may be left out: the help text says itself what happens then."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="")


def _names(literal: Any) -> str:
    return f"{{{','.join(get_args(literal))}}}"


MaybePath = Annotated[Path | None, _unset("PATH")]
MaybeInt = Annotated[int | None, _unset("INT")]
MaybeFloat = Annotated[float | None, _unset("FLOAT")]


def _switch(given: list[str]) -> bool:
    """The value of an option that alone means true."""
    word = " ".join(given).lower() or "true"
    if word not in ("true", "false"):
        raise ValueError(f"neither true nor false: {word!r}")
    return word == "true"


MaybeBool = Annotated[
    bool | None,
    _unset("[true|false]"),
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=(0, 1),
        metavar="[true|false]",
        instance_from_str=_switch,
        is_instance=lambda value: isinstance(value, bool),
        str_from_instance=lambda value: [str(value).lower()],
    ),
]

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

    pair: Annotated[str | None, _unset("MODULE:FUNCTION")] = None
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

    names: Annotated[tuple[RecipeName, ...], tyro.conf.Positional, _unset("[NAME ...]")] = ()
    """of which ones; by default of all"""


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """Trains a model by a recipe, by default the notebook's."""

    framework: Literal["jax", "torch"] = "jax"
    """what to train it in; JAX needs no PyTorch"""

    recipe: Annotated[RecipeName | None, _unset(_names(RecipeName))] = None
    """what to train and how; `parity recipes` tells them. Every option here replaces its part of
    it. By default the notebook's for the model"""

    model: Annotated[str | None, _unset("STR")] = None
    """what to train: NAME[:OPTION=VALUE]..., as resnet18:stem=cifar or
    simple_cnn:channels=16,32,64:kernel_size=5; `parity list` gives the names. By default the
    recipe's, or simple_cnn"""

    data: DataName = "auto"
    """auto: CIFAR-10 if it is prepared or can be had, else scikit-learn's digits"""

    data_dir: MaybePath = None
    """where prepared data lies; by default $PARITY_DATA_DIR or the user's cache directory"""

    epochs: MaybeInt = None
    """by default the recipe's, the notebook's 5"""

    batch_size: MaybeInt = None
    """by default the recipe's, the notebook's 32 for simple_cnn and 16 for the ResNets"""

    lr: MaybeFloat = None
    """learning rate, by default the recipe's: 0.001 for simple_cnn, 0.01 for the ResNets"""

    optimizer: Annotated[OptimizerName | None, _unset(_names(OptimizerName))] = None
    """by default the recipe's; the others have PyTorch's defaults"""

    momentum: MaybeFloat = None
    """of sgd and rmsprop, by default 0"""

    nesterov: MaybeBool = None
    """Nesterov's momentum, of sgd"""

    weight_decay: MaybeFloat = None
    """as the PyTorch optimizer of that name decays; by default 0, for adamw 0.01"""

    decay_norms: MaybeBool = None
    """False spares what has one axis: biases, and normalisations' scales"""

    schedule: Annotated[ScheduleName | None, _unset(_names(ScheduleName))] = None
    """of the learning rate, step by step: constant, cosine to 0, or steps, multiplied by --gamma at
    each of --milestones"""

    milestones: Annotated[tuple[float, ...] | None, _unset("[FLOAT ...]")] = None
    """epochs after which the rate falls"""

    gamma: MaybeFloat = None
    """what it is multiplied by, by default 0.1"""

    warmup: MaybeFloat = None
    """epochs in which the rate rises evenly to --lr, by default 0"""

    label_smoothing: MaybeFloat = None
    """share of a uniform distribution in the labels, by default 0"""

    clip_norm: MaybeFloat = None
    """largest norm of all gradients together; by default they are not clipped"""

    ema: MaybeFloat = None
    """decay of a moving average of the weights, as 0.999, which is evaluated and kept in their
    place; by default none"""

    accumulate: MaybeInt = None
    """batches whose mean gradient makes one step of the optimizer, by default 1"""

    mirror: MaybeBool = None
    """evaluate by the sum of the logits of each image and its mirror image"""

    validation: MaybeInt = None
    """so many of the training images, the last, are evaluated on after each epoch and not trained
    on; by default none, and the test images are"""

    keep_going: bool = False
    """train on when the loss is infinite or no number, where else the run stops with status 1"""

    seed: int = 0
    """of the initial weights and of the batches: as torch.manual_seed, in both scripts"""

    at_once: Annotated[int, tyro.conf.arg(metavar="K")] = 1
    """trainings from as many seeds, --seed and those after it, in one compiled step, in JAX; that
    of seed N goes to OUT-N, and is what it is on its own"""

    init: Literal["torch", "flax"] = "torch"
    """initial weights, in JAX: PyTorch's or Flax's defaults"""

    augment: Annotated[tuple[AugmentName, ...] | None, _unset("[{crop,flip,cutout} ...]")] = None
    """of the training images, any of: crop out of a padded image, flip left to right, cutout of a
    square; by default the recipe's, the notebook's none; without a name none"""

    padding: MaybeInt = None
    """of the crop: pixels on each side, by default 4"""

    reflect: MaybeBool = None
    """pad by mirroring the image, and not with black"""

    cutout_size: MaybeInt = None
    """pixels of the square's side, by default 16"""

    alternate: MaybeBool = None
    """flip each image in every other epoch, and not as is drawn"""

    random: Annotated[RandomName | None, _unset(_names(RandomName))] = None
    """whose random numbers augment in JAX: PyTorch's, so that both scripts see the same images, or
    JAX's, drawn on the device; by default torch, and jax for the recipes of papers"""

    config: MaybePath = None
    """train as the run that wrote this config.json; every option here replaces its part of it"""

    resume: MaybePath = None
    """go on with the training of this run directory, from its newest checkpoint"""

    checkpoint_every: float = 1.0
    """epochs from one checkpoint to the next; 0 writes none"""

    keep: int = 1
    """checkpoints kept, of the newest; in JAX the one of the best epoch is kept too"""

    tensorboard: bool = False
    """write TensorBoard's events too"""

    out: MaybePath = None
    """run directory; by default runs/MODEL-FRAMEWORK-DATE-TIME"""

    device: Literal["auto", "cpu", "gpu", "tpu"] = "auto"
    """auto: what the framework itself prefers"""

    precision: PrecisionName = "float32"
    """of the arithmetic: float32 in full; tf32 on a GPU; bf16, with weights, statistics, loss and
    optimizer in float32"""

    deterministic: bool = False
    """two runs on one GPU give the same bits, for some speed; on a CPU they always do"""


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

    precision: Annotated[PrecisionName | None, _unset(_names(PrecisionName))] = None
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
