"""What each module of a model gives, holds, computes and sees, from its options alone.

Imports no framework and allocates no weights, so that it answers at once for any image size. That
the nets here are those of the modules that compute is tested over the whole registry.

A module's receptive field is the pixels of the image, on each axis, that one pixel of its output
depends on, the padding around the image included. By Araujo, Norris and Sim, "Computing Receptive
Fields of Convolutional Neural Networks" (Distill 2019, https://doi.org/10.23915/distill.00021), a
layer of kernel k, stride s, padding p and dilation d makes of a stride j (their "jump") and a field
from a to b, counted from pixel i j for the output's pixel i:

    a' = a - p j,    b' = b + (d (k - 1) - p) j,    j' = s j

Its size is b - a + 1. Of branches that are added the field is the hull: the least a, the largest b.
In every net of the registry one branch's field holds the other's, and the hull is the larger one.
"""

import dataclasses
import math
from collections.abc import Callable

from jax_impl.errors import InputError
from jax_impl.models import registry

MOST_PIXELS = 16_384
"""Of an image's side."""


@dataclasses.dataclass(frozen=True)
class Module:
    """One module, or a pooling, which has no weights.

    Args:
        path: of the module in the model, in Flax and in PyTorch, with dots.
        kind: "conv KxK", "norm", "linear", "max KxK", "mean", or of those that hold others "stage",
            "block" and "shortcut".
        shape: of the output for one image: (h, w, c), or (c,).
        parameters: numbers that are trained.
        statistics: numbers of running means and variances.
        flops: of one image's forward pass, of convolutions and linear layers, without their biases:
            a multiplication and an addition are two.
        field: pixels of the image that a pixel of the output depends on, on the two axes; nominal,
            and so perhaps more than the image has. Once all pixels are read together, by a global
            average or a linear layer: of the image's own pixels those that they depend on.
        stride: pixels of the image from one pixel of the output to the next; None without axes.
        holds: whether it holds others that are listed, whose numbers are within its own.
    """

    path: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    statistics: int
    flops: int
    field: tuple[int, int]
    stride: int | None
    holds: bool = False


@dataclasses.dataclass(frozen=True)
class Summary:
    """All modules of a model, in the order in which they compute; one that holds others precedes.

    Args:
        model: with its options.
        image_size: height and width.
        modules: for one image.
    """

    model: registry.Spec
    image_size: tuple[int, int]
    modules: tuple[Module, ...]

    def _total(self, value: Callable[[Module], int]) -> int:
        return sum(value(module) for module in self.modules if not module.holds)

    @property
    def parameters(self) -> int:
        """Numbers that are trained."""
        return self._total(lambda module: module.parameters)

    @property
    def statistics(self) -> int:
        """Numbers of running means and variances."""
        return self._total(lambda module: module.statistics)

    @property
    def flops(self) -> int:
        """Of one image's forward pass, as in `Module`."""
        return self._total(lambda module: module.flops)

    @property
    def activations(self) -> int:
        """Numbers in the outputs of one image, of all modules that hold no others."""
        return self._total(lambda module: math.prod(module.shape))


@dataclasses.dataclass(frozen=True)
class _Map:
    """A feature map, and the field of its pixels: from `first` to `last`, every `stride`."""

    h: int
    w: int
    c: int
    first: int = 0
    last: int = 0
    stride: int = 1

    def joined(self, other: "_Map") -> "_Map":
        """The sum of two branches."""
        return dataclasses.replace(
            self, first=min(self.first, other.first), last=max(self.last, other.last)
        )

    def seen(self, pixels: int, image: int) -> int:
        """How many of an axis' pixels so many pixels of the map depend on together."""
        last = min(image - 1, (pixels - 1) * self.stride + self.last)
        return last - max(0, self.first) + 1


class _Net:
    """Lists the modules of a net while it is walked through."""

    def __init__(self, image_size: tuple[int, int]):
        self.image_size = image_size
        self.modules: list[Module] = []

    def conv(
        self, path: str, x: _Map, out: int, size: int, *,
        stride: int = 1, padding: int | None = None, dilation: int = 1, groups: int = 1,
        bias: bool = False,
    ) -> _Map:  # fmt: skip
        """A convolution; by default its padding keeps the size."""
        padding = dilation * (size // 2) if padding is None else padding
        y = _moved(x, size, stride, padding, dilation)
        y = dataclasses.replace(y, c=out)
        weights = size * size * (x.c // groups) * out
        self._add(path, f"conv {size}x{size}", y, weights + bias * out, 2 * weights * y.h * y.w)
        return y

    def max_pool(self, path: str, x: _Map, size: int, stride: int, padding: int = 0) -> _Map:
        y = _moved(x, size, stride, padding)
        self._add(path, f"max {size}x{size}", y)
        return y

    def norm(self, path: str, x: _Map) -> _Map:
        self._add(path, "norm", x, 2 * x.c, statistics=2 * x.c)
        return x

    def mean(self, path: str, x: _Map) -> tuple[int, tuple[int, int]]:
        """The global average: its features, and the field of each."""
        field = self.whole(x)
        self.modules.append(Module(path, "mean", (x.c,), 0, 0, 0, field, None))
        return x.c, field

    def whole(self, x: _Map) -> tuple[int, int]:
        """The image's pixels that all of a map depends on."""
        return x.seen(x.h, self.image_size[0]), x.seen(x.w, self.image_size[1])

    def linear(self, path: str, inputs: int, out: int, field: tuple[int, int]) -> None:
        count, flops = (inputs + 1) * out, 2 * inputs * out
        made = Module(path, "linear", (out,), count, 0, flops, field, None)
        self.modules.append(made)

    def holding(self, path: str, kind: str, x: _Map, walk: Callable[[_Map], _Map]) -> _Map:
        """A module that holds those which `walk` lists, before them."""
        at = len(self.modules)
        y = walk(x)
        within = [module for module in self.modules[at:] if not module.holds]
        self._add(path, kind, y)
        made = dataclasses.replace(
            self.modules.pop(),
            parameters=sum(module.parameters for module in within),
            statistics=sum(module.statistics for module in within),
            flops=sum(module.flops for module in within),
            holds=True,
        )
        self.modules.insert(at, made)
        return y

    def _add(
        self, path: str, kind: str, y: _Map, parameters: int = 0, flops: int = 0,
        statistics: int = 0,
    ) -> None:  # fmt: skip
        size = y.last - y.first + 1
        shape, field = (y.h, y.w, y.c), (size, size)
        self.modules.append(
            Module(path, kind, shape, parameters, statistics, flops, field, y.stride)
        )


def summary(spec: registry.Spec, image_size: tuple[int, int] | None = None) -> Summary:
    """All modules of a model.

    Args:
        spec: the model.
        image_size: height and width of the images, in pixels; by default `simple_cnn`'s own, else
            32 x 32.

    Raises:
        InputError: sizes out of bounds, images that `simple_cnn` was not made for.
    """
    own = getattr(spec.options, "image_size", None)
    size = image_size or own or (32, 32)
    if not all(1 <= side <= MOST_PIXELS for side in size):
        raise InputError(f"images of {_sides(size)} pixels: give sides of 1 to {MOST_PIXELS}")
    if own is not None and size != own:
        raise InputError(f"{spec} is made for images of {_sides(own)}, not {_sides(size)}")
    net, image = _Net(size), _Map(size[0], size[1], 3)
    match spec.entry.block:
        case "cnn":
            _simple_cnn(net, image, spec.options)
        case "option_a" | "plain_cifar":
            _cifar_resnet(net, image, spec)
        case _:
            _resnet(net, image, spec)
    return Summary(spec, size, tuple(net.modules))


def _simple_cnn(net: _Net, x: _Map, options: registry.Options) -> None:
    assert isinstance(options, registry.CNNOptions)
    size = options.kernel_size
    for number, channels in enumerate(options.channels, 1):
        x = net.conv(f"conv{number}", x, channels, size, padding=size // 2, bias=True)
        if registry.pooled(options, number):
            x = net.max_pool(f"pool{number}", x, options.pool_size, options.pool_size)
    features, field = x.h * x.w * x.c, net.whole(x)
    if options.global_average:
        features, field = net.mean("avgpool", x)
    net.linear("fc1", features, options.hidden, field)
    net.linear("fc2", options.hidden, options.num_classes, field)


def _cifar_resnet(net: _Net, x: _Map, spec: registry.Spec) -> None:
    def block(path: str, x: _Map, planes: int, stride: int) -> _Map:
        y = net.norm(f"{path}.bn1", net.conv(f"{path}.conv1", x, planes, 3, stride=stride))
        y = net.norm(f"{path}.bn2", net.conv(f"{path}.conv2", y, planes, 3))
        if spec.entry.block == "plain_cifar":
            return y
        return y.joined(x)  # option A's shortcut takes pixels as they are, every second one

    x = net.norm("bn1", net.conv("conv1", x, 16, 3))
    x = _stages(net, x, spec, 16, block)
    features, field = net.mean("avgpool", x)
    net.linear("fc", features, spec.options.num_classes, field)


def _resnet(net: _Net, x: _Map, spec: registry.Spec) -> None:
    """torchvision's, the plain and the pre-activation nets."""
    entry, options = spec.entry, spec.options
    first = getattr(options, "width", 64)
    pooled = getattr(options, "stem", "imagenet") == "imagenet"
    before = entry.block.startswith("preact")
    dilate = getattr(options, "replace_stride_with_dilation", (False,) * 3)
    dilations = {first: 1}
    for stage, dilated in enumerate(dilate, 1):
        dilations[first * 2**stage] = dilations[first * 2 ** (stage - 1)] * (1 + dilated)

    def block(path: str, x: _Map, planes: int, stride: int) -> _Map:
        deep = entry.block.endswith("bottleneck")
        width = int(planes * entry.width_per_group / 64) * entry.groups if deep else planes
        dilation = dilations[planes]
        if stride == 2 and dilation != dilations[planes // 2]:
            stride, dilation = 1, dilations[planes // 2]  # the stage's other blocks are dilated
        middle = {"stride": stride, "dilation": dilation, "groups": entry.groups}
        layers = (
            [(width, 1, {}), (width, 3, middle), (4 * planes, 1, {})]
            if deep
            else [(planes, 3, {"stride": stride}), (planes, 3, {})]
        )
        y = x
        for number, (out, size, given) in enumerate(layers, 1):
            if before and (path, number) != ("layer1.0", 1):  # that reads the stem's activation
                y = net.norm(f"{path}.bn{number}", y)
            y = net.conv(f"{path}.conv{number}", y, out, size, **given)
            if not before:
                y = net.norm(f"{path}.bn{number}", y)
        if entry.block == "plain":
            return y
        return y.joined(_shortcut(net, f"{path}.downsample", x, y.c, stride, before))

    x = net.conv("conv1", x, first, 7 if pooled else 3, stride=2 if pooled else 1)
    x = net.norm("bn1", x)
    if pooled:
        x = net.max_pool("maxpool", x, 3, 2, 1)
    x = _stages(net, x, spec, first, block)
    if before:
        x = net.norm("bn2", x)
    features, field = net.mean("avgpool", x)
    net.linear("fc", features, options.num_classes, field)


def _shortcut(net: _Net, path: str, x: _Map, out: int, stride: int, before: bool) -> _Map:
    """A 1x1 convolution where the shape changes, and behind it, but for pre-activation, a norm."""
    if stride == 1 and x.c == out:
        return x
    if before:
        return net.conv(path, x, out, 1, stride=stride)
    return net.holding(
        path,
        "shortcut",
        x,
        lambda x: net.norm(f"{path}.1", net.conv(f"{path}.0", x, out, 1, stride=stride)),
    )


def _stages(
    net: _Net,
    x: _Map,
    spec: registry.Spec,
    first: int,
    block: Callable[[str, _Map, int, int], _Map],
) -> _Map:
    """Each of twice the channels of the one before, and from the second on of half its pixels."""

    def walk(stage: int, depth: int, x: _Map) -> _Map:
        planes = first * 2**stage
        for index in range(depth):
            stride = 2 if stage > 0 and index == 0 else 1
            path = f"layer{stage + 1}.{index}"
            x = net.holding(path, "block", x, lambda x, p=path, s=stride: block(p, x, planes, s))
        return x

    for stage, depth in enumerate(spec.entry.depths):
        path = f"layer{stage + 1}"
        x = net.holding(path, "stage", x, lambda x, s=stage, d=depth: walk(s, d, x))
    return x


def _moved(x: _Map, size: int, stride: int, padding: int, dilation: int = 1) -> _Map:
    """The map and the field after a kernel of a `size` at every `stride`."""
    reach = dilation * (size - 1)
    return _Map(
        (x.h + 2 * padding - reach - 1) // stride + 1,
        (x.w + 2 * padding - reach - 1) // stride + 1,
        x.c,
        x.first - padding * x.stride,
        x.last + (reach - padding) * x.stride,
        x.stride * stride,
    )


def _sides(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
