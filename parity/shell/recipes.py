"""How each model is trained: the notebook's recipes, and others'. Imports no framework."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from jax_impl.data.augmentation import NOTHING, Augmentation
from jax_impl.errors import InputError
from jax_impl.models import registry
from jax_impl.models.registry import MOST
from parity.shell.files import check_new
from parity.shell.options import RecipeName, RunOptions
from parity.shell.train_options import RandomName, ScheduleName

MOST_MINUTES = 527_040
"""Those of a year."""

IMAGE_SIZE = (32, 32)
PROCESSES = 64
"""Of a comparison, at most."""
PADDING, CUTOUT = 4, 16
"""Pixels, as He et al. 2015 crop and DeVries and Taylor 2017 cut out, on CIFAR-10."""
NUM_CLASSES = 10
"""Of CIFAR-10 and of the digits."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a model is trained: the same in both frameworks.

    Args:
        batch_size: images in a step.
        optimizer: of `OPTIMIZERS`.
        lr: the learning rate, or the largest of its schedule.
        epochs: passes over the images.
        momentum: of sgd and rmsprop.
        nesterov: Nesterov's momentum, of sgd.
        weight_decay: as the PyTorch optimizer decays; None is its default.
        decay_norms: also parameters of one axis decay: biases, and normalisations' scales.
        schedule: of the learning rate, step by step.
        milestones: epochs after which the rate falls by `gamma`, of the schedule "steps".
        gamma: as above.
        warmup: epochs in which the rate rises evenly to `lr`.
        label_smoothing: share of a uniform distribution in the labels.
        clip_norm: the largest norm of all gradients together; None is no limit.
        ema: decay of a moving average of the parameters, which is evaluated; None is none.
        accumulate: batches whose mean gradient makes one step of the optimizer.
        mirror: evaluate by the sum of the logits of each image and its mirror image.
        validation: of the training images the last ones, which are evaluated on after each epoch
            in place of the test images, and not trained on.
        augment: of the training images.
        random: whose numbers augment in JAX, PyTorch's or its own.
    """

    batch_size: int
    optimizer: str
    lr: float
    epochs: int = 5
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float | None = None
    decay_norms: bool = True
    schedule: ScheduleName = "constant"
    milestones: tuple[float, ...] = ()
    gamma: float = 0.1
    warmup: float = 0.0
    label_smoothing: float = 0.0
    clip_norm: float | None = None
    ema: float | None = None
    accumulate: int = 1
    mirror: bool = False
    validation: int = 0
    augment: Augmentation = NOTHING
    random: RandomName = "torch"

    def __post_init__(self) -> None:
        # 2 and 2.0 are one number, and two texts in the JSON of which checkpoints have a digest.
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type in (float, float | None) and value is not None:
                object.__setattr__(self, field.name, float(value))
        object.__setattr__(self, "milestones", tuple(map(float, self.milestones)))

    @property
    def optimizer_options(self) -> dict[str, float | bool]:
        """What the optimizer gets beside its rate."""
        given = {
            "momentum": self.momentum or None,
            "nesterov": self.nesterov or None,
            "weight_decay": self.weight_decay,
        }
        return {name: value for name, value in given.items() if value is not None}

    def schedule_options(self, batches: int) -> dict[str, Any]:
        """What both frameworks' schedules are made of, in whole steps; of an epoch's batches.

        Raises:
            InputError: epochs that round to no step, to the same one, or to the training's end.
        """
        each = batches / self.accumulate
        steps, warmup = self.epochs * batches // self.accumulate, round(self.warmup * each)
        milestones = [round(epoch * each) for epoch in self.milestones]
        if not steps:
            raise InputError(
                f"--accumulate {self.accumulate}: the training has {self.epochs * batches} "
                "batches; give fewer"
            )
        if self.warmup and not 0 < warmup < steps:
            raise InputError(
                f"--warmup {self.warmup:g}: that is {warmup} of {steps} steps; give 1 or more, and "
                "fewer than all"
            )
        reached = [
            step
            for step, epoch in zip(milestones, self.milestones, strict=True)
            if epoch < self.epochs
        ]
        bounds = [warmup, *reached, steps]
        if not all(a < b for a, b in zip(bounds, bounds[1:], strict=False)):
            given = " ".join(f"{epoch:g}" for epoch in self.milestones)
            raise InputError(
                f"--milestones {given}: that is after steps {' '.join(map(str, milestones))} of "
                f"{steps}; give steps that rise, after the warm-up and before the end"
            )
        return {
            "schedule": self.schedule,
            "steps": steps,
            "warmup": warmup,
            "milestones": milestones,
            "gamma": self.gamma,
        }

    def in_words(self) -> str:
        """One line, in the command's own options."""
        words = [f"--epochs {self.epochs}", f"--batch-size {self.batch_size}"]
        words += [f"--optimizer {self.optimizer}", f"--lr {self.lr:g}"]
        for field in dataclasses.fields(self):
            value, option = getattr(self, field.name), f"--{field.name.replace('_', '-')}"
            if field.name in ("epochs", "augment") or value == field.default:
                continue
            if field.default is not dataclasses.MISSING:
                many = value if isinstance(value, tuple) else (value,)
                words.append(f"{option} {' '.join(map(_in_words, many))}")
        return " ".join([*words, *_augmentation_in_words(self.augment)])


def _in_words(value: Any) -> str:
    whole = isinstance(value, float) and value.is_integer() and abs(value) < 1e6
    return str(int(value) if whole else value)


def _augmentation_in_words(augment: Augmentation) -> Iterator[str]:
    if augment:
        yield f"--augment {' '.join(augment.names)}"
    if augment.crop not in (0, PADDING):
        yield f"--padding {augment.crop}"
    if augment.cutout not in (0, CUTOUT):
        yield f"--cutout-size {augment.cutout}"
    yield from (f"--{name} True" for name in ("reflect", "alternate") if getattr(augment, name))


@dataclasses.dataclass(frozen=True)
class Named:
    """A recipe with its model, and what is known of it.

    Args:
        model: as the option has it.
        recipe: of the training.
        source: whose it is, and what was reported of it there.
        accuracy: what to expect on CIFAR-10's test images, with an interval of 95 %.
        cost: of a training in JAX, on two cores of a server's CPU and on a GPU.
    """

    model: str
    recipe: Recipe
    source: str
    accuracy: str
    cost: str


_SGD = Recipe(
    128,
    "sgd",
    0.1,
    momentum=0.9,
    schedule="steps",
    augment=Augmentation(crop=4, flip=True),
    random="jax",
)
_WIDE = dataclasses.replace(
    _SGD, epochs=200, nesterov=True, weight_decay=5e-4, milestones=(60, 120, 160), gamma=0.2
)
_SHORT = Recipe(
    128,
    "sgd",
    0.2,
    epochs=15,
    momentum=0.9,
    nesterov=True,
    weight_decay=5e-4,
    schedule="cosine",
    warmup=2,
    augment=Augmentation(crop=4, flip=True, alternate=True),
    random="jax",
)
NOT_RUN = "not run to its end here"
RECIPES: dict[RecipeName, Named] = {
    "notebook_cnn": Named(
        "simple_cnn",
        Recipe(32, "adam", 1e-3),
        "the notebook's small CNN: 74.22 % there",
        "here 72.3 to 72.9 % by three seeds in either framework, 72.7 % in the mean",
        "a minute on two cores, 10 seconds on an H100",
    ),
    "notebook_resnet": Named(
        "resnet18",
        Recipe(16, "adam", 1e-2),
        "the notebook's ResNet-18, whose first epoch alone it ran: a loss of 1.727",
        "here 72.0 % in JAX and 72.7 % in PyTorch, a run each: 71.1 to 73.5 %",
        "5 minutes on two cores, 50 seconds on an H100",
    ),
    "notebook_resnet_slow": Named(
        "resnet18",
        Recipe(16, "adam", 1e-3),
        "the same with the learning rate of the notebook's cell that is commented out",
        NOT_RUN,
        "as notebook_resnet",
    ),
    "resnet20_he": Named(
        "resnet20",
        dataclasses.replace(_SGD, epochs=164, weight_decay=1e-4, milestones=(82, 123)),
        "He et al. 2015, https://arxiv.org/abs/1512.03385, section 4.2: 91.25 % there",
        NOT_RUN,
        "11 times that of resnet20_short",
    ),
    "resnet18_cifar": Named(
        "resnet18:stem=cifar",
        _WIDE,
        "DeVries and Taylor 2017, https://arxiv.org/abs/1708.04552, without cutout: 95.28 % there",
        NOT_RUN,
        "25 hours on two cores; not timed on a GPU",
    ),
    "resnet18_cutout": Named(
        "resnet18:stem=cifar",
        dataclasses.replace(_WIDE, augment=Augmentation(crop=4, flip=True, cutout=16)),
        "the same with cutout: 96.01 % there",
        NOT_RUN,
        "as resnet18_cifar",
    ),
    "resnet20_short": Named(
        "resnet20",
        _SHORT,
        "this project's, for two cores",
        "here 88.99 % in one run: 88.4 to 89.6 %; 89.85 % by it with --mirror",
        "an hour on two cores that had other work too; not timed on a GPU",
    ),
    "resnet18_short": Named(
        "resnet18:stem=cifar",
        dataclasses.replace(_SHORT, epochs=30, label_smoothing=0.1),
        "this project's, for a GPU: made for 94 %",
        NOT_RUN,
        "4 hours on two cores; not timed on a GPU",
    ),
}


def chosen_model(text: str) -> registry.Spec:
    """The model that NAME[:OPTION=VALUE]... names, for images and classes of this project's data.

    Raises:
        InputError: no such model, or one for other images or classes.
    """
    spec = registry.parse(text)
    for name, needed in (("image_size", IMAGE_SIZE), ("num_classes", NUM_CLASSES)):
        value = getattr(spec.options, name, needed)
        if value != needed:
            raise InputError(f"model {text!r}: {name} must be {needed} for this data, not {value}")
    return spec


def recipe(model: str) -> Recipe:
    """The notebook's recipe: that of its small CNN, or that of its ResNet-18 for every ResNet."""
    return RECIPES["notebook_cnn" if model == "simple_cnn" else "notebook_resnet"].recipe


def check_seed(seed: int) -> None:
    """Raises InputError for what `torch.manual_seed` does not take."""
    if not -(2**63) <= seed < 2**64:
        raise InputError(f"--seed is {seed}: PyTorch takes -2^63 to 2^64 - 1")


def check_validation(validation: int, images: int) -> None:
    """Raises InputError if so many images to validate on leave none of all to train on."""
    if validation >= images:
        raise InputError(f"--validation {validation}: there are {images} training images in all")


def one_image(images: int, batch_size: int) -> InputError:
    """What is wrong with batches of which one is a single image, for a net with BatchNorm."""
    last = "each batch" if batch_size == 1 else f"the last of {images} images' batches"
    return InputError(
        f"--batch-size {batch_size}: {last} is one image, which batch normalisation cannot be "
        "trained on: give another"
    )


def small_share(size: int, parts: int, what: str) -> InputError:
    """What is wrong with a batch that is divided for statistics of each device or process."""
    return InputError(
        f"--batch-norm local: a batch of {size} is too small for statistics of each of {parts} "
        f"{what}: give another --batch-size, or --batch-norm global"
    )


def check_run(options: RunOptions) -> None:
    """Whether a comparison can be made as asked, as far as no framework is needed to tell.

    Raises:
        InputError: it cannot.
    """
    if not (options.models and options.rungs):
        raise InputError("--models and --rungs need at least one name each")
    if not 0 < options.budget <= MOST_MINUTES:
        raise InputError(
            f"--budget is {options.budget}: give minutes above 0, {MOST_MINUTES} at most"
        )
    if not 0 <= options.seed < 2**32:
        raise InputError(f"--seed is {options.seed}: give 0 to 2^32 - 1")
    if not 1 <= options.steps <= MOST:
        raise InputError(f"--steps is {options.steps}: give 1 to {MOST}")
    if not 1 <= options.processes <= PROCESSES:
        raise InputError(f"--processes is {options.processes}: give 1 to {PROCESSES}")
    if options.processes > 1 and options.pair is not None:
        raise InputError("--processes: of a --pair nobody knows how to divide it; leave it out")
    for text in options.models:
        chosen_model(text)
    if options.pair is not None and not all(options.pair.partition(":")):
        raise InputError(f"--pair {options.pair!r} is not of the form MODULE:FUNCTION")
    if options.out is not None:
        check_new(options.out)
