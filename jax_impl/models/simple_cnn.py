"""The notebook's small CNN."""

import flax.nnx as nnx
import jax

from jax_impl import lowering
from jax_impl.layers import Conv2d, Linear
from jax_impl.torch_rng import Generator


class SimpleCNN(nnx.Module):
    """Two 3x3 convolutions, ReLU and 2x2 max-pool after each, two linear layers; 32x32 images."""

    def __init__(self, num_classes: int, rng: Generator | None):
        self.conv1 = Conv2d(3, 32, 3, padding=1, rng=rng)
        self.conv2 = Conv2d(32, 64, 3, padding=1, rng=rng)
        self.fc1 = Linear(64 * 8 * 8, 512, flattened=(8, 8, 64), rng=rng)
        self.fc2 = Linear(512, num_classes, rng=rng)

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = lowering.max_pool2d(jax.nn.relu(self.conv1(x)), 2, 2)
        x = lowering.max_pool2d(jax.nn.relu(self.conv2(x)), 2, 2)
        x = jax.nn.relu(self.fc1(x.reshape(x.shape[0], -1)))
        return self.fc2(x)
