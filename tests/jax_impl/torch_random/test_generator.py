"""The random stream against `torch.Generator`'s: values and states, bit for bit."""

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jax_impl.errors import InputError
from jax_impl.torch_random.generator import Generator

F32, F64 = "float32", "float64"
INTEGERS = "bool", "uint8", "int8", "int16", "int32", "int64"
# The rounding that is followed; PyTorch's other kernels fuse no multiply-adds.
x86 = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"), reason="needs AVX2"
)
SEEDS = 0, 1, -1, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1, -(2**63)


class Call(NamedTuple):
    """What to draw: a method of `Generator`, and the arguments of both sides."""

    method: str
    shape: tuple[int, ...]
    arguments: tuple
    dtype: str


def ours(generator: Generator, call: Call) -> np.ndarray:
    match call:
        case Call("uniform", shape, (low, high), dtype):
            return generator.uniform(shape, low, high, dtype)
        case Call("normal", shape, (mean, std), dtype):
            return generator.normal(shape, std, mean=mean, dtype=dtype)
        case Call("random", shape, (), dtype):
            return generator.random(shape, dtype)
        case Call("randint", shape, (low, high), dtype):
            return generator.randint(low, high, shape, dtype)
        case Call("randperm", (n,), (), _):
            return generator.randperm(n)
        case Call("bernoulli", shape, (p,), dtype):
            return generator.bernoulli(shape, p, dtype)
    raise AssertionError(call)


def theirs(generator: torch.Generator, call: Call) -> np.ndarray:
    empty = torch.empty(call.shape, dtype=getattr(torch, call.dtype))
    match call:
        case Call("uniform", _, (low, high), _):
            return empty.uniform_(low, high, generator=generator).numpy()
        case Call("normal", _, (mean, std), _):
            return empty.normal_(mean, std, generator=generator).numpy()
        case Call("random", _, (), _):
            return empty.random_(generator=generator).numpy()
        case Call("randint", _, (low, high), _):
            return empty.random_(low, high, generator=generator).numpy()
        case Call("randperm", (n,), (), _):
            return torch.randperm(n, generator=generator).numpy()
        case Call("bernoulli", _, (p,), _):
            return empty.bernoulli_(torch.tensor(p), generator=generator).numpy()
    raise AssertionError(call)


def assert_same(call: Call, our: np.ndarray, their: np.ndarray) -> None:
    assert (our.dtype, our.shape) == (their.dtype, their.shape), call
    assert our.tobytes() == their.tobytes(), (call, our[our != their], their[our != their])


def state(generator: torch.Generator) -> np.ndarray:
    return generator.get_state().numpy()


# Around 16 values and their multiples, the 624 words of a state, and a chunk of 2^15 values.
lengths = st.integers(0, 70) | st.integers(600, 1300) | st.sampled_from((32767, 32768, 65543))
shapes = st.builds(lambda n: (n,), lengths) | st.lists(st.integers(0, 7), max_size=3).map(tuple)
seeds = st.sampled_from(SEEDS) | st.integers(-(2**63), 2**64 - 1)


@st.composite
def affine_calls(draw: st.DrawFn) -> Call:
    """uniform or normal, over all of float32's magnitudes; see `fma64` for float64's."""
    dtype, shape = draw(st.sampled_from((F32, F64))), draw(shapes)
    if dtype == F32:
        values = st.floats(-1, 1) | st.floats(-(2.0**126), 2.0**126, width=32)
    else:
        values = st.floats(-1, 1) | st.floats(-1e250, 1e250)
        values = values.map(lambda x: x if abs(x) > 1e-200 else 0.0)
    first, second = draw(values), draw(values)
    if draw(st.booleans()):
        return Call("uniform", shape, (min(first, second), max(first, second)), dtype)
    return Call("normal", shape, (draw(st.just(0.0) | st.just(first)), abs(second) / 10), dtype)


@st.composite
def integer_calls(draw: st.DrawFn) -> Call:
    dtype, shape = draw(st.sampled_from((*INTEGERS, F32, F64))), draw(shapes)
    if draw(st.booleans()):
        return Call("random", shape, (), dtype)
    if dtype in (F32, F64):
        lowest = -(2 ** (24 if dtype == F32 else 53))
        highest = -lowest
    else:
        lowest, highest = (0, 1) if dtype == "bool" else limits(dtype)
    ends = st.integers(lowest, highest) | st.sampled_from((lowest, 0, highest))
    low, last = sorted((draw(ends), draw(ends)))
    if draw(st.booleans()):  # spans about 2^28, above which PyTorch draws two words
        last = min(last, low + 2**28 - draw(st.integers(0, 2)))
    high = None if draw(st.integers(0, 4)) == 0 else min(last + 1, 2**63 - 1)
    low = min(low, highest - 1 if high is None else high - 1)
    return Call("randint", shape, (low, high), dtype)


def limits(dtype: str) -> tuple[int, int]:
    return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)


@st.composite
def bernoulli_calls(draw: st.DrawFn) -> Call:
    dtype = draw(st.sampled_from((F32, F64)))
    shape, width = draw(shapes), 32 if dtype == F32 else 64
    p = st.floats(0, 1, width=width)
    if draw(st.booleans()) and shape:  # a probability for each place of the last axis
        chances = draw(st.lists(p, min_size=4, max_size=4))
        return Call("bernoulli", shape, (np.resize(np.array(chances, dtype), shape[-1]),), F32)
    result = draw(st.sampled_from((F32, F64, "bool", "int64")))
    return Call("bernoulli", shape, (np.array(draw(p), dtype),), result)


permutations = st.builds(lambda n: Call("randperm", (n,), (), "int64"), lengths)
SWAP = Call("swap", (), (), "")  # each side goes on from the other's state
calls = st.one_of(
    affine_calls(), affine_calls(), integer_calls(), bernoulli_calls(), permutations, st.just(SWAP)
)


def check_sequence(seed: int, sequence: list[Call]) -> None:
    generator, twin = Generator(seed), torch.Generator().manual_seed(seed)
    assert (generator.get_state() == state(twin)).all()
    for call in sequence:
        if call == SWAP:
            other = Generator(5)
            other.set_state(state(twin))
            twin = torch.Generator()
            twin.set_state(torch.from_numpy(generator.get_state()))
            generator = other
        else:
            assert_same(call, ours(generator, call), theirs(twin, call))
        assert (generator.get_state() == state(twin)).all(), call


@x86
@given(seeds, st.lists(calls, max_size=12))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_sequences(seed, sequence):
    check_sequence(seed, sequence)


@x86
@pytest.mark.proof
@given(seeds, st.lists(calls, max_size=12))
@settings(max_examples=1000, deadline=None)
def test_sequences_proof(seed, sequence):
    check_sequence(seed, sequence)


@pytest.mark.parametrize("seed", SEEDS)
def test_seeds(seed):
    twin = torch.Generator().manual_seed(seed)
    assert (Generator(seed).get_state() == state(twin)).all()
    again = Generator(3)
    again.normal((1,))
    again.manual_seed(seed)  # forgets the normal that was kept
    assert (again.get_state() == state(twin)).all()


@x86
@pytest.mark.parametrize("mean, std", [(0, 1), (0, 0.037), (0.3, 1.7)])
@pytest.mark.parametrize(
    "size", [2**21 + 5, pytest.param(2**26 + 5, marks=pytest.mark.proof)], ids=["2M", "67M"]
)
def test_many_normals(size, mean, std):
    """Rare roundings: in one of several million values is a sum halfway between two float32."""
    call = Call("normal", (size,), (mean, std), F32)
    assert_same(call, ours(Generator(7), call), theirs(torch.Generator().manual_seed(7), call))


@x86
@pytest.mark.parametrize("method", ["uniform", "normal"])
def test_many_doubles(method):
    call = Call(method, (300_001,), (0.1, 0.7), F64)
    assert_same(call, ours(Generator(7), call), theirs(torch.Generator().manual_seed(7), call))


EDGES = [
    # Of a range of few values, the uniforms that round up to `high` become `low`.
    *(Call("uniform", (999,), (1.0, 1 + ulps * 2.0**-23), F32) for ulps in (0, 1, 2, 3)),
    *(Call("uniform", (999,), (1.0, 1 + ulps * 2.0**-52), F64) for ulps in (0, 1, 2, 3)),
    # Ranges of 2^28 and more take two words a value; one of 2^64 - 1 is the widest.
    *(Call("randint", (99,), (-5, 2**28 - 5 + more), "int64") for more in (-1, 0, 1)),
    *(Call("randint", (99,), (-5, 2**28 - 5 + more), "int32") for more in (-1, 0, 1)),
    Call("randint", (99,), (-(2**63), 2**63 - 1), "int64"),
    Call("randint", (99,), (-(2**63), None), "int64"),
    # A uniform that equals the probability gives a zero.
    Call("bernoulli", (99,), (Generator(8).uniform((99,)),), F32),
    Call("bernoulli", (99,), (Generator(8).uniform((99,), dtype=F64),), F64),
    Call("bernoulli", (99,), (np.array(0.0),), F32),
    Call("bernoulli", (99,), (np.array(1.0),), F32),
]


def draws_the_upper_end() -> bool:
    """Whether `uniform_` of [a, b) gives b where it rounds up to it."""
    upper = 1 + 2.0**-23
    return bool((torch.empty(999).uniform_(1.0, upper) == torch.tensor(upper)).any())


@x86
@pytest.mark.parametrize("call", EDGES, ids=lambda call: f"{call.method}-{call.dtype}")
def test_edges(call):
    if call.method == "uniform" and draws_the_upper_end():
        pytest.skip("this PyTorch's uniform_ draws the upper end too, as before 2.14")
    generator, twin = Generator(8), torch.Generator().manual_seed(8)
    assert_same(call, ours(generator, call), theirs(twin, call))
    assert (generator.get_state() == state(twin)).all()


@pytest.mark.parametrize("n", [0, 1, 2, 3, 50_000, 2**20 + 1])
def test_randperm(n):
    call = Call("randperm", (n,), (), "int64")
    generator, twin = Generator(n), torch.Generator().manual_seed(n)
    assert_same(call, ours(generator, call), theirs(twin, call))
    assert (generator.get_state() == state(twin)).all()


@x86
def test_global_generator():
    """The functions that take no tensor, and PyTorch's defaults."""
    torch.manual_seed(11)
    generator = Generator(11)
    assert (generator.uniform((3, 5)) == torch.rand(3, 5).numpy()).all()
    assert (generator.normal((3, 7)) == torch.randn(3, 7).numpy()).all()
    assert (generator.normal((3,)) == torch.randn(3).numpy()).all()
    assert (generator.randint(-3, 9, (20,)) == torch.randint(-3, 9, (20,)).numpy()).all()
    p = np.linspace(0, 1, 50, dtype=np.float32)
    assert (generator.bernoulli((50,), p) == torch.bernoulli(torch.from_numpy(p)).numpy()).all()
    seed = torch.empty((), dtype=torch.int64).random_().item()
    assert int(generator.random(())) == seed
    assert (generator.get_state() == torch.get_rng_state().numpy()).all()


def test_bernoulli_of_a_float():
    if "GenuineIntel" in Path("/proc/cpuinfo").read_text():
        pytest.skip("PyTorch has MKL draw these on Intel's CPUs")
    twin, generator = torch.Generator().manual_seed(4), Generator(4)
    expected = torch.empty(1000).bernoulli_(0.3, generator=twin).numpy()
    assert (generator.bernoulli((1000,), 0.3) == expected).all()
    assert (generator.get_state() == state(twin)).all()


def test_raw_words():
    """`random_` of int64 drops the highest bit of two words, and of uint8 all but the low 8."""
    twin, generator = torch.Generator().manual_seed(4), Generator(4)
    wide = torch.empty(999, dtype=torch.int64).random_(generator=twin).numpy()
    assert (generator.raw64(999) % 2**63 == wide).all()
    low = torch.empty(999, dtype=torch.uint8).random_(generator=twin).numpy()
    assert (generator.raw32(999) % 256 == low).all()


def test_float_normal_is_kept():
    """A state may hold a float32 normal, which no CPU function of PyTorch's sets or takes."""
    given_state = state(torch.Generator().manual_seed(2)).copy()
    given_state[5048:5053] = [0, 0, 192, 63, 1]  # 1.5 in float32, and that it is there
    twin, generator = torch.Generator(), Generator(0)
    twin.set_state(torch.from_numpy(given_state))
    generator.set_state(given_state)
    generator.normal((3,))
    torch.empty(3).normal_(generator=twin)
    assert (generator.get_state() == state(twin)).all()
    assert generator.get_state()[5052] == 1
    generator.manual_seed(2)
    twin.manual_seed(2)
    assert (generator.get_state() == state(twin)).all()


@pytest.mark.parametrize("seed", [2**64, -(2**63) - 1, 10**30])
def test_refused_seeds(seed):
    with pytest.raises(ValueError):
        torch.Generator().manual_seed(seed)
    with pytest.raises(InputError, match="seed"):
        Generator(seed)


REFUSED = [
    Call("uniform", (3,), (1.0, 0.0), F32),
    Call("uniform", (3,), (-3e38, 3e38), F32),
    Call("uniform", (3,), (0.0, 1e39), F32),
    Call("uniform", (3,), (0.0, float("nan")), F64),
    Call("uniform", (3,), (0.0, 1.0), "int64"),
    Call("normal", (3,), (0.0, -1.0), F32),
    Call("normal", (3,), (0.0, float("nan")), F32),
    Call("normal", (3,), (0.0, 1.0), "int32"),
    Call("randint", (3,), (5, 5), "int64"),
    Call("randint", (3,), (0, 2**63), "int64"),
    Call("randint", (3,), (-(2**63) - 1, 0), "int64"),
    Call("randint", (3,), (0, 257), "uint8"),
    Call("randint", (3,), (-1, 5), "uint8"),
    Call("randint", (3,), (-1, None), "uint8"),
    Call("randint", (3,), (2**24, None), F32),
    Call("randint", (3,), (0, 3), "bool"),
    Call("randint", (3,), (0, 3), "complex64"),
    Call("randperm", (-1,), (), "int64"),
    Call("bernoulli", (3,), (np.array(1.5),), F32),
    Call("bernoulli", (3,), (np.array(float("nan")),), F32),
    Call("bernoulli", (3,), (np.array([0.5, 0.5]),), F32),
    Call("bernoulli", (3,), (np.array([[0.5, 0.5, 0.5]] * 2),), F32),
]


@pytest.mark.parametrize("call", REFUSED, ids=str)
def test_refused_arguments(call):
    with pytest.raises((RuntimeError, ValueError, IndexError)):
        theirs(torch.Generator(), call)
    generator = Generator(0)
    with pytest.raises(InputError, match=call.method + "|dtype") as error:
        ours(generator, call)
    assert "\n" not in str(error.value)
    assert (generator.get_state() == Generator(0).get_state()).all()


def test_refused_large_permutation():
    with pytest.raises(InputError, match="randperm"):
        Generator(0).randperm(214_748_364)


def edited(place: slice, value: int) -> np.ndarray:
    generator = Generator(0)
    generator.raw32(10)  # left 615 at bytes 8 to 11, next 10 at 16 to 23
    changed = generator.get_state()
    changed[place] = np.frombuffer(value.to_bytes(place.stop - place.start, "little"), np.uint8)
    return changed


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros(5055, np.uint8),
        np.zeros(5056, np.int8),
        np.zeros((1, 5056), np.uint8),
        np.zeros(5056, np.uint8),
        edited(slice(8, 12), 0),
        edited(slice(8, 12), 625),
        edited(slice(8, 12), 1),
        edited(slice(12, 16), 0),
        edited(slice(16, 24), 9),
        edited(slice(16, 24), 625),
    ],
)
def test_refused_states(bad):
    generator = Generator(3)
    with pytest.raises(InputError, match="set_state"):
        generator.set_state(bad)
    assert (generator.get_state() == Generator(3).get_state()).all()


def test_states_are_copies():
    generator = Generator(3)
    before = generator.get_state()
    kept = before.copy()
    generator.set_state(before)
    before[:] = 0
    generator.uniform((700,))
    assert (kept == Generator(3).get_state()).all()
    assert not np.shares_memory(generator.get_state(), generator.get_state())


def test_no_torch_is_imported():
    code = "import sys, jax_impl.torch_random.loader; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])
