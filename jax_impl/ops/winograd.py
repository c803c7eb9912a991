"""3x3 convolution with 4 products where the definition has 9, forward and in both gradients.

Winograd's minimal filtering F(2x2, 3x3) as Lavin and Gray have it (2016,
https://arxiv.org/abs/1509.09308): each 2x2 tile of the output is A' [(G w G') * (B' x B)] A, where
x is the 4x4 tile of the input that it sees, and the product is elementwise; summed over channels it
is 16 matrix products. The transforms only add, subtract and halve: roundings are about twice those
of the sum of 9 products. The gradients are the transposes of the same.
"""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

Grid = list[list[jax.Array]]
Line = Sequence[jax.Array]


@jax.custom_vjp
def conv3x3(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Cross-correlation with stride 1 and padding 1: [n, h, w, c], [3, 3, c, o] -> [n, h, w, o]."""
    seen = _transform(_input, _input_tiles(images))
    products = _each(lambda x, u: x @ u, seen, _transform(_filter, _grid(kernel)))
    return _join(_transform(_output, products), images.shape)


def _forward(images: jax.Array, kernel: jax.Array):
    return conv3x3(images, kernel), (images, kernel)


def _backward(saved: tuple[jax.Array, jax.Array], gradient: jax.Array):
    images, kernel = saved
    # The tiles are made again: kept from the forward pass they take four times the images' memory.
    seen = _transform(_input, _input_tiles(images))
    products = _transform(_output_transposed, _output_tiles(gradient))
    by_weights = _each(partial(_contract, axis=0), seen, products)
    by_seen = _each(partial(_contract, axis=1), products, _transform(_filter, _grid(kernel)))
    by_images = _add_tiles(_transform(_input_transposed, by_seen), images.shape)
    by_kernel = _transform(_filter_transposed, by_weights)
    return by_images, jnp.stack([jnp.stack(row) for row in by_kernel])


conv3x3.defvjp(_forward, _backward)


def _each(function: Callable[..., jax.Array], first: Grid, second: Grid) -> Grid:
    return [
        [function(a, b) for a, b in zip(*rows, strict=True)]
        for rows in zip(first, second, strict=True)
    ]


def _contract(a: jax.Array, b: jax.Array, axis: int) -> jax.Array:
    """The product of two matrices, summed over the same axis of both."""
    return lax.dot_general(a, b, (((axis,), (axis,)), ((), ())))


def _transform(line: Callable[[Line], list[jax.Array]], grid: Grid) -> Grid:
    """T grid T', where `line` multiplies by T."""
    columns = [line(column) for column in zip(*grid, strict=True)]
    return [line(row) for row in zip(*columns, strict=True)]


def _input(x: Line) -> list[jax.Array]:
    return [x[0] - x[2], x[1] + x[2], x[2] - x[1], x[1] - x[3]]


def _input_transposed(x: Line) -> list[jax.Array]:
    return [x[0], x[1] - x[2] + x[3], x[1] + x[2] - x[0], -x[3]]


def _filter(w: Line) -> list[jax.Array]:
    outer, inner = (w[0] + w[2]) / 2, w[1] / 2
    return [w[0], outer + inner, outer - inner, w[2]]


def _filter_transposed(u: Line) -> list[jax.Array]:
    half = (u[1] + u[2]) / 2
    return [u[0] + half, (u[1] - u[2]) / 2, u[3] + half]


def _output(m: Line) -> list[jax.Array]:
    return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]


def _output_transposed(y: Line) -> list[jax.Array]:
    return [y[0], y[0] + y[1], y[0] - y[1], -y[1]]


def _grid(kernel: jax.Array) -> Grid:
    return [[kernel[i, j] for j in range(3)] for i in range(3)]


def _input_tiles(images: jax.Array) -> Grid:
    """The pixels at each place of the 4x4 tiles, which overlap by two: 16 of [tiles, c]."""
    n, h, w, c = images.shape
    down, across = _tiles(h), _tiles(w)
    border = ((0, 0), (1, 1 + 2 * down - h), (1, 1 + 2 * across - w), (0, 0))
    padded = jnp.pad(images, border)
    return [[_every_second(padded, i, j, down, across) for j in range(4)] for i in range(4)]


def _output_tiles(gradient: jax.Array) -> Grid:
    """The same of the 2x2 tiles of the output: 4 of [tiles, o]."""
    n, h, w, o = gradient.shape
    down, across = _tiles(h), _tiles(w)
    padded = jnp.pad(gradient, ((0, 0), (0, 2 * down - h), (0, 2 * across - w), (0, 0)))
    return [[_every_second(padded, i, j, down, across) for j in range(2)] for i in range(2)]


def _every_second(x: jax.Array, i: int, j: int, down: int, across: int) -> jax.Array:
    n, _, _, c = x.shape
    stop = (n, i + 2 * down - 1, j + 2 * across - 1, c)
    return lax.slice(x, (0, i, j, 0), stop, (1, 2, 2, 1)).reshape(-1, c)


def _join(tiles: Grid, shape: tuple[int, ...]) -> jax.Array:
    """2x2 tiles side by side, cut to the height and width in `shape`."""
    n, h, w, _ = shape
    down, across = _tiles(h), _tiles(w)
    rows = [jnp.stack([tile.reshape(n, down, across, -1) for tile in row], 3) for row in tiles]
    return jnp.stack(rows, 2).reshape(n, 2 * down, 2 * across, -1)[:, :h, :w]


def _add_tiles(tiles: Grid, shape: tuple[int, ...]) -> jax.Array:
    """4x4 tiles added up where they overlap, without the border: `_input_tiles` transposed."""
    n, h, w, c = shape
    grid = [[tile.reshape(n, _tiles(h), _tiles(w), c) for tile in row] for row in tiles]
    columns = [_overlap(column, 1) for column in zip(*grid, strict=True)]
    planes = [_overlap(row, 2) for row in zip(*columns, strict=True)]
    return _join(planes, shape)


def _overlap(line: Line, axis: int) -> list[jax.Array]:
    """Even and odd places of tiles of four that begin one before every even place of `axis`."""
    last = line[0].shape[axis] - 1
    nothing = jnp.zeros_like(lax.slice_in_dim(line[0], 0, 1, axis=axis))
    # Concatenated: `lax.pad` in a fused sum is three times slower on a CPU.
    before = lax.concatenate([nothing, lax.slice_in_dim(line[3], 0, last, axis=axis)], axis)
    after = lax.concatenate([lax.slice_in_dim(line[0], 1, last + 1, axis=axis), nothing], axis)
    return [line[1] + before, line[2] + after]


def _tiles(size: int) -> int:
    return -(-size // 2)
