"""Batch normalisation in training, with its gradient written down."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from jax_impl.ops.platform import kept


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def batch_norm(
    x: jax.Array, scale: jax.Array, bias: jax.Array, eps: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """`torch.nn.functional.batch_norm` in training, on [n, h, w, c].

    The gradient is written down (Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167,
    section 3), in fewer passes over memory than autodiff makes.

    Returns:
        the normalised x, and by channel its mean and biased variance over n, h and w.
    """
    return _batch_norm_forward(x, scale, bias, eps)[0]


def _batch_norm_forward(x: jax.Array, scale: jax.Array, bias: jax.Array, eps: float):
    mean = x.mean((0, 1, 2))
    var = jnp.square(x - mean).mean((0, 1, 2))
    inverse = lax.rsqrt(var + eps)
    return ((x - mean) * (inverse * scale) + bias, mean, var), (x, scale, mean, inverse)


def _batch_norm_backward(eps: float, saved, gradients: tuple[jax.Array, jax.Array, jax.Array]):
    x, scale, mean, inverse = saved
    by_y, by_mean, by_var = gradients
    count = x.size // x.shape[-1]
    by_bias = by_y.sum((0, 1, 2))
    by_scale = (by_y * ((x - mean) * inverse)).sum((0, 1, 2))
    by_x = (inverse * scale) * (by_y - by_bias / count - (x - mean) * (inverse * by_scale / count))
    by_x += by_mean / count + (x - mean) * (2 / count * by_var)
    by_x = kept(by_x)  # up to 16 sums read it, in the gradient of the convolution before
    return by_x, by_scale.astype(scale.dtype), by_bias.astype(scale.dtype)


batch_norm.defvjp(_batch_norm_forward, _batch_norm_backward)


def batch_norm_of_parts(
    x: jax.Array, scale: jax.Array, bias: jax.Array, eps: float, parts: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """`batch_norm` of each of `parts` of the batch on its own, as DistributedDataParallel's are.

    Of n examples the first n % parts parts have one more than the others, as of
    `torch.tensor_split`.

    Returns:
        the normalised x, and by channel the first part's mean and biased variance: PyTorch's first
        process gives its buffers to the others before each step.
    """
    each = jax.vmap(partial(batch_norm, eps=eps), (0, None, None))
    least, larger = divmod(len(x), parts)
    found, start = [], 0
    for count, size in ((larger, least + 1), (parts - larger, least)):
        if count:
            own = x[start : start + count * size].reshape(count, size, *x.shape[1:])
            found.append(each(own, scale, bias))
            start += count * size
    y = jnp.concatenate([y.reshape(-1, *x.shape[1:]) for y, _, _ in found])
    _, mean, var = found[0]
    return y, mean[0], var[0]
