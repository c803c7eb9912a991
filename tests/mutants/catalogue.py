"""The planted bugs."""

# pyright: reportArgumentType=false, reportIndexIssue=false

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from jax_impl import data, layers, lowering, optim, train
from jax_impl.models import Variables, cifar_resnet, resnet, simple_cnn
from mutants import pairs
from mutants.runner import Mutant, Patch
from parity.pair import CROSS_ENTROPY, Batch, Loss, Optimizer, Pair, model_step, named_optimizer
from parity.rungs import loss

MUTANTS: list[Mutant] = []

basic = pairs.residual
bottleneck = partial(pairs.residual, "bottleneck")
grouped = partial(pairs.residual, "bottleneck", 2)
dilated = partial(pairs.residual, "bottleneck", 1, True)
small_stem = pairs.small_stem


def mutant(
    group: str, make: Callable[[], Pair], rung: str, module: str, cause: str, **options: Any
) -> Callable[[Patch], Patch]:
    """Adds a patch to the catalogue."""

    def add(patch: Patch) -> Patch:
        name = patch.__name__.replace("_", " ")
        MUTANTS.append(Mutant(name, group, make, rung, module, cause, patch, **options))
        return patch

    return add


def when(condition: Callable[[Any], bool], changed: Callable, cls: type, patch: Any) -> None:
    """Calls `changed(self, original, *args)` in the place of the modules that meet a condition."""
    original = cls.__call__

    def call(self, *args):
        return changed(self, original, *args) if condition(self) else original(self, *args)

    patch.setattr(cls, "__call__", call)


def always(_: Any) -> bool:
    return True


def conv_kernel(patch: Any, change: Callable, condition: Callable[[Any], bool] = always) -> None:
    """Changes the kernel (HWIO) that a convolution multiplies by."""
    convolve = lowering.conv2d

    def changed(images, kernel, *rest):
        return convolve(images, change(kernel) if condition(kernel) else kernel, *rest)

    patch.setattr(lowering, "conv2d", changed)


# ------------------------------------------------------------------------------- convolutions


def conv_padding(patch: Any, border: Callable, condition: Callable) -> None:
    """Pads images by `border(images, kernel, stride, padding)` where the condition holds."""
    convolve = lowering.conv2d

    def changed(images, kernel, stride=1, padding=0, dilation=1, groups=1):
        if condition(kernel, stride, padding):
            images, padding = border(images, kernel, stride, padding), 0
        return convolve(images, kernel, stride, padding, dilation, groups)

    patch.setattr(lowering, "conv2d", changed)


def same(images, kernel, stride, padding):
    del padding
    borders = [(0, 0)]
    for size, taps in zip(images.shape[1:3], kernel.shape[:2], strict=True):
        total = max((-(-size // stride) - 1) * stride + taps - size, 0)
        borders.append((total // 2, total - total // 2))
    return jnp.pad(images, [*borders, (0, 0)])


@mutant("convolution", basic, "forward", "conv1", "'SAME'")
def same_padding_in_the_stem(patch, make):
    conv_padding(patch, same, lambda k, s, p: k.shape[0] == 7)
    return make()


@mutant("convolution", basic, "forward", "layer2.0.conv1", "'SAME'")
def same_padding_where_the_stride_is_2(patch, make):
    conv_padding(patch, same, lambda k, s, p: k.shape[0] == 3 and s == 2)
    return make()


@mutant("convolution", pairs.cnn, "forward", "conv1", "reflect")
def reflect_padding(patch, make):
    def border(images, kernel, stride, padding):
        return jnp.pad(images, [(0, 0), (padding,) * 2, (padding,) * 2, (0, 0)], mode="reflect")

    conv_padding(patch, border, lambda k, s, p: p > 0)
    return make()


@mutant("convolution", pairs.cnn, "forward", "conv1", "flipped")
def a_true_convolution(patch, make):
    conv_kernel(patch, lambda k: k[::-1, ::-1])
    return make()


@mutant("convolution", pairs.cnn, "forward", "conv1", "height and width are swapped")
def kernel_in_the_order_w_h(patch, make):
    conv_kernel(patch, lambda k: k.transpose(1, 0, 2, 3))
    return make()


@mutant("convolution", basic, "forward", "layer1.0.conv1", "input and output channels")
def kernel_in_the_order_h_w_o_i(patch, make):
    conv_kernel(patch, lambda k: k.transpose(0, 1, 3, 2), lambda k: k.shape[2] == k.shape[3])
    return make()


@mutant("convolution", pairs.cnn, "forward", "conv1", "the bias is missing")
def convolution_without_its_bias(patch, make):
    when(
        always,
        lambda self, call, x: call(self, x) - self.bias[...],
        layers.Conv2d,
        patch,
    )
    return make()


@mutant("convolution", bottleneck, "forward", "layer2.0.conv1", "the stride is 2")
def bottleneck_stride_on_the_1x1(patch, make):
    create = resnet.Bottleneck.__init__

    def swapped(self, inplanes, planes, width, stride, *rest):
        create(self, inplanes, planes, width, stride, *rest)
        self.conv1.stride, self.conv2.stride = self.conv2.stride, self.conv1.stride

    patch.setattr(resnet.Bottleneck, "__init__", swapped)
    return make()


@mutant("convolution", dilated, "forward", "layer4.0.conv2", "dilation is ignored")
def dilation_ignored(patch, make):
    convolve = lowering.conv2d

    def plain(images, kernel, stride=1, padding=0, dilation=1, groups=1):
        padding = kernel.shape[0] // 2 if dilation > 1 else padding
        return convolve(images, kernel, stride, padding, 1, groups)

    patch.setattr(lowering, "conv2d", plain)
    return make()


@mutant("convolution", grouped, "forward", "layer1.0.conv2", "interleaved")
def groups_interleaved(patch, make):
    convolve = lowering.conv2d

    def mixed(images, kernel, stride=1, padding=0, dilation=1, groups=1):
        if groups > 1:
            shape = images.shape
            images = images.reshape(*shape[:3], groups, -1).swapaxes(3, 4).reshape(shape)
        return convolve(images, kernel, stride, padding, dilation, groups)

    patch.setattr(lowering, "conv2d", mixed)
    return make()


# ------------------------------------------------------------------------------ linear layers


@mutant("linear", pairs.cnn, "forward", "fc1", "flattened h, w, c")
def flattened_h_w_c(patch, make):
    """The weights are converted as if nothing had been flattened."""
    create = layers.Linear.__init__

    def plain(self, *args, flattened=None, rng):
        del flattened
        create(self, *args, flattened=None, rng=rng)

    patch.setattr(layers.Linear, "__init__", plain)
    return make()


@mutant("linear", pairs.cnn, "forward", "fc1", "the bias is missing")
def linear_without_its_bias(patch, make):
    when(
        always,
        lambda self, call, x: x @ self.kernel[...],
        layers.Linear,
        patch,
    )
    return make()


@mutant("linear", pairs.mlp, "forward", "fc1", "the bias is missing")
def bias_added_to_nothing(patch, make):
    pair = make()

    def apply(variables, x):
        return pair.jax_apply({**variables, "fc1.bias": 0 * variables["fc1.bias"]}, x)

    return dataclasses.replace(pair, jax_apply=apply)


@mutant("linear", pairs.mlp, "forward", "fc1", "the weight is transposed")
def square_weight_left_as_it_is(patch, make):
    pair = make()

    def to_flax(state):
        return pair.to_flax({**state, "fc1.weight": state["fc1.weight"].T})

    return dataclasses.replace(pair, to_flax=to_flax)


# ------------------------------------------------------------------------ activations, pooling


def activation(patch: Any, function: Callable) -> None:
    patch.setattr(simple_cnn.jax.nn, "relu", function)


@mutant("activation", pairs.cnn, "forward", "conv2", "relu is missing")
def no_relu(patch, make):
    activation(patch, lambda x: x)
    return make()


@mutant("activation", pairs.cnn, "forward", "conv2", "leaky")
def leaky_relu(patch, make):
    activation(patch, jax.nn.leaky_relu)
    return make()


@mutant("activation", pairs.cnn, "forward", "conv2", "silu")
def silu(patch, make):
    activation(patch, jax.nn.silu)
    return make()


@mutant("activation", pairs.mlp, "forward", "act", "gelu by tanh")
def gelu_by_tanh(patch, make):
    return pairs.mlp(approximate=True)


@mutant("activation", pairs.mlp, "forward", "drop", "dropout is left on")
def dropout_in_eval_mode(patch, make):
    return pairs.mlp(drop=True)


@mutant("pooling", pairs.cnn, "forward", "conv2", "average pooling")
def average_pooling(patch, make):
    def pool(images, window, stride, padding=0):
        del padding
        total = lax.reduce_window(
            images, jnp.zeros((), images.dtype), lax.add,
            (1, window, window, 1), (1, stride, stride, 1), "VALID",
        )  # fmt: skip
        return total / window**2

    patch.setattr(lowering, "max_pool2d", pool)
    return make()


def blocky_13(pair: Pair) -> list[Batch]:
    rng = np.random.default_rng(1)
    return [
        Batch(rng.integers(0, 256, (8, 13, 13, 3), np.uint8), rng.integers(0, 10, 8))
        for _ in range(3)
    ]


@mutant("pooling", partial(pairs.cnn, 13), "forward", "conv2", "ceil mode is on", batches=blocky_13)
def ceil_mode(patch, make):
    pool = lowering.max_pool2d

    def ceiled(images, window, stride, padding=0):
        if images.shape[1] % 2 and images.shape[1] > 7:
            images = jnp.pad(images, ((0, 0), (0, 1), (0, 1), (0, 0)), constant_values=-jnp.inf)
        return pool(images, window, stride, padding)

    patch.setattr(lowering, "max_pool2d", ceiled)
    return make()


@mutant("pooling", basic, "forward", "layer1.0.conv1", "the window is 2")
def smaller_window(patch, make):
    pool = lowering.max_pool2d

    def smaller(images, window, stride, padding=0):
        del window, padding
        return pool(images, 2, stride, 0)

    patch.setattr(lowering, "max_pool2d", smaller)
    return make()


@mutant("pooling", basic, "forward", "layer1.0.conv1", "'SAME'")
def same_pooling(patch, make):
    pool = lowering.max_pool2d

    def after(images, window, stride, padding=0):
        del padding
        padded = jnp.pad(images, ((0, 0), (0, 1), (0, 1), (0, 0)), constant_values=-jnp.inf)
        return pool(padded, window, stride, 0)

    patch.setattr(lowering, "max_pool2d", after)
    return make()


def global_pool(patch: Any, change: Callable) -> None:
    """Changes the average before the last layer."""

    def call(self, x, train):
        x = jax.nn.relu(self.bn1(self.conv1(x), train))
        x = lowering.max_pool2d(x, 3, 2, 1)
        for stage in ("layer1", "layer2", "layer3", "layer4"):
            x = getattr(self, stage)(x, train)
        return self.fc(change(x))

    patch.setattr(resnet.ResNet, "__call__", call)


def larger(pair: Pair) -> list[Batch]:
    """Images whose last map has more than one pixel."""
    rng = np.random.default_rng(1)
    return [
        Batch(rng.integers(0, 256, (4, 64, 64, 3), np.uint8), rng.integers(0, 10, 4))
        for _ in range(3)
    ]


@mutant("pooling", basic, "forward", "fc", "maximum in the place of", batches=larger)
def global_maximum(patch, make):
    global_pool(patch, lambda x: x.max((1, 2)))
    return make()


@mutant("pooling", basic, "forward", "fc", "the sum in the place of", batches=larger)
def global_sum(patch, make):
    global_pool(patch, lambda x: x.sum((1, 2)))
    return make()


# ------------------------------------------------------------------------------ normalisation


def norm(patch: Any, **changes: Any) -> None:
    """Batch normalisation written out, with one thing changed."""
    patch.setattr(layers.BatchNorm2d, "__call__", partial_norm(**changes))


def partial_norm(
    *,
    eps: float | None = None,
    momentum: float | None = None,
    frozen: bool = False,
    in_eval: bool = False,
    scale: bool = True,
    bias: bool = True,
    outside: bool = False,
    ddof: int = 0,
    biased: bool = False,
    keep_mean: bool = False,
    keep_var: bool = False,
    stop: bool = False,
    relu_first: bool = False,
) -> Callable:
    def call(self, x, train):
        x = jax.nn.relu(x) if relu_first else x
        mean, var = self.mean[...], self.var[...]
        if train or in_eval:
            count = x.size // x.shape[-1]
            batch_mean = x.mean((0, 1, 2))
            batch_var = jnp.square(x - batch_mean).mean((0, 1, 2))
            if train:
                m = self.momentum if momentum is None else momentum
                kept = batch_var if biased else batch_var * (count / (count - 1))
                if not keep_mean:
                    self.mean[...] = (1 - m) * mean + m * batch_mean
                if not keep_var:
                    self.var[...] = (1 - m) * var + m * kept
                self.num_batches_tracked[...] = self.num_batches_tracked[...] + 1
            if not frozen:
                mean, var = batch_mean, batch_var * (count / (count - ddof))
            if stop:
                mean, var = lax.stop_gradient((mean, var))
        e = self.eps if eps is None else eps
        root = jnp.sqrt(var) + e if outside else jnp.sqrt(var + e)
        out = (x - mean) / root
        out = out * self.scale[...] if scale else out
        return out + self.bias[...] if bias else out

    return call


NORMS: list[tuple[str, dict[str, Any], str, str, str]] = [
    ("eps 1e-3", {"eps": 1e-3}, "forward", "bn1", "eps is 0.001"),
    ("frozen statistics", {"frozen": True}, "forward", "bn1", "running statistics in training"),
    ("batch statistics in eval mode", {"in_eval": True}, "forward", "bn1", "in eval mode"),
    ("no scale", {"scale": False}, "forward", "bn1", "the scale is missing"),
    ("no bias", {"bias": False}, "forward", "bn1", "the bias is missing"),
    ("eps outside the root", {"outside": True}, "forward", "bn1", "eps is added to the deviation"),
    ("unbiased variance of the batch", {"ddof": 1}, "forward", "bn1", "unbiased variance"),
    ("relu before the norm", {"relu_first": True}, "forward", "bn1", "ReLU comes before"),
    ("biased running variance", {"biased": True}, "batch_stats", "bn1", "biased one"),
    ("momentum of Flax", {"momentum": 0.01}, "batch_stats", "bn1", "momentum would be 0.01"),
    ("momentum the other way", {"momentum": 0.9}, "batch_stats", "bn1", "momentum would be 0.9"),
    ("running mean not kept", {"keep_mean": True}, "batch_stats", "bn1", "running mean is not"),
    ("running variance not kept", {"keep_var": True}, "batch_stats", "bn1", "variance is not"),
    (
        "statistics without gradient",
        {"stop": True},
        "gradients",
        "layer4.0.downsample.0",
        "batch's",
    ),
]
for _name, _changes, _rung, _module, _cause in NORMS:

    def _patch(patch, make, changes=_changes):
        norm(patch, **changes)
        return make()

    _group = "batch normalisation"
    MUTANTS.append(Mutant(_name, _group, small_stem, _rung, _module, _cause, _patch))


@mutant("layer normalisation", pairs.mlp, "forward", "norm", "eps is 1e-06")
def layer_norm_eps(patch, make):
    return pairs.mlp(eps=1e-6)


@mutant("layer normalisation", pairs.mlp, "forward", "norm", "unbiased")
def layer_norm_unbiased(patch, make):
    return pairs.mlp(ddof=1)


@mutant("layer normalisation", pairs.mlp, "forward", "norm", "mean is not subtracted")
def rms_norm(patch, make):
    return pairs.mlp(rms=True)


# ----------------------------------------------------------------------------- residual blocks


def block(patch: Any, call: Callable) -> None:
    patch.setattr(resnet.BasicBlock, "__call__", call)


@mutant("residual block", basic, "forward", "layer1.0", "shortcut is missing")
def no_shortcut(patch, make):
    def call(self, x, train):
        if self.downsample is not None:
            self.downsample(x, train)
        x = jax.nn.relu(self.bn1(self.conv1(x), train))
        return jax.nn.relu(self.bn2(self.conv2(x), train))

    block(patch, call)
    return make()


@mutant("residual block", basic, "forward", "layer1.0", "ReLU comes before the addition")
def relu_before_the_addition(patch, make):
    def call(self, x, train):
        shortcut = x if self.downsample is None else self.downsample(x, train)
        x = jax.nn.relu(self.bn1(self.conv1(x), train))
        return jax.nn.relu(self.bn2(self.conv2(x), train)) + shortcut

    block(patch, call)
    return make()


@mutant("residual block", basic, "forward", "layer1.0", "relu is missing")
def no_relu_after_the_addition(patch, make):
    def call(self, x, train):
        shortcut = x if self.downsample is None else self.downsample(x, train)
        x = jax.nn.relu(self.bn1(self.conv1(x), train))
        return self.bn2(self.conv2(x), train) + shortcut

    block(patch, call)
    return make()


@mutant("residual block", basic, "forward", "layer1.0.conv2", "relu is missing")
def no_relu_within_the_block(patch, make):
    def call(self, x, train):
        shortcut = x if self.downsample is None else self.downsample(x, train)
        x = self.bn1(self.conv1(x), train)
        return jax.nn.relu(self.bn2(self.conv2(x), train) + shortcut)

    block(patch, call)
    return make()


@mutant("residual block", basic, "forward", "layer2.0.downsample.1", "normalisation is missing")
def projection_without_norm(patch, make):
    when(
        lambda self: getattr(self, "silent", False),
        lambda self, original, x, train: x,
        layers.BatchNorm2d,
        patch,
    )
    create = layers.Sequential.__init__

    def silenced(self, *modules):
        create(self, *modules)
        if len(modules) == 2 and isinstance(modules[0], layers.Conv2d):
            modules[1].silent = True

    patch.setattr(layers.Sequential, "__init__", silenced)
    return make()


@mutant("residual block", pairs.option_a, "forward", "layer2.0", "comes after")
def option_a_zeros_after(patch, make):
    pad = jnp.pad

    def after(x, border, *args, **kwargs):
        border = [tuple(pair) for pair in border] if not isinstance(border, int) else border
        if len(border) == 4 and border[3] != (0, 0):
            border = [*border[:3], (0, sum(border[3]))]
        return pad(x, border, *args, **kwargs)

    patch.setattr(cifar_resnet.jnp, "pad", after)
    return make()


# ---------------------------------------------------------------------------------------- data


def inputs(change: Callable) -> Callable:
    def changed(make):
        pair = make()
        return dataclasses.replace(
            pair, jax_inputs=lambda x, dtype: change(data.normalize(x, dtype))
        )

    return changed


def data_mutant(cause: str):
    return mutant("data", pairs.cnn, "data", "the inputs", cause)


@data_mutant("blue, green, red")
def channels_reversed(patch, make):
    return inputs(lambda x: x[..., ::-1])(make)


@data_mutant("not normalised")
def only_divided_by_255(patch, make):
    return inputs(lambda x: (x + 1) / 2)(make)


@data_mutant("ImageNet")
def normalised_by_imagenet(patch, make):
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    return inputs(lambda x: ((x + 1) / 2 - mean) / std)(make)


@data_mutant("256")
def divided_by_256(patch, make):
    return inputs(lambda x: ((x + 1) / 2 * 255 / 256 - 0.5) / 0.5)(make)


@data_mutant("height and width")
def height_and_width_swapped(patch, make):
    return inputs(lambda x: x.transpose(0, 2, 1, 3))(make)


@data_mutant("reshape")
def reshaped_in_the_place_of_transposed(patch, make):
    def change(x):
        n, h, w, c = x.shape
        return x.transpose(0, 3, 1, 2).reshape(n, h, w, c)

    return inputs(change)(make)


@data_mutant("normalised twice")
def normalised_twice(patch, make):
    return inputs(lambda x: (x - 0.5) / 0.5)(make)


@data_mutant("another order")
def images_in_another_order(patch, make):
    return inputs(lambda x: x[::-1])(make)


# ------------------------------------------------------------------------------ initial weights


def with_init(make: Callable[[], Pair], change: Callable) -> Pair:
    """Changes each parameter (path, value, rng) that `init` draws."""
    pair = make()
    assert pair.init is not None
    init = pair.init

    def changed(seed: int) -> Variables:
        rng, variables = np.random.default_rng(seed), init(seed)
        params = jax.tree_util.tree_map_with_path(
            lambda keys, v: jnp.asarray(change("/".join(k.key for k in keys), v, rng), jnp.float32),
            variables.params,
        )
        return Variables(params, variables.batch_stats)

    return dataclasses.replace(pair, init=changed)


@mutant("init", pairs.cnn, "init", "conv1", "LeCun's truncated normal")
def flax_default_init(patch, make):
    def change(path, v, rng):
        if v.ndim < 2:
            return v
        fan_in = int(np.prod(v.shape[:-1]))
        draw = rng.normal(size=4 * v.size)
        draw = draw[np.abs(draw) < 2][: v.size].reshape(v.shape)
        return draw / np.sqrt(fan_in) / 0.87962566103423978

    return with_init(make, change)


@mutant("init", pairs.cnn, "init", "conv1", "0 everywhere")
def zero_biases(patch, make):
    return with_init(make, lambda path, v, rng: 0 * v if path.endswith("bias") else v)


@mutant("init", basic, "init", "conv1", "He's normal of fan_in")
def he_normal_of_fan_in(patch, make):
    def change(path, v, rng):
        return rng.normal(size=v.shape) * np.sqrt(2 / np.prod(v.shape[:3])) if v.ndim == 4 else v

    return with_init(make, change)


@mutant("init", pairs.cnn, "init", "conv1", "Glorot's uniform")
def glorot_uniform(patch, make):
    def change(path, v, rng):
        if v.ndim < 2:
            return v
        taps = np.prod(v.shape[:-2]) if v.ndim == 4 else 1
        bound = np.sqrt(6 / (taps * (v.shape[-1] + v.shape[-2])))
        return rng.uniform(-bound, bound, v.shape)

    return with_init(make, change)


@mutant("init", basic, "init", "layer1.0.bn2", "0 everywhere")
def zero_init_residual_by_default(patch, make):
    return with_init(make, lambda path, v, rng: 0 * v if path.endswith("bn2/scale") else v)


# ---------------------------------------------------------------------------------------- loss


def with_loss(make: Callable[[], Pair], function: Callable) -> Pair:
    pair = make()
    return dataclasses.replace(pair, loss=Loss(CROSS_ENTROPY.torch, function))


def entropy(x, y):
    return train.cross_entropy(x, y)


@mutant("loss", pairs.cnn, "loss", "the loss", "summed")
def summed_loss(patch, make):
    return with_loss(make, lambda x, y: entropy(x, y).sum())


@mutant("loss", pairs.cnn, "loss", "the loss", "overflows")
def unstable_softmax(patch, make):
    def loss(x, y):
        p = jnp.exp(x) / jnp.exp(x).sum(-1, keepdims=True)
        return -jnp.log(jnp.take_along_axis(p, y[:, None], 1)).mean()

    return with_loss(make, loss)


@mutant("loss", pairs.cnn, "loss", "the loss", "softmax is applied twice")
def softmax_twice(patch, make):
    return with_loss(make, lambda x, y: entropy(jax.nn.softmax(x), y).mean())


@mutant("loss", pairs.cnn, "loss", "the loss", "averaged over the classes")
def averaged_over_classes(patch, make):
    return with_loss(make, lambda x, y: entropy(x, y).mean() / x.shape[1])


@mutant("loss", pairs.cnn, "loss", "the loss", "smoothed by 0.1")
def smoothed_by_default(patch, make):
    return with_loss(make, lambda x, y: train.cross_entropy(x, y, label_smoothing=0.1).mean())


@mutant("loss", pairs.cnn, "loss", "the loss", "other classes alone")
def smoothing_over_the_other_classes(patch, make):
    def smoothed(logits, labels, label_smoothing=0.0):
        k = logits.shape[1]
        hot = jax.nn.one_hot(labels, k, dtype=logits.dtype)
        target = hot * (1 - label_smoothing) + (1 - hot) * label_smoothing / (k - 1)
        return -(target * jax.nn.log_softmax(logits)).sum(-1)

    variants = dict(loss.VARIANTS)
    name = "mean with label smoothing 0.1"
    variants[name] = (lambda x, y: smoothed(x, y, 0.1).mean(), variants[name][1])
    patch.setattr(loss, "VARIANTS", variants)
    return make()


# ----------------------------------------------------------------------------------- gradients


@mutant("gradients", basic, "gradients", "layer4.0.downsample.1", "shortcut")
def no_gradient_through_the_shortcut(patch, make):
    def call(self, x, train):
        shortcut = x if self.downsample is None else self.downsample(x, train)
        x = jax.nn.relu(self.bn1(self.conv1(x), train))
        return jax.nn.relu(self.bn2(self.conv2(x), train) + lax.stop_gradient(shortcut))

    block(patch, call)
    return make()


@mutant("gradients", pairs.cnn, "gradients", "conv1", "no gradient reaches conv1.bias")
def frozen_bias(patch, make):
    when(
        lambda self: self.kernel[...].shape[2] == 3,
        lambda self, call, x: call(self, x) - self.bias[...] + lax.stop_gradient(self.bias[...]),
        layers.Conv2d,
        patch,
    )
    return make()


@mutant("gradients", pairs.cnn, "gradients", "the inputs", "equal maxima share")
def shared_ties(patch, make):
    def pool(images, window, stride, padding=0):
        del padding, stride
        n, h, w, c = images.shape
        return images.reshape(n, h // window, window, w // window, window, c).max((2, 4))

    patch.setattr(lowering, "max_pool2d", pool)
    return make()


@mutant("gradients", pairs.cnn, "gradients", "fc1", "ReLU unchanged")
def straight_through_relu(patch, make):
    activation(patch, lambda x: x + lax.stop_gradient(jnp.maximum(x, 0) - x))
    return make()


# ----------------------------------------------------------------------------------- optimizer


def with_optimizer(make: Callable[[], Pair], name: str, transform: Any, **options: Any) -> Pair:
    """`transform` in the place of the exact Optax transformation of PyTorch's optimizer."""
    pair = make()
    exact = named_optimizer(name, 0.01, **options)
    return dataclasses.replace(pair, optimizer=Optimizer(exact.torch, transform))


def chain(*parts: optax.GradientTransformation) -> optax.GradientTransformation:
    return optax.chain(*parts, optax.scale(-0.01))


def optimizer_mutant(cause: str):
    return mutant("optimizer", pairs.cnn, "optimizer", "the optimizer", cause)


@optimizer_mutant("inside the root")
def adam_eps_inside_the_root(patch, make):
    return with_optimizer(make, "adam", chain(optax.scale_by_adam(eps=0.0, eps_root=1e-8)))


@optimizer_mutant("bias correction")
def adam_without_bias_correction(patch, make):
    def update(grads, state, params=None):
        del params
        mu = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, state[0], grads)
        nu = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, state[1], grads)
        return jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + 1e-8), mu, nu), (mu, nu)

    raw = optax.GradientTransformation(
        lambda p: (jax.tree.map(jnp.zeros_like, p), jax.tree.map(jnp.zeros_like, p)), update
    )
    return with_optimizer(make, "adam", chain(raw))


@optimizer_mutant("beta")
def adam_with_other_betas(patch, make):
    return with_optimizer(make, "adam", optim.adam(0.01, betas=(0.9, 0.99)))


@optimizer_mutant("eps")
def adam_with_another_eps(patch, make):
    return with_optimizer(make, "adam", optim.adam(0.01, eps=1e-6))


@optimizer_mutant("coupled")
def adamw_with_coupled_decay(patch, make):
    transform = optim.adam(0.01, weight_decay=0.1)
    return with_optimizer(make, "adamw", transform, weight_decay=0.1)


@optimizer_mutant("decoupled")
def adam_with_decoupled_decay(patch, make):
    transform = optim.adamw(0.01, weight_decay=0.1)
    return with_optimizer(make, "adam", transform, weight_decay=0.1)


@optimizer_mutant("Nesterov")
def nesterov_forgotten(patch, make):
    return with_optimizer(make, "sgd", optim.sgd(0.01, momentum=0.9), momentum=0.9, nesterov=True)


@optimizer_mutant("average")
def momentum_as_an_average(patch, make):
    transform = chain(optax.ema(0.9, debias=False))
    return with_optimizer(make, "sgd", transform, momentum=0.9)


@optimizer_mutant("weight decay")
def weight_decay_forgotten(patch, make):
    return with_optimizer(
        make, "sgd", optim.sgd(0.01, momentum=0.9), momentum=0.9, weight_decay=0.1
    )


@optimizer_mutant("learning rate")
def learning_rate_10_times(patch, make):
    return with_optimizer(make, "adam", optim.adam(0.1))


@optimizer_mutant("inside the root")
def rmsprop_eps_inside_the_root(patch, make):
    transform = chain(optax.scale_by_rms(decay=0.99, eps=1e-8, eps_in_sqrt=True))
    return with_optimizer(make, "rmsprop", transform)


# -------------------------------------------------------------------------------- training loop


def with_step(make: Callable[[], Pair], wrap: Callable) -> Pair:
    """`wrap(start, step, variables)` -> the same three functions with a fault."""
    pair = make()
    own = pair.jax_step
    assert own is not None
    return dataclasses.replace(pair, jax_step=lambda optimizer: wrap(optimizer, *own(optimizer)))


def loop_mutant(make: Callable[[], Pair], cause: str):
    return mutant("training loop", make, "trajectory", "the training step", cause)


@loop_mutant(pairs.cnn, "made anew")
def optimizer_state_made_anew(patch, make):
    def wrap(optimizer, start, step, variables):
        def faulty(state, images, labels):
            fresh = optimizer.init(state.params)
            return step(dataclasses.replace(state, opt_state=fresh), images, labels)

        return start, faulty, variables

    return with_step(make, wrap)


@loop_mutant(small_stem, "not carried on")
def statistics_not_carried_on(patch, make):
    def wrap(optimizer, start, step, variables):
        def faulty(state, images, labels):
            before = jax.tree.map(jnp.array, state.batch_stats)
            state, loss = step(state, images, labels)
            return dataclasses.replace(state, batch_stats=before), loss

        return start, faulty, variables

    return with_step(make, wrap)


@loop_mutant(pairs.cnn, "taken twice")
def step_taken_twice(patch, make):
    """The same gradients are applied twice."""

    def wrap(optimizer, start, step, variables):
        def twice(grads, state, params=None):
            first, state = optimizer.update(grads, state, params)
            moved = optax.apply_updates(params, first)
            second, state = optimizer.update(grads, state, moved)
            return jax.tree.map(jnp.add, first, second), state

        doubled = optax.GradientTransformation(optimizer.init, twice)
        return model_step(make().model, doubled)

    return with_step(make, wrap)


@loop_mutant(pairs.cnn, "last example")
def last_example_left_out(patch, make):
    def wrap(optimizer, start, step, variables):
        return start, lambda state, x, y: step(state, x[:-1], y[:-1]), variables

    return with_step(make, wrap)


@loop_mutant(pairs.cnn, "other examples")
def labels_of_other_examples(patch, make):
    def wrap(optimizer, start, step, variables):
        return start, lambda state, x, y: step(state, x, np.roll(y, 1)), variables

    return with_step(make, wrap)


@loop_mutant(small_stem, "eval mode")
def training_in_eval_mode(patch, make):
    def evaluated(params, model, batch_stats, images, labels):
        logits, _ = model.apply(Variables(params, batch_stats), images, train=False)
        return train.cross_entropy(logits, labels).mean(), batch_stats

    patch.setattr(train, "loss_and_stats", evaluated)
    return make()


@loop_mutant(pairs.cnn, "add up")
def gradients_not_zeroed(patch, make):
    def wrap(optimizer, start, step, variables):
        def update(grads, state, params=None):
            total = jax.tree.map(jnp.add, state[0], grads)
            updates, inner = optimizer.update(total, state[1], params)
            return updates, (total, inner)

        summed = optax.GradientTransformation(
            lambda p: (jax.tree.map(jnp.zeros_like, p), optimizer.init(p)), update
        )
        return model_step(make().model, summed)

    return with_step(make, wrap)


@loop_mutant(pairs.cnn, "clipped")
def gradients_clipped(patch, make):
    def wrap(optimizer, start, step, variables):
        return model_step(make().model, optax.chain(optim.clip_by_global_norm(0.5), optimizer))

    return with_step(make, wrap)


@loop_mutant(small_stem, "summed over the batch")
def loss_summed_in_the_step(patch, make):
    def summed(params, model, batch_stats, images, labels):
        logits, stats = model.apply(Variables(params, batch_stats), images, train=True)
        return train.cross_entropy(logits, labels).sum(), stats

    patch.setattr(train, "loss_and_stats", summed)
    return make()


@loop_mutant(pairs.cnn, "multiplied by 0.9")
def learning_rate_decays_each_step(patch, make):
    def wrap(optimizer, start, step, variables):
        return model_step(make().model, optim.adam(lambda count: 1e-3 * 0.9**count))

    return with_step(make, wrap)


# ----------------------------------------------------------------------------------- precision


def rounded_products(patch: Any, bits: int) -> None:
    convolve = lowering.conv2d

    def rounded(images, kernel, *rest):
        if images.dtype == jnp.float32:
            images, kernel = (lax.reduce_precision(x, 8, bits) for x in (images, kernel))
        return convolve(images, kernel, *rest)

    patch.setattr(lowering, "conv2d", rounded)


@mutant("precision", basic, "forward", "conv1", "TF32")
def convolutions_in_tf32(patch, make):
    rounded_products(patch, 10)
    return make()


@mutant("precision", basic, "forward", "conv1", "bfloat16")
def convolutions_in_bfloat16(patch, make):
    rounded_products(patch, 7)
    return make()
