"""Planted bugs of gradients."""

# pyright: reportArgumentType=false, reportIndexIssue=false

import jax
import jax.numpy as jnp
from jax import lax

from jax_impl.models import layers
from jax_impl.ops import pooling
from mutants import pairs
from mutants.catalogue.activations_and_pooling import activation
from mutants.catalogue.common import basic, mutant, when
from mutants.catalogue.residual_blocks import block


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

    patch.setattr(pooling, "max_pool2d", pool)
    return make()


@mutant("gradients", pairs.cnn, "gradients", "fc1", "ReLU unchanged")
def straight_through_relu(patch, make):
    activation(patch, lambda x: x + lax.stop_gradient(jnp.maximum(x, 0) - x))
    return make()
