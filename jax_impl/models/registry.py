"""Which models there are, and the options that each takes. Imports no framework."""

import contextlib
import dataclasses
import difflib
from typing import Any

from jax_impl.errors import InputError, shown

MOST = 2**31 - 1
"""No size and no count is larger."""

STEMS = ("imagenet", "cifar")


@dataclasses.dataclass(frozen=True)
class CNNOptions:
    """`simple_cnn`: convolution, ReLU and max-pool for each of `channels`, then two linear layers.

    Convolutions pad by kernel_size // 2. `pool_after` names the convolutions, from 1, that a
    max-pool follows, in place of each: () is none. The linear layers read every pixel of the last
    map, or with `global_average` the mean of each channel, so that their size depends neither on
    the pools nor on the images. `image_size` (one number, or height and width) is fixed.
    """

    num_classes: int = 10
    channels: tuple[int, ...] = (32, 64)
    kernel_size: int = 3
    pool_size: int = 2
    hidden: int = 512
    image_size: tuple[int, int] = (32, 32)
    pool_after: tuple[int, ...] | None = None
    global_average: bool = False


@dataclasses.dataclass(frozen=True)
class ResNetOptions:
    """torchvision's options, the kind of stem, and the width of the stem and the first stage.

    `stem`: "imagenet" is torchvision's 7x7 convolution of stride 2 and max-pool, "cifar" a 3x3
    convolution of stride 1 alone. `width` is the channels of the stem and the first stage, 64 in
    torchvision's.
    """

    num_classes: int = 10
    stem: str = "imagenet"
    width: int = 64
    zero_init_residual: bool = False
    replace_stride_with_dilation: tuple[bool, ...] = (False, False, False)


@dataclasses.dataclass(frozen=True)
class StemOptions:
    """Pre-activation and plain nets: the stem as in `ResNetOptions`."""

    num_classes: int = 10
    stem: str = "imagenet"


@dataclasses.dataclass(frozen=True)
class CifarOptions:
    """He et al.'s nets for 32x32 images, whose stem is always the small one."""

    num_classes: int = 10


Options = CNNOptions | ResNetOptions | StemOptions | CifarOptions


@dataclasses.dataclass(frozen=True)
class Entry:
    """A family's block, blocks in each stage, convolution groups and their width, and options."""

    block: str
    depths: tuple[int, ...]
    options: type[Options]
    groups: int = 1
    width_per_group: int = 64


MODELS: dict[str, Entry] = {
    "simple_cnn": Entry("cnn", (), CNNOptions),
    "resnet18": Entry("basic", (2, 2, 2, 2), ResNetOptions),
    "resnet34": Entry("basic", (3, 4, 6, 3), ResNetOptions),
    "resnet50": Entry("bottleneck", (3, 4, 6, 3), ResNetOptions),
    "resnet101": Entry("bottleneck", (3, 4, 23, 3), ResNetOptions),
    "resnet152": Entry("bottleneck", (3, 8, 36, 3), ResNetOptions),
    "resnext50_32x4d": Entry("bottleneck", (3, 4, 6, 3), ResNetOptions, 32, 4),
    "resnext101_32x8d": Entry("bottleneck", (3, 4, 23, 3), ResNetOptions, 32, 8),
    "resnext101_64x4d": Entry("bottleneck", (3, 4, 23, 3), ResNetOptions, 64, 4),
    "wide_resnet50_2": Entry("bottleneck", (3, 4, 6, 3), ResNetOptions, 1, 128),
    "wide_resnet101_2": Entry("bottleneck", (3, 4, 23, 3), ResNetOptions, 1, 128),
    "resnet20": Entry("option_a", (3, 3, 3), CifarOptions),
    "resnet32": Entry("option_a", (5, 5, 5), CifarOptions),
    "resnet44": Entry("option_a", (7, 7, 7), CifarOptions),
    "resnet56": Entry("option_a", (9, 9, 9), CifarOptions),
    "resnet110": Entry("option_a", (18, 18, 18), CifarOptions),
    "preact_resnet18": Entry("preact_basic", (2, 2, 2, 2), StemOptions),
    "preact_resnet34": Entry("preact_basic", (3, 4, 6, 3), StemOptions),
    "preact_resnet50": Entry("preact_bottleneck", (3, 4, 6, 3), StemOptions),
    "plain20": Entry("plain_cifar", (3, 3, 3), CifarOptions),
    "plain32": Entry("plain_cifar", (5, 5, 5), CifarOptions),
    "plain44": Entry("plain_cifar", (7, 7, 7), CifarOptions),
    "plain56": Entry("plain_cifar", (9, 9, 9), CifarOptions),
    "plain110": Entry("plain_cifar", (18, 18, 18), CifarOptions),
    "plain18": Entry("plain", (2, 2, 2, 2), StemOptions),
    "plain34": Entry("plain", (3, 4, 6, 3), StemOptions),
}


@dataclasses.dataclass(frozen=True)
class Spec:
    """A model with all its options. `str(spec)` names it, with the options that are not defaults.

    Written as NAME[:OPTION=VALUE]..., as in `resnet18:stem=cifar` or `simple_cnn:channels=16,32`.
    """

    name: str
    options: Options

    @property
    def entry(self) -> Entry:
        """The model's entry in `MODELS`."""
        return MODELS[self.name]

    def __str__(self) -> str:
        parts = [self.name]
        for field in dataclasses.fields(self.options):
            value = getattr(self.options, field.name)
            if value != field.default:
                parts.append(f"{field.name}={_text(value)}")
        return ":".join(parts)


def create_spec(name: str, **options: Any) -> Spec:
    """The model `name` with `options`, in place of its defaults.

    Raises:
        InputError: an unknown name or option, or a value that the option does not take.
    """
    if name not in MODELS:
        raise InputError(f"no model named {_shown(name)}: choose one of {', '.join(MODELS)}")
    entry = MODELS[name]
    fields = {field.name: field for field in dataclasses.fields(entry.options)}
    for option in options:
        if option not in fields:
            near = difflib.get_close_matches(option, fields, 1)
            hint = f"; perhaps you meant {near[0]}" if near else ""
            raise InputError(
                f"{name} has no option {_shown(option)}, only {', '.join(fields)}{hint}"
            )
    values = {
        option: _checked(f"{name}: {option}", value, fields[option].default)
        for option, value in options.items()
    }
    made = Spec(name, entry.options(**values))
    _check(made)
    return made


def parse(text: str) -> Spec:
    """The model that NAME[:OPTION=VALUE]... names; several values of one option have commas.

    Raises:
        InputError: as `create_spec`, or text of another form.
    """
    name, *parts = text.split(":")
    options = {}
    for part in parts:
        option, sign, value = part.partition("=")
        if not (sign and option and value):
            raise InputError(
                f"model {_shown(text)}: {_shown(part)} is not of the form OPTION=VALUE"
            )
        if option in options:
            raise InputError(f"model {_shown(text)}: {shown(option)} is given twice")
        options[option] = _value(value)
    return create_spec(name, **options)


def _value(text: str) -> Any:
    """A number, true or false, a word, or with a comma a tuple of them."""
    if "," in text:
        return tuple(_value(part) for part in text.split(",") if part)
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for number in (int, float):
        with contextlib.suppress(ValueError):
            return number(text)
    return text


def _shown(value: Any) -> str:
    """As Python writes it, where that is not too long."""
    return shown(repr(value))


def _text(value: Any) -> str:
    if value == ():
        return "none"
    return ",".join(_text(item) for item in value) if isinstance(value, tuple) else str(value)


def _checked(what: str, value: Any, default: Any) -> Any:
    """`value` in the default's type: a word, a boolean, a whole number above 0, or several.

    Of those that may be none the default is None, and `value` perhaps "all" or "none".
    """
    if default is None:
        if value in (None, "all"):
            return None
        if isinstance(value, str) and value != "none":
            raise InputError(f"{what} is {_shown(value)}: give whole numbers, all or none")
        return () if value in ("none", ()) else _checked(what, value, (1,))
    if isinstance(default, tuple):
        items = tuple(value) if isinstance(value, tuple | list) else (value,)
        if what.endswith("image_size") and len(items) == 1:
            items *= 2
        if not items:
            raise InputError(f"{what} is empty: give at least one value")
        return tuple(_checked(what, item, default[0]) for item in items)
    if isinstance(default, bool):
        if value not in (True, False):
            raise InputError(f"{what} is {_shown(value)}: give true or false")
        return bool(value)
    if isinstance(default, int):
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MOST:
            raise InputError(f"{what} is {_shown(value)}: give a whole number of 1 to {MOST}")
        return value
    if not isinstance(value, str):
        raise InputError(f"{what} is {_shown(value)}: give a word")
    return value


def options_of(name: str) -> list[str]:
    """The options that the model `name` takes."""
    entry = MODELS[name]
    found = [field.name for field in dataclasses.fields(entry.options)]
    return [x for x in found if entry.block != "basic" or x != "replace_stride_with_dilation"]


def _check(spec: Spec) -> None:
    """What a value's type does not tell."""
    options = spec.options
    stem = getattr(options, "stem", STEMS[0])
    if stem not in STEMS:
        raise InputError(f"{spec.name}: stem is {_shown(stem)}: give {' or '.join(STEMS)}")
    if isinstance(options, ResNetOptions):
        dilate = options.replace_stride_with_dilation
        if len(dilate) != 3:
            raise InputError(
                f"{spec.name}: replace_stride_with_dilation has {len(dilate)} values: give 3, one "
                "for each of layer2, layer3 and layer4"
            )
        if any(dilate) and spec.entry.block == "basic":
            raise InputError(
                f"{spec.name}: replace_stride_with_dilation needs bottleneck blocks, as in "
                "torchvision: take resnet50 or a deeper one"
            )
    if isinstance(options, CNNOptions):
        if len(options.image_size) != 2:
            raise InputError(f"{spec.name}: image_size is {options.image_size}: give 1 or 2 values")
        _check_pools(options)
        feature_map(options)


def _check_pools(options: CNNOptions) -> None:
    count = len(options.channels)
    pools = options.pool_after or ()
    if any(a >= b for a, b in zip(pools, [*pools[1:], count + 1], strict=False)):
        raise InputError(
            f"simple_cnn: pool_after is {_text(pools)}: give the numbers of some of the {count} "
            "convolutions, rising, or all or none"
        )


def pooled(options: CNNOptions, number: int) -> bool:
    """Whether a max-pool follows the convolution of that number, from 1."""
    return options.pool_after is None or number in options.pool_after


def feature_map(options: CNNOptions) -> tuple[int, int]:
    """Height and width of the small CNN's last feature map.

    Raises:
        InputError: no pixel is left.
    """
    size = options.image_size
    for index in range(1, len(options.channels) + 1):
        grown = [side + 2 * (options.kernel_size // 2) - options.kernel_size + 1 for side in size]
        step = options.pool_size if pooled(options, index) else 1
        size = grown[0] // step, grown[1] // step
        if min(size) < 1:
            raise InputError(
                f"simple_cnn: no pixel is left of {options.image_size[0]}x{options.image_size[1]} "
                f"images after convolution and pooling {index} of {len(options.channels)} "
                f"(kernel_size {options.kernel_size}, pool_size {options.pool_size}): take fewer "
                "channels, a smaller pool_size or larger images"
            )
    return size
