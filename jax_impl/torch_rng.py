"""PyTorch's CPU random stream in NumPy: what `torch.Generator` draws for initial weights."""

import numpy as np
from numpy.random import MT19937

_FLOAT24 = np.uint32((1 << 24) - 1)


class Generator:
    """Follows `torch.manual_seed(seed)` on the CPU, draw by draw, for float32 tensors.

    `uniform` is bit-exact. `normal` consumes the same raw stream and agrees to a few ulp of unit
    scale, since PyTorch's vector code rounds log, sin and cos in its own way.
    """

    def __init__(self, seed: int):
        self._bits = MT19937()
        # PyTorch seeds MT19937 by init_genrand with the low 32 bits of the seed.
        self._bits._legacy_seeding(seed & 0xFFFFFFFF)

    def _unit(self, size: int) -> np.ndarray:
        raw = self._bits.random_raw(size).astype(np.uint32)
        return (raw & _FLOAT24).astype(np.float32) * np.float32(2.0**-24)

    def uniform(self, shape: tuple[int, ...], low: float, high: float) -> np.ndarray:
        """float32 of `shape` in [low, high): `tensor.uniform_(low, high)`."""
        low32, high32 = np.float32(low), np.float32(high)
        # x86 compilers fuse PyTorch's multiply and add; float64 holds the product exactly.
        scaled = self._unit(int(np.prod(shape))).astype(np.float64) * np.float64(high32 - low32)
        return (scaled + np.float64(low32)).astype(np.float32).reshape(shape)

    def normal(self, shape: tuple[int, ...], std: float) -> np.ndarray:
        """float32 of `shape`, mean 0: `tensor.normal_(0, std)` for 16 values or more.

        Raises:
            ValueError: fewer than 16 values (PyTorch draws those by another path).
        """
        size = int(np.prod(shape))
        if size < 16:
            raise ValueError(f"normal: {size} values asked for; 16 or more are supported")
        unit = self._unit(size)
        values = np.empty(size, np.float32)
        whole = size // 16 * 16
        values[:whole] = _box_muller(unit[:whole], std)
        if size % 16:  # the last 16 values are drawn anew
            values[-16:] = _box_muller(self._unit(16), std)
        return values.reshape(shape)


def _box_muller(unit: np.ndarray, std: float) -> np.ndarray:
    """Blocks of 16 uniforms -> blocks of 16 normals, the first 8 by cosine, the last 8 by sine."""
    blocks = unit.reshape(-1, 2, 8)
    radius = np.sqrt(-2 * np.log((np.float32(1) - blocks[:, 0]).astype(np.float64)))
    # PyTorch rounds the angle to float32; everything else is exact here and rounded once.
    angle = (np.float32(2 * np.pi) * blocks[:, 1]).astype(np.float64)
    pair = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return (pair * std).astype(np.float32).reshape(-1)
