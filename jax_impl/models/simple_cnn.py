"""The notebook's small CNN, of any depth, filter size and pooling."""

import flax.nnx as nnx
import jax

from jax_impl.errors import InputError
from jax_impl.models.layers import Conv2d, Linear
from jax_impl.models.registry import CNNOptions, feature_map, pooled
from jax_impl.ops import pooling
from jax_impl.torch_random.generator import Generator


class SimpleCNN(nnx.Module):
    """A convolution, ReLU and max-pool for each of `options.channels`, then two linear layers.

    As `CNNOptions` says; with `global_average` there is a mean between the two.
    """

    head = ("fc2",)

    def __init__(self, options: CNNOptions, rng: Generator | None):
        self.image_size = options.image_size
        self.pool_size, self.global_average = options.pool_size, options.global_average
        self.pooled = [pooled(options, number + 1) for number in range(len(options.channels))]
        sides = zip((3, *options.channels), options.channels, strict=False)
        for number, (inputs, outputs) in enumerate(sides, 1):
            size = options.kernel_size
            conv = Conv2d(inputs, outputs, size, padding=size // 2, rng=rng)
            setattr(self, f"conv{number}", conv)
        (h, w), last = feature_map(options), options.channels[-1]
        read = (last, None) if options.global_average else (last * h * w, (h, w, last))
        self.fc1 = Linear(read[0], options.hidden, flattened=read[1], rng=rng)
        self.fc2 = Linear(options.hidden, options.num_classes, rng=rng)

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Normalised images [n, *image_size, 3] -> logits [n, num_classes]; no other size."""
        if x.shape[1:3] != self.image_size:
            given, made = ("x".join(map(str, size)) for size in (x.shape[1:3], self.image_size))
            raise InputError(f"simple_cnn got {given} images and was made for {made}: image_size")
        for number, pool in enumerate(self.pooled, 1):
            x = jax.nn.relu(getattr(self, f"conv{number}")(x))
            if pool:
                x = pooling.max_pool2d(x, self.pool_size, self.pool_size)
        x = x.mean((1, 2)) if self.global_average else x.reshape(x.shape[0], -1)
        return self.fc2(jax.nn.relu(self.fc1(x)))
