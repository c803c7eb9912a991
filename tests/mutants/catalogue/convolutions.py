"""Planted bugs of convolutions."""

# pyright: reportArgumentType=false, reportIndexIssue=false

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from jax_impl.models import layers, resnet
from jax_impl.ops import convolution
from mutants import pairs
from mutants.catalogue.common import (
    always,
    basic,
    bottleneck,
    conv_kernel,
    dilated,
    grouped,
    mutant,
    when,
)


def conv_padding(patch: Any, border: Callable, condition: Callable) -> None:
    """Pads images by `border(images, kernel, stride, padding)` where the condition holds."""
    convolve = convolution.conv2d

    def changed(images, kernel, stride=1, padding=0, dilation=1, groups=1):
        if condition(kernel, stride, padding):
            images, padding = border(images, kernel, stride, padding), 0
        return convolve(images, kernel, stride, padding, dilation, groups)

    patch.setattr(convolution, "conv2d", changed)


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
    convolve = convolution.conv2d

    def plain(images, kernel, stride=1, padding=0, dilation=1, groups=1):
        padding = kernel.shape[0] // 2 if dilation > 1 else padding
        return convolve(images, kernel, stride, padding, 1, groups)

    patch.setattr(convolution, "conv2d", plain)
    return make()


@mutant("convolution", grouped, "forward", "layer1.0.conv2", "interleaved")
def groups_interleaved(patch, make):
    convolve = convolution.conv2d

    def mixed(images, kernel, stride=1, padding=0, dilation=1, groups=1):
        if groups > 1:
            shape = images.shape
            images = images.reshape(*shape[:3], groups, -1).swapaxes(3, 4).reshape(shape)
        return convolve(images, kernel, stride, padding, dilation, groups)

    patch.setattr(convolution, "conv2d", mixed)
    return make()
