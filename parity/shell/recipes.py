"""How the notebook trains each model. Imports no framework."""

import dataclasses
import math

from jax_impl.errors import InputError, shown
from jax_impl.models import registry
from jax_impl.models.registry import MOST
from parity.shell.files import check_new
from parity.shell.options import RunOptions, TrainOptions

MOST_MINUTES = 527_040
"""Those of a year."""

IMAGE_SIZE = (32, 32)
NUM_CLASSES = 10
"""Of CIFAR-10 and of the digits."""

PADDING, CUTOUT = 4, 16
"""Pixels, as He et al. 2015 crop and DeVries and Taylor 2017 cut out, on CIFAR-10."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Batch size, optimizer with its learning rate, and epochs."""

    batch_size: int
    optimizer: str
    lr: float
    epochs: int = 5


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
    if model == "simple_cnn":
        return Recipe(batch_size=32, optimizer="adam", lr=1e-3)
    return Recipe(batch_size=16, optimizer="adam", lr=1e-2)


def chosen_recipe(options: TrainOptions) -> Recipe:
    """The recipe of `options.model`, with what the options say in place of its own.

    Raises:
        InputError: a number that cannot be trained with.
    """
    names = [field.name for field in dataclasses.fields(Recipe)]
    given = {name: getattr(options, name) for name in names}
    given = {name: value for name, value in given.items() if value is not None}
    chosen = dataclasses.replace(recipe(chosen_model(options.model).name), **given)
    for name in ("epochs", "batch_size"):
        if not 1 <= (value := getattr(chosen, name)) <= MOST:
            option = name.replace("_", "-")
            raise InputError(f"--{option} is {shown(str(value), 40)}: give 1 to {MOST}")
    check_seed(options.seed)
    if options.framework == "torch" and options.init != "torch":
        raise InputError(f"--init {options.init}: PyTorch draws its own weights; leave it out")
    if not 0 < chosen.lr < math.inf:
        raise InputError(f"--lr is {chosen.lr}: give a number above 0")
    return chosen


@dataclasses.dataclass(frozen=True)
class Augment:
    """What is done to the training images: `jax_impl.training.augment.Augmentation`'s fields."""

    crop: int
    reflect: bool
    flip: bool
    cutout: int


def chosen_augment(options: TrainOptions) -> Augment | None:
    """What the options say of augmentation; None if nothing.

    Raises:
        InputError: a size that does not fit the images, or an option of what is not asked for.
    """
    side = IMAGE_SIZE[0]
    given = (
        ("--padding", "crop", options.padding, 1, side - 1),
        ("--cutout-size", "cutout", options.cutout_size, 2, 2 * side),
        ("--reflect", "crop", options.reflect or None, False, True),
        ("--random jax", "", None if options.random == "torch" else 1, 1, 1),
    )
    for option, name, value, least, most in given:
        if value is None:
            continue
        if not options.augment or (name and name not in options.augment):
            raise InputError(
                f"{option}: it goes with --augment{name and f' {name}'}, which is not given"
            )
        if not least <= value <= most:
            raise InputError(f"{option} is {value}: give {least} to {most} pixels")
    if options.random == "jax" and options.framework == "torch":
        raise InputError("--random jax: PyTorch draws its own numbers; leave it out")
    if not options.augment:
        return None
    return Augment(
        crop=(options.padding or PADDING) if "crop" in options.augment else 0,
        reflect=options.reflect,
        flip="flip" in options.augment,
        cutout=(options.cutout_size or CUTOUT) if "cutout" in options.augment else 0,
    )


def check_seed(seed: int) -> None:
    """Raises InputError for what `torch.manual_seed` does not take."""
    if not -(2**63) <= seed < 2**64:
        raise InputError(f"--seed is {seed}: PyTorch takes -2^63 to 2^64 - 1")


def one_image(images: int, batch_size: int) -> InputError:
    """What is wrong with batches of which one is a single image, for a net with BatchNorm."""
    last = "each batch" if batch_size == 1 else f"the last of {images} images' batches"
    return InputError(
        f"--batch-size {batch_size}: {last} is one image, which batch normalisation cannot be "
        "trained on: give another"
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
    for text in options.models:
        chosen_model(text)
    if options.pair is not None and not all(options.pair.partition(":")):
        raise InputError(f"--pair {options.pair!r} is not of the form MODULE:FUNCTION")
    if options.out is not None:
        check_new(options.out)
