"""The options of `parity train`. Imports no framework."""

import dataclasses
from typing import Annotated, Literal

import tyro

from jax_impl.training.optimizer_names import OptimizerName
from parity.shell.options import (
    DataName,
    MaybeFloat,
    MaybeInt,
    MaybePath,
    PrecisionName,
    RecipeName,
    names_of,
    unset,
)

ScheduleName = Literal["constant", "cosine", "steps"]
AugmentName = Literal["crop", "flip", "cutout"]
RandomName = Literal["torch", "jax"]


def _switch(given: list[str]) -> bool:
    """The value of an option that alone means true."""
    word = " ".join(given).lower() or "true"
    if word not in ("true", "false"):
        raise ValueError(f"neither true nor false: {word!r}")
    return word == "true"


MaybeBool = Annotated[
    bool | None,
    unset("[true|false]"),
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=(0, 1),
        metavar="[true|false]",
        instance_from_str=_switch,
        is_instance=lambda value: isinstance(value, bool),
        str_from_instance=lambda value: [str(value).lower()],
    ),
]


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """Trains a model by a recipe, by default the notebook's."""

    framework: Literal["jax", "torch"] = "jax"
    """what to train it in; JAX needs no PyTorch"""

    recipe: Annotated[RecipeName | None, unset(names_of(RecipeName))] = None
    """what to train and how; `parity recipes` tells them. Every option here replaces its part of
    it. By default the notebook's for the model"""

    model: Annotated[str | None, unset("STR")] = None
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

    optimizer: Annotated[OptimizerName | None, unset(names_of(OptimizerName))] = None
    """by default the recipe's; the others have PyTorch's defaults"""

    momentum: MaybeFloat = None
    """of sgd and rmsprop, by default 0"""

    nesterov: MaybeBool = None
    """Nesterov's momentum, of sgd"""

    weight_decay: MaybeFloat = None
    """as the PyTorch optimizer of that name decays; by default 0, for adamw 0.01"""

    decay_norms: MaybeBool = None
    """False spares what has one axis: biases, and normalisations' scales"""

    schedule: Annotated[ScheduleName | None, unset(names_of(ScheduleName))] = None
    """of the learning rate, step by step: constant, cosine to 0, or steps, multiplied by --gamma at
    each of --milestones"""

    milestones: Annotated[tuple[float, ...] | None, unset("[FLOAT ...]")] = None
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

    augment: Annotated[tuple[AugmentName, ...] | None, unset("[{crop,flip,cutout} ...]")] = None
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

    random: Annotated[RandomName | None, unset(names_of(RandomName))] = None
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

    mesh: Annotated[str | None, unset("AXIS=N[,AXIS=N]")] = None
    """train on many devices, in JAX: data=8 shares each batch out among eight; data=4,model=2 too,
    and each pair of them halves the large weights. What is computed is the same. By default one, on
    many hosts all of them"""

    loader: Literal["device", "grain"] = "device"
    """where the training images are, in JAX: all on the device, or read by Grain while others are
    trained on, for data that memory does not hold. What is computed is the same"""

    workers: int = 0
    """processes that read and decode, with --loader grain; 0: threads of this one"""

    coordinator: Annotated[str | None, unset("HOST:PORT|auto")] = None
    """train on many hosts, in JAX: one process on each, with the same options. HOST:PORT is where
    the first one listens; auto asks Slurm, Open MPI, Kubernetes or the TPU pod for everything"""

    num_processes: MaybeInt = None
    """processes in all, with HOST:PORT"""

    process_id: MaybeInt = None
    """which of them this one is, from 0, with HOST:PORT"""

    batch_norm: Literal["global", "local"] = "global"
    """on many devices, or by torchrun's processes: statistics of the whole batch, as PyTorch's
    SyncBatchNorm, or local ones, of each one's share of it, as DistributedDataParallel without"""

    precision: PrecisionName = "float32"
    """of the arithmetic: float32 in full; tf32 on a GPU; bf16, with weights, statistics, loss and
    optimizer in float32"""

    deterministic: bool = False
    """two runs on one GPU give the same bits, for some speed; on a CPU they always do"""
