"""PyTorch's CPU random stream in NumPy: what `torch.Generator` draws, call by call."""

import math
import operator

import numpy as np
from numpy.random import MT19937, RandomState
from numpy.typing import ArrayLike, DTypeLike

from jax_impl.errors import InputError
from jax_impl.torch_random.normal import affine, box_muller, box_muller_pair

Shape = tuple[int, ...]

_WORDS = 624  # the size of MT19937's state
_CHUNK = 1 << 15  # values made at a time, so that all intermediate ones stay in the cache
_DIGITS = {np.dtype(np.float32): 24, np.dtype(np.float64): 53}
_INTEGERS = tuple(np.dtype(t) for t in (np.int64, np.int32, np.int16, np.int8, np.uint8, np.bool))

# The C structures that `torch.get_rng_state` copies out: `ATen/CPUGeneratorImpl.cpp`.
_LEGACY = np.dtype(
    [
        ("seed", np.uint64),
        ("left", np.int32),
        ("seeded", np.int32),
        ("next", np.uint64),
        ("words", np.uint64, _WORDS),
        ("unused_x", np.float64),
        ("double", np.float64),
        ("unused_rho", np.float64),
        ("has_double", np.int32),
    ],
    align=True,
)
_STATE = np.dtype([("legacy", _LEGACY), ("float", np.float32), ("has_float", np.bool)], align=True)


class Generator:
    """Follows `torch.Generator().manual_seed(seed)` on the CPU, or the global generator.

    Each method gives, bit for bit, what PyTorch 2.14 gives for a contiguous tensor, and leaves
    the same state behind. Only the rounding of `uniform` and `normal` depends on the machine:
    theirs is that of x86 with AVX2, and `normal` in float64 or of fewer than 16 values that of
    the C library in use. Methods take a shape and return an array of that shape.

    Args:
        seed: from -2^63 to 2^64 - 1; negative ones count as seed + 2^64, as in PyTorch.

    Raises:
        InputError: from any method, for arguments that PyTorch refuses.
    """

    def __init__(self, seed: int):
        self._bits = MT19937()
        self.manual_seed(seed)

    def manual_seed(self, seed: int) -> None:
        """Starts the stream of `seed`, as `torch.manual_seed` does."""
        try:
            self._seed = operator.index(seed)
        except TypeError:
            raise InputError(f"seed {seed!r}: give an integer") from None
        if not -(2**63) <= self._seed < 2**64:
            raise InputError(f"seed {seed}: PyTorch takes integers from -2^63 to 2^64 - 1")
        self._seed %= 2**64
        # Both take the low 32 bits and spread them by MT19937's init_genrand.
        seeded = RandomState(self._seed % 2**32).get_state(legacy=False)["state"]
        self._go_on(seeded["key"], seeded["pos"])
        self._untouched = True  # PyTorch's count of words read is 0, not 624, until the first draw
        self._next_double: float | None = None
        self._next_float: float | None = None  # PyTorch keeps it, and no CPU function draws it

    def raw32(self, size: int) -> np.ndarray:
        """The next `size` words of the stream, 32 bits each, as uint64 [size]."""
        if size:
            self._untouched = False
        return self._bits.random_raw(size)

    def raw64(self, size: int) -> np.ndarray:
        """uint64 [size], of two words each, the high one first."""
        words = self.raw32(2 * size)
        return (words[0::2] << np.uint64(32)) | words[1::2]

    def uniform(
        self, shape: Shape, low: float = 0.0, high: float = 1.0, dtype: DTypeLike = np.float32
    ) -> np.ndarray:
        """`tensor.uniform_(low, high)`, in [low, high), float32 or float64; `torch.rand`."""
        kind = _floating(dtype)
        limit = float(np.finfo(kind).max)
        if not (-limit <= low <= high <= limit and high - low <= limit):
            raise InputError(f"uniform: low {low}, high {high}: give finite low <= high")
        bottom, top = kind.type(low), kind.type(high)
        values = np.empty(math.prod(shape), kind)
        for part in _chunks(values):
            drawn = affine(self._unit(len(part), kind), top - bottom, bottom)
            part[:] = np.where(drawn == top, bottom, drawn)  # where rounding went up to `high`
        return values.reshape(shape)

    def normal(
        self, shape: Shape, std: float = 1.0, mean: float = 0.0, dtype: DTypeLike = np.float32
    ) -> np.ndarray:
        """`tensor.normal_(mean, std)`, float32 or float64; `torch.randn`."""
        kind = _floating(dtype)
        limit = float(np.finfo(kind).max)
        if not (0 <= std <= limit and -limit <= mean <= limit):
            raise InputError(f"normal: mean {mean}, std {std}: give finite ones, std >= 0")
        size = math.prod(shape)
        if size < 16:
            singles = np.array([self._next_normal() for _ in range(size)], np.float64)
            return affine(singles, std, mean).astype(kind).reshape(shape)
        values = np.empty(size, kind)
        for part in _chunks(values[: size // 16 * 16]):
            part[:] = box_muller(self._unit(len(part), kind), mean, std)
        if size % 16:
            self._unit(size % 16, kind)  # drawn in vain, for the last 16 values are drawn anew
            values[-16:] = box_muller(self._unit(16, kind), mean, std)
        return values.reshape(shape)

    def random(self, shape: Shape, dtype: DTypeLike = np.int64) -> np.ndarray:
        """`tensor.random_()`: from 0 to the dtype's highest; to 2^24 or 2^53 for floats.

        `int(random(()))` is the seed that `DataLoader` and its sampler draw.
        """
        kind, _, highest = _countable(dtype)
        raw = self.raw64 if kind in (np.int64, np.float64) else self.raw32
        drawn = raw(math.prod(shape)) % np.uint64(highest + 1)
        return drawn.astype(kind).reshape(shape)

    def randint(
        self, low: int, high: int | None, shape: Shape, dtype: DTypeLike = np.int64
    ) -> np.ndarray:
        """`torch.randint(low, high, shape)` and `tensor.random_(low, high)`: in [low, high).

        Without `high`, `tensor.random_(low, None)`: up to the dtype's highest, as in `random`.
        Ranges of 2^28 and more take two words a value.
        """
        kind, lowest, highest = _countable(dtype)
        if high is None:
            end, fits = highest + 1, lowest <= low <= highest - (kind in _DIGITS)
        else:
            end, fits = high, lowest <= low < high <= min(highest + 1, 2**63 - 1)
        if not fits:
            raise InputError(
                f"randint: low {low}, high {high}: {kind} takes {lowest} <= low < high <= "
                f"{min(highest + 1, 2**63 - 1)}"
            )
        size, span = math.prod(shape), end - low
        drawn = self.raw64(size) if span >= 2**28 else self.raw32(size)
        if span < 2**64:  # all of int64 is drawn as it comes, its lowest value not added
            drawn %= np.uint64(span)
            drawn += np.uint64(low % 2**64)  # wraps around, into int64's negative values
        return drawn.view(np.int64).astype(kind).reshape(shape)

    def randperm(self, n: int) -> np.ndarray:
        """`torch.randperm(n)`: int64 [n], for n below 2^32 / 20.

        PyTorch's shuffle for larger n, which draws two words a value, would take minutes here.
        """
        if not 0 <= n < (2**32 - 1) // 20:
            raise InputError(f"randperm: n {n}: give 0 <= n < {(2**32 - 1) // 20}")
        steps = np.arange(max(n - 1, 0))
        partners = self.raw32(len(steps)).astype(np.int64) % (n - steps) + steps
        order = list(range(n))  # lists swap several times faster than arrays do
        for i, j in enumerate(partners.tolist()):
            order[i], order[j] = order[j], order[i]
        return np.array(order, np.int64)

    def bernoulli(self, shape: Shape, p: ArrayLike, dtype: DTypeLike = np.float32) -> np.ndarray:
        """`torch.bernoulli(p)`: ones with probability `p`, else zeros.

        Args:
            shape: of the result.
            p: an array that broadcasts to `shape`, whose dtype, float32 or float64, is that of the
                uniforms drawn; a Python float counts as float64. It is then `tensor.bernoulli_(p)`,
                except that PyTorch has Intel's MKL draw that one where the CPU is Intel's.
            dtype: of the result.
        """
        p = np.asarray(p)
        kind = _floating(p.dtype)
        if not ((p >= 0) & (p <= 1)).all():
            raise InputError("bernoulli: give probabilities from 0 to 1")
        try:
            p = np.broadcast_to(p, shape)
        except ValueError as error:
            raise InputError(f"bernoulli: p does not have the shape asked for: {error}") from None
        return (self._unit(math.prod(shape), kind).reshape(shape) < p).astype(dtype)

    def get_state(self) -> np.ndarray:
        """uint8 [5056]: the bytes of `torch.get_rng_state()`, its structure in C."""
        state = np.zeros((), _STATE)
        legacy, words = state["legacy"], self._bits.state["state"]
        legacy["seed"], legacy["seeded"], legacy["words"] = self._seed, 1, words["key"]
        legacy["left"], legacy["next"] = _WORDS + 1 - words["pos"], words["pos"]
        if self._untouched:
            legacy["next"] = 0
        if self._next_double is not None:
            legacy["has_double"], legacy["double"] = 1, self._next_double
        if self._next_float is not None:
            state["has_float"], state["float"] = True, self._next_float
        return np.frombuffer(state.tobytes(), np.uint8).copy()

    def set_state(self, state: np.ndarray) -> None:
        """Goes on from a state of `get_state` or of `torch.get_rng_state().numpy()`."""
        if state.dtype != np.uint8 or state.shape != (_STATE.itemsize,):
            raise InputError(
                f"set_state: {state.dtype} {list(state.shape)}: give uint8 [{_STATE.itemsize}]"
            )
        fields = np.frombuffer(state.tobytes(), _STATE)[0]
        legacy = fields["legacy"]
        left, read = int(legacy["left"]), int(legacy["next"])
        untouched = (left, read) == (1, 0)
        if not legacy["seeded"] or not (untouched or 1 <= read == _WORDS + 1 - left <= _WORDS):
            raise InputError(
                f"set_state: seeded {legacy['seeded']}, left {left}, next {read}: "
                "give a state that PyTorch wrote"
            )
        self._go_on(legacy["words"].astype(np.uint32), _WORDS if untouched else read)
        self._seed, self._untouched = int(legacy["seed"]), untouched
        self._next_double = float(legacy["double"]) if legacy["has_double"] else None
        self._next_float = float(fields["float"]) if fields["has_float"] else None

    def _go_on(self, words: np.ndarray, read: int) -> None:
        self._bits.state = {"bit_generator": "MT19937", "state": {"key": words, "pos": read}}

    def _unit(self, size: int, kind: np.dtype) -> np.ndarray:
        """[size] in [0, 1): the low 24 bits of a word, or the low 53 of two."""
        if kind == np.float32:
            low = self.raw32(size).astype(np.uint32) & np.uint32(2**24 - 1)
            return low.astype(np.float32) * np.float32(2.0**-24)
        low = self.raw64(size) & np.uint64(2**53 - 1)
        return low.astype(np.float64) * 2.0**-53

    def _next_normal(self) -> float:
        """One of a pair; the other is kept for the next call."""
        value, self._next_double = self._next_double, None
        if value is None:
            value, self._next_double = box_muller_pair(*self._unit(2, np.dtype(np.float64)))
        return value


def _chunks(values: np.ndarray):
    return (values[start : start + _CHUNK] for start in range(0, len(values), _CHUNK))


def _floating(dtype: DTypeLike) -> np.dtype:
    kind = np.dtype(dtype)
    if kind not in _DIGITS:
        raise InputError(f"dtype {kind}: give float32 or float64")
    return kind


def _countable(dtype: DTypeLike) -> tuple[np.dtype, int, int]:
    """A dtype that `random_` fills here, with the lowest and highest integer that it draws."""
    kind = np.dtype(dtype)
    if kind in _DIGITS:  # beyond these not every integer is a float
        return kind, -(2 ** _DIGITS[kind]), 2 ** _DIGITS[kind]
    if kind not in _INTEGERS:
        raise InputError(f"dtype {kind}: give bool, uint8, int8 to int64, float32 or float64")
    if kind == np.bool:
        return kind, 0, 1
    return kind, int(np.iinfo(kind.name).min), int(np.iinfo(kind.name).max)
