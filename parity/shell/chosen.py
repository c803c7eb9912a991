"""The training that `parity train`'s options ask for. Imports no framework."""

import dataclasses
import importlib.util
import math
import os
from typing import Any

from jax_impl.data.augmentation import Augmentation
from jax_impl.data.pipeline import MOST_WORKERS
from jax_impl.errors import InputError, shown
from jax_impl.models.registry import MOST, Spec
from jax_impl.training.mesh_axes import axes_of
from parity.shell.earlier import Earlier, devices_of, read_earlier
from parity.shell.recipes import (
    CUTOUT,
    IMAGE_SIZE,
    PADDING,
    RECIPES,
    Named,
    Recipe,
    check_seed,
    chosen_model,
    recipe,
)
from parity.shell.train_options import TrainOptions

LEAST, LARGEST = 1e-35, 1e35
"""Of what multiplies: float32 has no more than 3.4e38, and Adam's first steps take a thousand
times the rate."""

AT_ONCE = 1000
"""Trainings, at most, that one compiled step does."""
OF_THE_OPTIMIZER = {"momentum": ("sgd", "rmsprop"), "nesterov": ("sgd",)}
"""Whose these are; weight decay is everyone's."""


def chosen_training(options: TrainOptions) -> tuple[Spec, Recipe]:
    """The model, and its recipe with what the options say in place of its own.

    Raises:
        InputError: what cannot be trained, or an option that would not be honoured.
    """
    _check_checkpoints(options)
    _check_at_once(options)
    _check_mesh(options)
    _check_loader(options)
    named = _named(options)
    spec = chosen_model(options.model or (named.model if named else "simple_cnn"))
    base = named.recipe if named else recipe(spec.name)
    names = {field.name for field in dataclasses.fields(Recipe)} - {"augment"}
    given = {name: getattr(options, name) for name in names}
    given = {name: value for name, value in given.items() if value is not None}
    if given.get("optimizer", base.optimizer) != base.optimizer:
        # What the recipe says of its optimizer is not another one's.
        base = dataclasses.replace(base, momentum=0.0, nesterov=False, weight_decay=None)
    if given.get("schedule", "steps") != "steps":
        base = dataclasses.replace(base, milestones=(), gamma=0.1)
    if options.framework == "torch":
        base = dataclasses.replace(base, random="torch")
    chosen = dataclasses.replace(base, **given, augment=_augmentation(options, base.augment))
    _check_counts(chosen)
    check_seed(options.seed)
    if options.framework == "torch" and options.init != "torch":
        raise InputError(f"--init {options.init}: PyTorch draws its own weights; leave it out")
    _check_optimizer(chosen, given)
    _check_schedule(chosen, given)
    return spec, chosen


def _named(options: TrainOptions) -> Named | Earlier | None:
    """What has a model and a recipe of its own, of a name or of an earlier run's."""
    sources = {name: getattr(options, name) for name in ("recipe", "config", "resume")}
    several = [f"--{name}" for name, value in sources.items() if value is not None]
    if len(several) > 1:
        raise InputError(f"{' and '.join(several)} both say what to train: give one")
    if options.recipe is not None:
        return RECIPES[options.recipe]
    path = options.config or options.resume
    return read_earlier(path) if path else None


def _check_checkpoints(options: TrainOptions) -> None:
    _within("checkpoint-every", options.checkpoint_every, 0, MOST, "epochs, 0 for none")
    if not 1 <= options.keep <= MOST:
        raise InputError(f"--keep is {options.keep}: give 1 to {MOST}")
    if options.resume is not None and options.out is not None:
        raise InputError("--out: a training that is gone on with has its place; leave it out")
    if options.tensorboard and not importlib.util.find_spec("tensorboardX"):
        raise InputError(
            "--tensorboard needs tensorboardX: pip install 'jax-torch-parity[tensorboard]'"
        )


def _check_at_once(options: TrainOptions) -> None:
    if not 1 <= options.at_once <= AT_ONCE:
        raise InputError(f"--at-once is {options.at_once}: give 1 to {AT_ONCE}")
    if options.at_once == 1:
        return
    if options.framework == "torch":
        raise InputError("--at-once: only JAX trains several at once; leave it out")
    if options.resume is not None:
        raise InputError("--at-once: a training is gone on with on its own; leave it out")
    if options.out is not None and options.out.name in ("", ".."):
        raise InputError(f"--out {options.out}: each training adds its seed to it; give a name")
    check_seed(options.seed + options.at_once - 1)


def _check_mesh(options: TrainOptions) -> None:
    if options.framework == "jax" and "TORCHELASTIC_RUN_ID" in os.environ:
        raise InputError(
            "torchrun starts processes of PyTorch: give --framework torch, or leave it out"
        )
    _check_hosts(options)
    if options.mesh is None:
        alone = devices_of(options) == 1 and options.coordinator is None
        if options.batch_norm != "global" and alone:
            raise InputError(
                f"--batch-norm {options.batch_norm}: it goes with --mesh, or with torchrun"
            )
        return
    if options.framework == "torch":
        raise InputError("--mesh: only JAX trains on one; PyTorch's processes are torchrun's")
    if options.at_once > 1:
        raise InputError("--at-once: on a --mesh trainings go one at a time; leave one of them out")
    try:
        axes_of(options.mesh)
    except InputError as error:
        raise InputError(f"--mesh: {error}") from error


def _check_loader(options: TrainOptions) -> None:
    if not 0 <= options.workers <= MOST_WORKERS:
        raise InputError(f"--workers is {options.workers}: give 0 to {MOST_WORKERS}")
    if options.loader == "device":
        if options.workers:
            raise InputError("--workers: it goes with --loader grain")
        return
    if options.framework == "torch":
        raise InputError("--loader grain: PyTorch has a loader of its own; leave it out")
    if options.at_once > 1:
        raise InputError("--at-once: with --loader grain trainings go one at a time")
    if not importlib.util.find_spec("grain"):
        raise InputError("--loader grain needs Grain: pip install 'jax-torch-parity[grain]'")


def _check_hosts(options: TrainOptions) -> None:
    where, count, rank = options.coordinator, options.num_processes, options.process_id
    if where is None or where == "auto":
        given = [n for n, v in (("num-processes", count), ("process-id", rank)) if v is not None]
        if given:
            raise InputError(f"--{given[0]}: it goes with --coordinator HOST:PORT")
    if where is None:
        return
    if options.framework == "torch":
        raise InputError("--coordinator: PyTorch's processes are torchrun's; leave it out")
    if options.at_once > 1:
        raise InputError("--at-once: on many hosts trainings go one at a time; leave it out")
    if where == "auto":
        return
    host, _, port = where.rpartition(":")
    if not (host and port.isascii() and port.isdecimal() and 0 < int(port[:6]) < 2**16):
        raise InputError(f"--coordinator {shown(where)}: give HOST:PORT, or auto")
    if count is None or not 1 <= count <= MOST:
        raise InputError("--coordinator HOST:PORT: give --num-processes, 1 or more")
    if rank is None or not 0 <= rank < count:
        raise InputError(f"--coordinator HOST:PORT: give --process-id, 0 to {count - 1}")


def _check_counts(chosen: Recipe) -> None:
    least = {"epochs": 1, "batch_size": 1, "accumulate": 1, "validation": 0}
    for name, low in least.items():
        if not low <= (value := getattr(chosen, name)) <= MOST:
            option = name.replace("_", "-")
            raise InputError(f"--{option} is {shown(str(value), 40)}: give {low} to {MOST}")


def _within(option: str, value: float | None, least: float, below: float, what: str) -> None:
    if value is not None and not least <= value < below:
        raise InputError(f"--{option} is {value}: give {what}")


def _positive(option: str, value: float | None) -> None:
    _within(option, value, LEAST, LARGEST, f"a number above 0, of {LEAST:g} to {LARGEST:g}")


def _check_optimizer(chosen: Recipe, given: dict[str, Any]) -> None:
    for name, owners in OF_THE_OPTIMIZER.items():
        if name in given and chosen.optimizer not in owners:
            raise InputError(f"--{name}: {chosen.optimizer} has none; leave it out")
    _positive("lr", chosen.lr)
    _positive("clip-norm", chosen.clip_norm)
    _positive("weight-decay", chosen.weight_decay or None)
    _within("momentum", chosen.momentum, 0, 1, "a number of 0 or more, below 1")
    _within("ema", chosen.ema, 0, 1, "a decay of 0 or more, below 1")
    _within("label-smoothing", chosen.label_smoothing, 0, 1, "a number of 0 or more, below 1")
    if chosen.nesterov and not chosen.momentum:
        raise InputError("--nesterov: it needs a --momentum above 0")
    decays = chosen.weight_decay or (chosen.weight_decay is None and chosen.optimizer == "adamw")
    if given.get("decay_norms") is False and not decays:
        raise InputError("--decay-norms False: nothing decays; give a --weight-decay too")


def _check_schedule(chosen: Recipe, given: dict[str, Any]) -> None:
    _within("warmup", chosen.warmup, 0, chosen.epochs, f"epochs, below the {chosen.epochs} of all")
    _positive("gamma", chosen.gamma)
    for name in ("milestones", "gamma"):
        if name in given and chosen.schedule != "steps":
            raise InputError(f"--{name}: it goes with --schedule steps, which is not given")
    if chosen.schedule != "steps":
        return
    if not chosen.milestones:
        raise InputError("--schedule steps: give its --milestones, in epochs")
    listed = " ".join(f"{epoch:g}" for epoch in chosen.milestones)
    if "milestones" not in given and chosen.warmup >= chosen.milestones[0]:
        raise InputError(
            f"--warmup is {chosen.warmup:g}: the recipe's rate falls after epochs {listed}; give "
            "less than the first"
        )
    bounds = chosen.warmup, *chosen.milestones
    if not all(a < b < math.inf for a, b in zip(bounds, bounds[1:], strict=False)):
        raise InputError(f"--milestones {listed}: give rising epochs, after the warm-up")
    if "milestones" in given and chosen.milestones[-1] >= chosen.epochs:
        end = f"the training's end at {chosen.epochs}"
        raise InputError(f"--milestones {listed}: give epochs before {end}")


def _augmentation(options: TrainOptions, base: Augmentation) -> Augmentation:
    names = base.names if options.augment is None else options.augment
    given = (
        ("padding", "crop", options.padding),
        ("reflect", "crop", options.reflect),
        ("cutout-size", "cutout", options.cutout_size),
        ("alternate", "flip", options.alternate),
    )
    for option, name, value in given:
        if value is not None and name not in names:
            raise InputError(f"--{option}: it goes with --augment {name}, which is not given")
    if options.random is not None and not names:
        raise InputError(f"--random {options.random}: it goes with --augment, which is not given")
    if options.random == "jax" and options.framework == "torch":
        raise InputError("--random jax: PyTorch draws its own numbers; leave it out")
    side = IMAGE_SIZE[0]
    crop = (base.crop or PADDING) if options.padding is None else options.padding
    cutout = (base.cutout or CUTOUT) if options.cutout_size is None else options.cutout_size
    _within("padding", crop, 1, side, f"1 to {side - 1} pixels")
    _within("cutout-size", cutout, 1, 2 * side + 1, f"1 to {2 * side} pixels")
    alternate = base.alternate if options.alternate is None else options.alternate
    return Augmentation(
        crop=crop if "crop" in names else 0,
        reflect=base.reflect if options.reflect is None else options.reflect,
        flip="flip" in names,
        cutout=cutout if "cutout" in names else 0,
        alternate="flip" in names and alternate,
    )
