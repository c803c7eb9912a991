"""Initial values of another distribution fail and are named; those of the same pass."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn

from parity.diagnosis.init import find
from parity.ladder import draws, two_samples
from parity.ladder.rungs import init
from parity.pairs.pair import Pair

Maker = Callable[[], nn.Module]
initializers = jax.nn.initializers


def pair(make: Maker, *changes: Callable[[dict, "Keys"], dict]) -> Pair:
    """A pair whose JAX side draws as PyTorch does, but for the changes."""

    def initial(seed: int) -> dict:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(10**6 + seed)
            state = {n: jnp.asarray(v.numpy()) for n, v in make().state_dict().items()}
        for change in changes:
            state |= change(state, Keys(seed))
        return state

    def convert(state: dict) -> dict:
        return {name: jnp.asarray(value) for name, value in state.items()}

    return Pair("net", make, lambda v, x: x, convert, example_inputs=np.zeros(1), init=initial)


class Keys:
    """A fresh key at each call."""

    def __init__(self, seed: int):
        self.key = jax.random.key(seed)

    def __call__(self) -> jax.Array:
        self.key, key = jax.random.split(self.key)
        return key


def drawn(name: str, initializer: Callable) -> Callable[[dict, Keys], dict]:
    """The parameter by an initializer of JAX, in PyTorch's layout."""
    return lambda state, keys: {name: initializer(keys(), state[name].shape, jnp.float32)}


def scaled(name: str, factor: float) -> Callable[[dict, Keys], dict]:
    return lambda state, keys: {name: factor * state[name]}


def as_kernel(name: str, initializer: Callable) -> Callable[[dict, Keys], dict]:
    """The parameter by an initializer as Flax calls it: on (in, out) or HWIO."""

    def change(state: dict, keys: Keys) -> dict:
        shape = state[name].shape
        value = initializer(keys(), (*shape[2:], shape[1], shape[0]), jnp.float32)
        return {name: jnp.moveaxis(value, (-1, -2), (0, 1))}

    return change


def constant(name: str, value: float, where: slice = slice(None)) -> Callable[[dict, Keys], dict]:
    return lambda state, keys: {name: state[name].at[where].set(value)}


def linear(out: int = 24, prepare: Callable[[nn.Linear], object] = lambda m: None) -> Maker:
    def make() -> nn.Module:
        module = nn.Linear(30, out)
        prepare(module)
        return module

    return make


def two() -> nn.Module:
    return nn.ModuleDict({"fc1": nn.Linear(8, 8), "fc2": nn.Linear(8, 8), "fc3": nn.Linear(8, 4)})


def conv(**options) -> Maker:
    return lambda: nn.Conv2d(options.get("groups", 3), 16, 3, **options)


def normal_table(d: int = 30) -> nn.Module:
    table = nn.Embedding(40, d)
    nn.init.normal_(table.weight, 0, 0.02)
    return table


def residual() -> nn.Module:
    net = nn.ModuleDict({"bn1": nn.BatchNorm2d(4), "bn2": nn.BatchNorm2d(4)})
    nn.init.zeros_(net["bn2"].weight)  # pyright: ignore[reportArgumentType]
    return net


def one_key(*names: str) -> Callable[[dict, Keys], dict]:
    """As the usual slip: one key for all layers, each with its own scale."""

    def change(state: dict, keys: Keys) -> dict:
        key = keys()
        return {
            name: jax.random.uniform(key, state[name].shape, minval=-1)
            * (8**-0.5 if state[name].ndim > 1 else 8**-0.5)
            for name in names
        }

    return change


def orthogonal(module: nn.Linear) -> object:
    return nn.init.orthogonal_(module.weight, math.sqrt(10))


def icnr() -> nn.Module:
    """The kernels of a sub-pixel convolution: each four times."""
    module = nn.Conv2d(3, 16, 3, bias=False)
    module.weight = nn.Parameter(torch.randn(4, 3, 3, 3).repeat_interleave(4, 0))
    return module


HAIKU = initializers.truncated_normal(30**-0.5)
LSTM = dict(input_size=5, hidden_size=6)
DEFAULT = "where PyTorch's is drawn as PyTorch's default, U(+-1 / sqrt(fan_in))"
WRONG = [
    (two, [one_key("fc1.weight", "fc2.weight")], "fc2.weight: drawn with the key of fc1.weight"),
    (two, [one_key("fc1.weight", "fc3.weight")], "fc3.weight: drawn with the key of fc1.weight"),
    (two, [one_key("fc1.weight", "fc2.bias")], "fc2.bias: drawn with the key of fc1.weight"),
    (
        two,
        [lambda s, _: {"fc1.weight": jax.random.uniform(jax.random.key(0), (8, 8)) - 0.5}],
        "fc1.weight: the same values for every seed",
    ),
    (
        linear(20),
        [as_kernel("weight", initializers.orthogonal(3**-0.5))],
        "weight: an orthogonal matrix, where PyTorch's entries are independent",
    ),
    (
        linear(20, orthogonal),
        [drawn("weight", initializers.normal(3**-0.5))],
        "its entries are independent, where PyTorch's is an orthogonal matrix",
    ),
    (linear(20, orthogonal), [scaled("weight", 0.9)], "0.89"),
    (
        icnr,
        [drawn("weight", initializers.normal(1.0))],
        "correlated otherwise: the cosines of columns are 0.2",
    ),
    (lambda: nn.Linear(10, 8), [drawn("bias", initializers.uniform(0.01))], "drawn as U(0, 0.01)"),
    (
        lambda: nn.Linear(20, 8),
        [drawn("bias", lambda k, s, d: jax.random.uniform(k, s, d, -(8**-0.5), 8**-0.5))],
        "bias: drawn as U(+-1 / sqrt(fan_out)), " + DEFAULT,
    ),
    (lambda: nn.Linear(10, 8), [constant("bias", 0)], "bias: 0 everywhere, where PyTorch's is"),
    (two, [constant(f"fc{i}.bias", 0) for i in (1, 2)], "the biases of fc1, fc2: 0 everywhere"),
    (
        linear(prepare=lambda m: nn.init.zeros_(m.bias)),
        [drawn("bias", initializers.normal(0.01))],
        "drawn as N(0, 0.01), where PyTorch's is 0 everywhere",
    ),
    (
        linear(30, lambda m: nn.init.eye_(m.weight)),
        [drawn("weight", initializers.normal(1.0))],
        "weight: drawn as N(0, 1), where PyTorch's is the identity matrix",
    ),
    (
        lambda: nn.Conv2d(4, 4, 3, bias=False),
        [lambda s, _: {"weight": jnp.asarray(nn.init.dirac_(torch.empty(4, 4, 3, 3)).numpy())}],
        "weight: a Dirac kernel, where PyTorch's is drawn",
    ),
    (linear(), [drawn("weight", HAIKU)], "before it is cut at two deviations, Haiku's default"),
    (linear(), [as_kernel("weight", initializers.lecun_normal())], "LeCun's truncated normal"),
    (linear(), [as_kernel("weight", initializers.he_uniform())], "drawn as He's uniform of fan_in"),
    (
        linear(prepare=lambda m: nn.init.trunc_normal_(m.weight, std=0.02)),
        [drawn("weight", initializers.truncated_normal(0.02))],
        "a normal of deviation 0.02 before it is cut at two deviations (0.88 of it after), "
        "where PyTorch's is drawn as N(0, 0.02)",
    ),
    (
        linear(prepare=lambda m: nn.init.kaiming_normal_(m.weight)),
        [scaled("weight", 2**-0.5)],
        "0.707 times PyTorch's deviation (the gain sqrt(2) is missing)",
    ),
    (
        linear(prepare=lambda m: nn.init.normal_(m.weight, 0, 0.37)),
        [scaled("weight", 2**0.5)],
        "1.41 times PyTorch's deviation (the gain sqrt(2) too much)",
    ),
    (
        linear(8, lambda m: nn.init.xavier_normal_(m.weight)),
        [drawn("weight", initializers.lecun_normal(in_axis=0, out_axis=1))],
        "drawn as LeCun's truncated normal of fan_out",
    ),
    (
        lambda: nn.Conv2d(5, 16, 3),
        [drawn("weight", initializers.he_normal())],  # OIHW as if it were HWIO
        "a fan_in of both channels and the kernel's width (HWIO and OIHW confused)",
    ),
    (
        conv(groups=8),
        [drawn("weight", lambda k, s, d: jax.random.normal(k, s, d) * (2 / 72) ** 0.5)],
        "He's normal of the fan_in of all groups",
    ),
    (
        lambda: nn.ConvTranspose2d(16, 4, 3),
        [drawn("weight", lambda k, s, d: jax.random.normal(k, s, d) / 12)],
        "LeCun's normal of fan_out",
    ),
    (lambda: nn.Embedding(40, 30), [drawn("weight", initializers.normal(0.02))], "N(0, 0.02)"),
    (
        normal_table,
        [drawn("weight", initializers.normal(30**-0.5))],
        "1 / sqrt(30), the embedding's width, where PyTorch's is drawn as N(0, 0.02)",
    ),
    (
        lambda: nn.Embedding(10, 4, padding_idx=2),
        [drawn("weight", initializers.normal(1.0))],
        "weight: row 2 (padding_idx) drawn, where PyTorch's are 0 everywhere",
    ),
    (
        lambda: nn.LSTM(**LSTM),
        [drawn("weight_ih_l0", initializers.glorot_uniform())],
        "weight_ih_l0: drawn as Glorot's uniform, where PyTorch's is drawn as "
        "U(+-1 / sqrt(hidden size))",
    ),
    (
        lambda: nn.LSTM(**LSTM),
        [constant("bias_ih_l0", 1, slice(6, 12))],
        "bias_ih_l0: values 6 to 11 (the forget gate) 1 everywhere, where PyTorch's are drawn",
    ),
    (
        lambda: nn.ModuleDict({"bn1": nn.BatchNorm2d(4), "bn2": nn.BatchNorm2d(4)}),
        [constant("bn2.weight", 0)],
        "bn2.weight: 0 everywhere, where PyTorch's is 1 everywhere (a block's last norm",
    ),
    (residual, [constant("bn2.weight", 1)], "in PyTorch a block's last norm starts at zero"),
    (
        lambda: nn.ParameterDict({"pos": nn.Parameter(torch.zeros(1, 9, 4))}),
        [drawn("pos", initializers.normal(0.02))],
        "pos: drawn as N(0, 0.02), where PyTorch's is 0 everywhere",
    ),
]


@pytest.mark.parametrize("make, changes, text", WRONG, ids=[case[2][:60] for case in WRONG])
def test_another_distribution_is_named(make, changes, text, monkeypatch):
    monkeypatch.setattr(draws, "MOST", 48)
    wrong = pair(make, *changes)
    sampled = init.samples(wrong, 0)
    monkeypatch.setattr(init, "samples", lambda pair, seed: sampled)  # once for both
    found = init.run(wrong)
    assert found is not None and not found.passed
    why = find(wrong)
    assert why.cause is not None and text in why.cause, why.text


def everything() -> nn.Module:
    """Of every kind of initial values."""
    net = nn.ModuleDict(
        {
            "fc": nn.Linear(6, 8),
            "wide": nn.Linear(200, 150),
            "conv": conv()(),
            "orthogonal": linear(20, orthogonal)(),
            "eye": linear(30, lambda m: nn.init.eye_(m.weight))(),
            "sparse": linear(20, lambda m: nn.init.sparse_(m.weight, 0.5))(),
            "table": nn.Embedding(10, 4, padding_idx=2),
            "icnr": icnr(),
            "norm": nn.BatchNorm2d(4),
            "lstm": nn.LSTM(**LSTM),
        }
    )
    net.scale = nn.Parameter(torch.tensor(2.0))
    return net


def test_the_same_distributions_pass(monkeypatch):
    monkeypatch.setattr(draws, "MOST", 16)
    right = pair(everything)
    found = init.run(right)
    assert found is not None and found.passed, found
    assert find(right).cause is None


def test_copies_of_one_layer_are_no_shared_key():
    """As `nn.TransformerEncoder` makes them; JAX's may be copies too, or not."""

    def make() -> nn.Module:
        layer = nn.Linear(8, 8)
        again = nn.Linear(8, 8)
        again.load_state_dict(layer.state_dict())
        return nn.ModuleDict({"fc1": layer, "fc2": again})

    for changes in (
        [],
        [drawn("fc2.weight", initializers.variance_scaling(1 / 3, "fan_in", "uniform"))],
    ):
        found = init.run(pair(make, *changes))
        assert found is not None and found.passed, found


@pytest.mark.parametrize("layers, passed", [(nn.Linear(90, 80), True), (nn.Linear(8, 8), True)])
def test_a_module_that_is_copied_is_one_draw(layers, passed):
    right = pair(lambda: nn.Linear(layers.in_features, layers.out_features))
    copied = Pair(
        "copied",
        layers,
        right.jax_apply,
        right.to_flax,
        example_inputs=np.zeros(1),
        init=right.init,
    )
    found = init.run(copied)
    assert found is not None and found.passed is passed, found


def test_p_values_are_no_smaller_than_they_should_be():
    """Of equal samples; each draw's numbers come four times, as if they were independent."""
    rng = np.random.default_rng(0)
    found: dict[str, list[float]] = {}
    for _ in range(300):
        ours, theirs = np.repeat(rng.normal(size=(2, 16, 25)), 4, -1)
        for kind, p in two_samples.tests(ours, theirs).items():
            found.setdefault(kind, []).append(p)
    assert len(found) == 4
    for kind, ps in found.items():
        assert (np.array(ps) < 0.01).sum() <= 10, kind
        assert min(ps) > 1e-5, kind


@pytest.mark.parametrize("change", [lambda v: v + 0.5, lambda v: 1.4 * v, lambda v: v.clip(-2, 2)])
def test_small_p_values_of_other_samples(change):
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(size=(2, 8, 500))
    assert min(two_samples.tests(change(ours), theirs).values()) < 1e-9
