"""The ladder passes on correct pairs; `test_mutants.py` holds that it fails on wrong ones."""

import dataclasses
from functools import partial
from importlib.metadata import entry_points

import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mutants import pairs
from torch import nn

from jax_impl.data import datasets
from jax_impl.errors import InputError
from jax_impl.models import layers
from jax_impl.models.model import MODELS, from_module
from parity.checking import NotTheSame, check, climb_all
from parity.ladder import numeric
from parity.ladder.rungs import NUMERIC, batch_stats, points, replay, trajectory
from parity.ladder.tolerance import compare_rounded
from parity.pairs.case import Case
from parity.pairs.examples import randomised, shared_weights
from parity.pairs.pair import Batch, create_pair, model_pair, named_optimizer
from parity.pairs.weights import to_arrays
from parity.shell.options import RUNGS

ALL_DTYPES = "float64", "float32", "bfloat16"


@pytest.fixture(scope="module")
def batches() -> list[Batch]:
    digits = datasets.load_digits().train
    return [
        Batch(digits.images[start : start + 16], digits.labels[start : start + 16])
        for start in range(0, 64, 16)
    ]


@pytest.mark.parametrize("rung", NUMERIC)
@pytest.mark.parametrize("make", [lambda: create_pair("simple_cnn"), pairs.residual])
def test_a_correct_pair_passes(make, rung, batches):
    pair = make()
    wide, narrow = numeric.climb(rung, pair, shared_weights(pair, 0), batches)
    assert (wide.model, wide.rung, wide.dtype) == (pair.name, rung, "float64")
    assert (narrow.model, narrow.rung, narrow.dtype) == (pair.name, rung, "float32")
    compared = rung != "batch_stats" or pair.name != "simple_cnn"
    assert wide.passed is (True if compared else None), wide
    assert narrow.passed is wide.passed, narrow


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(pairs.mlp, marks=pytest.mark.proof),
        pairs.cnn,
        pytest.param(pairs.small_stem, marks=pytest.mark.proof),
    ],
)
def test_a_correct_pair_passes_in_bfloat16(make):
    pair = make()
    for rung in NUMERIC:
        found = climb_all(pair, [rung], batches=pairs.batches(pair), jit=False, dtypes=ALL_DTYPES)
        results = list(found)
        assert [r.dtype for r in results] == ["float64", "float32", "bfloat16"]
        assert all(r.passed is not False for r in results), results


def test_a_fault_in_bfloat16_alone_is_found():
    pair = pairs.mlp()

    def faulty(variables, x):
        outputs = pair.jax_apply(variables, x)
        return outputs * 1.5 if x.dtype == jnp.bfloat16 else outputs

    wrong = dataclasses.replace(pair, jax_apply=faulty)
    found = list(climb_all(wrong, ["forward"], jit=False, dtypes=ALL_DTYPES))
    assert [(r.dtype, r.passed) for r in found] == [
        ("float64", True), ("float32", True), ("bfloat16", False),
    ]  # fmt: skip
    assert found[-1].diagnosis is not None
    assert "bfloat16 noise of JAX" in found[-1].diagnosis.text


def test_a_sum_in_sequence_is_credited_with_its_rounding():
    """Another order of the examples shows it; nothing is credited to what depends on the order."""
    rng = np.random.default_rng(0)
    batch = Batch(rng.standard_normal((32, 1000)) + 1, np.arange(32))

    def both(state, batch):
        values = batch.inputs * state["scale"]
        rows = values.sum(1)
        weighted = np.arange(32.0) @ values
        in_sequence = {"sum": np.cumsum(values)[-1:], "rows": rows, "weighted": weighted}
        return {"sum": values.sum()[None], "rows": rows, "weighted": weighted}, in_sequence

    state = {"scale": np.ones(1, np.float32)}
    ours, theirs = both(state, batch)
    own = numeric._own_noise(both, state, batch, (ours, theirs))
    rounding = abs(ours["sum"] / theirs["sum"] - 1)[0]
    assert rounding > 1e-15
    assert rounding / 16 < own["sum"] * 2.0**-29 < 16 * rounding
    assert own["rows"] * 2.0**-29 < 1e-15
    assert own["weighted"] == 0


@pytest.mark.parametrize("lucky, passed", [(True, True), (False, False)])
def test_a_jump_that_the_twin_was_spared_by_luck(lucky, passed):
    """JAX's jumped at an activation near zero; PyTorch's does so too when the weights move, or is
    of a higher precision and never does."""
    batch = Batch(np.zeros((2, 1)), np.zeros(2, int))
    oracle = {"gradient": np.ones(4)}

    def sides(state, _):
        jumps = lucky and (state["weight"] != 1).any()
        return {"gradient": np.full(4, 1.01)}, {"gradient": np.full(4, 1.01 if jumps else 1.0)}

    state = {"weight": np.ones(100, np.float32), "count": np.array(3)}
    figures = numeric._measure((oracle, oracle), sides(state, batch), "float32")
    assert not compare_rounded([figures], "float32").passed
    again = numeric._noisier(figures, (oracle, oracle), sides, state, batch, "float32")
    assert compare_rounded([again], "float32").passed is passed


def test_losses_that_are_no_numbers_fail_the_replay():
    """Also where JAX's second run has none there either."""
    first, again = np.array([2.0, 1.0, np.nan]), np.array([2.0, 1.0 + 1e-9, np.nan])
    own = replay._own(again, first)
    np.testing.assert_allclose(own, [0, 1e-9, 1e-9], rtol=1e-6)
    differences = np.abs(first - np.array([2.0, 1.0, 0.5]))
    assert replay._judged(differences[:2], own[:2], 0, "").passed
    assert not replay._judged(differences, own, 0, "").passed


def test_the_replay_is_held_to_what_the_noisier_framework_does():
    """PyTorch's second run is the measure; JAX's alone may say little, or be no rounding at all."""
    first, far = np.ones((3, 2)), np.array([1.0, 1.0, 1.0 + 2e-8])
    differences = np.abs(far - 1)

    def judged(*again):
        own = replay._amplified(first + np.array(again), first)
        return replay._judged(differences, own, 0, "").passed

    assert judged([0, 0], [1e-11, 1e-11], [1e-10, 5e-9])
    assert not judged([0, 0], [1e-11, 1e-11], [1e-10, 1e-10])
    assert not judged([0, 0], [0, 0], [1e-3, 0])


def test_a_wrong_gradient_by_the_inputs_alone_is_found():
    pair = pairs.mlp()

    def faulty(variables, x):
        return pair.jax_apply(variables, x + 1e-9 * (x - jax.lax.stop_gradient(x)))

    wrong = dataclasses.replace(pair, jax_apply=faulty)
    found = list(climb_all(wrong, ["forward", "gradients"], jit=False))
    assert [r.passed for r in found] == [True, True, False, True]
    assert "the inputs" in found[2].detail


def test_every_module_is_compared_in_order(batches):
    pair = pairs.residual()
    wide, _ = numeric.climb("forward", pair, shared_weights(pair, 0), batches[:1], jit=False)
    names = [module.name for module in wide.modules]
    assert names[:4] == ["conv1", "bn1", "layer1.0.conv1", "layer1.0.bn1"]
    assert names[-2:] == ["fc", "outputs"] and "layer2.0.downsample.1" in names
    twin = {name for name, _ in pair.make_torch().named_modules()}
    lacking = {"", "relu", "maxpool", "avgpool"}
    assert set(names) - {"outputs"} == {n for n in twin - lacking if not n.endswith(".relu")}


def test_without_normalisation_there_are_no_statistics(batches):
    pair = create_pair("simple_cnn")
    for found in numeric.climb("batch_stats", pair, shared_weights(pair, 0), batches):
        assert found.passed is None and found.detail == "neither side has such a tensor"


class NormNet(nnx.Module):
    """A normalisation of the images with this momentum, and a linear layer."""

    head = ("fc",)

    def __init__(self, momentum, rng):
        self.bn = layers.BatchNorm2d(3, momentum=momentum)
        self.fc = layers.Linear(3, 10, rng=rng)

    def __call__(self, x, train):
        return self.fc(self.bn(x, train).mean((1, 2)))


class TorchNormNet(nn.Module):
    def __init__(self, momentum):
        super().__init__()
        self.bn = nn.BatchNorm2d(3, momentum=momentum)
        self.fc = nn.Linear(3, 10)

    def forward(self, x):
        return self.fc(self.bn(x).mean((2, 3)))


@pytest.mark.parametrize("momentum", [0.1, 0.37, 1.0, 0.0, None])
def test_the_options_of_momentum(momentum, batches):
    """By batches of sixteen, three and one; of a neighbouring momentum the rung is told."""

    def pair_of(theirs):
        model = from_module("norm net", partial(NormNet, momentum))
        return model_pair("norm net", model, partial(TorchNormNet, theirs), pairs.SGD)

    pair = pair_of(momentum)
    state = shared_weights(pair, 0)
    sizes = batch_stats.sequences(Case(pair, "float64"), state, batches[0])
    assert [size for size, _ in sizes] == [16, 3, 1]
    for found in numeric.climb("batch_stats", pair, state, batches, jit=False):
        assert found.passed and found.detail.startswith("largest of 12 tensors"), found
    other = pair_of(0.2 if momentum is None else None)
    assert not numeric.climb("batch_stats", other, state, batches, jit=False)[0].passed


class BiasedNormNet(NormNet):
    """Its running variance moves to the batch's biased one, as Flax's does."""

    def __call__(self, x, train):
        before = self.bn.var[...]
        outputs, count = super().__call__(x, train), x.size // x.shape[-1]
        if train:
            self.bn.var[...] = 0.9 * before + (self.bn.var[...] - 0.9 * before) * (1 - 1 / count)
        return outputs


def test_a_biased_running_variance_fails_at_its_rung(batches):
    model = from_module("norm net", partial(BiasedNormNet, 0.1))
    pair = model_pair("norm net", model, partial(TorchNormNet, 0.1), pairs.SGD)
    state = shared_weights(pair, 0)
    wide, narrow = numeric.climb("batch_stats", pair, state, batches, jit=False)
    assert not wide.passed and not narrow.passed and "running_var" in wide.detail
    assert numeric.climb("gradients", pair, state, batches, jit=False)[0].passed


def test_a_batch_of_one_is_left_out_where_pytorch_refuses_it(batches):
    """The last maps of a torchvision ResNet on 32x32 images are 1x1."""
    for kind, sizes in [(pairs.residual(), [16, 3]), (pairs.small_stem(), [16, 3, 1])]:
        state = shared_weights(kind, 0)
        found = batch_stats.sequences(Case(kind, "float64"), state, batches[0])
        assert [size for size, _ in found] == sizes


NARROW = "width=8:stem=cifar:zero_init_residual=true"
SGD = {"momentum": 0.9, "weight_decay": 5e-4}
LR = 0.1 * 16 / 256
"""torchvision's, by the batch: Goyal et al. 2017, https://arxiv.org/abs/1706.02677, section 2.1."""
TRAINED = [  # a small CNN, and a narrow net of each kind of block, by both kinds of optimizer
    ("simple_cnn", "adam", 1e-3, {}, []),
    (f"resnet18:{NARROW}", "adam", 1e-3, {}, [pytest.mark.proof]),
    (f"resnet18:{NARROW}", "sgd", LR, SGD, [pytest.mark.proof]),
    (f"resnet50:{NARROW}", "adam", 1e-3, {}, [pytest.mark.proof]),
    (f"resnet50:{NARROW}", "sgd", LR, SGD, [pytest.mark.proof]),
]


@pytest.mark.parametrize(
    "name, optimizer, lr, options",
    [pytest.param(*row[:4], marks=row[4]) for row in TRAINED],
)
def test_sixty_steps_of_training(name, optimizer, lr, options, batches, record_property):
    """To the plain bars, 1e-10 for parameters and 1e-11 for statistics, whatever conditioning.

    The residual nets train from their initial weights on images of half the size: PyTorch's
    BatchNorm adds up a channel value after value, and Adam's first step on 16,384 of them takes
    PyTorch up to 2e-9 from itself.
    """
    chosen = named_optimizer(optimizer, lr, **options)
    pair = dataclasses.replace(create_pair(name), optimizer=chosen)
    state = shared_weights(pair, 0)
    if name != "simple_cnn":
        state = to_arrays(pair.model.init(0), pair.model)
        batches = [Batch(batch.inputs[:, ::2, ::2], batch.labels) for batch in batches]
    results = list(trajectory.run(pair, state, batches, narrow=False))
    assert [found.rung for found in results][-1] == "eval_after_training"
    for found in results:
        record_property(f"{found.rung} {found.unit}", found.measured)
        assert found.passed, found
    bars = (points.PARAMETERS_BAR, points.STATISTICS_BAR)
    for found, bar in zip(results[:-1], bars, strict=False):
        assert found.measured <= bar, found


@pytest.mark.proof
@pytest.mark.parametrize("seed", range(3))
def test_what_training_amplifies_is_no_fault(seed, batches):
    """Beyond the plain bar: 5e-10 apart, where each framework is as far from itself."""
    pair = dataclasses.replace(
        create_pair("resnet50:width=8:stem=cifar"), optimizer=named_optimizer("adam", 1e-3)
    )
    for found in trajectory.run(pair, shared_weights(pair, seed), batches, steps=10, narrow=False):
        assert found.passed, found


def test_a_pair_of_ones_own(batches):
    pair = pairs.mlp()
    found = check(pair, jit=False, steps=5)
    assert {r.rung for r in found} == {
        "data", "forward", "loss", "gradients", "batch_stats", "optimizer", "trajectory",
        "eval_after_training",
    }  # fmt: skip
    assert [r.rung for r in found if not r.passed] == ["batch_stats", "batch_stats"]
    assert all(r.passed is not False for r in found)
    with pytest.raises(NotTheSame, match=r"first departs: output .* of norm.*eps is 1e-06") as info:
        check(pairs.mlp(eps=1e-6), jit=False, steps=5)
    results = info.value.results
    assert all((r.diagnosis is not None) is (r.passed is False) for r in results)
    texts = [r.diagnosis.text for r in results if r.diagnosis is not None]
    assert all("norm: eps is 1e-06" in text for text in texts if text.startswith("follows"))
    assert sum(text.startswith("first departs") for text in texts) == 1


@pytest.mark.proof
@pytest.mark.parametrize(
    "make", [pairs.cnn, pairs.mlp, pairs.small_stem], ids=["cnn", "mlp", "net"]
)
def test_no_correct_pair_is_called_wrong(make):
    """Fifty seeds of weights, data, initial weights."""
    for seed in range(50):
        pair = make()
        given = pairs.batches(pair, seed=seed)
        for found in climb_all(pair, seed=seed, batches=given, steps=6, jit=False):
            assert found.passed, (seed, found)


@pytest.mark.proof
@pytest.mark.parametrize("name", MODELS)
def test_every_model_passes_the_numeric_rungs(name, batches):
    """By single operations, whose compilations the models share: the deep ones compile for long."""
    pair = create_pair(name)
    state = shared_weights(pair, 0)
    for rung in NUMERIC:
        for found in numeric.climb(rung, pair, state, batches, jit=False):
            assert found.passed, found


@pytest.mark.skipif(
    not entry_points(group="pytest11", name="parity"), reason="the package is not installed"
)
def test_the_fixture_of_the_plugin(parity):
    assert parity.check(pairs.mlp(), ["data", "forward"], jit=False)


@pytest.mark.parametrize("first", [1, 4])
def test_numbers_that_are_none_are_no_agreement(first):
    """A second run that has none either explains nothing."""
    pair = pairs.mlp()

    def step_of(optimizer):
        start, step, variables = Case(pair, "float64", jit=False).stepper()

        def broken(state, inputs, labels):
            (params, others, opt), loss = step(state[0], inputs, labels)
            bad = float("nan") if state[1] + 1 >= first else 1.0
            return (([p * bad for p in params], others, opt), state[1] + 1), loss

        return lambda v: (start(v), 0), broken, lambda state: variables(state[0])

    faulty = dataclasses.replace(pair, jax_step=step_of)
    state, given = shared_weights(pair, 0), pairs.batches(pair)
    found = list(trajectory.run(faulty, state, given, steps=6, jit=False, narrow=False))
    assert [r.rung for r in found] == ["trajectory", "eval_after_training"]
    assert not any(r.passed for r in found)


def test_nothing_to_compare_is_told(tmp_path):
    with pytest.raises(InputError, match="mlp: there is nothing to compare by init"):
        check(pairs.mlp(), ["init"])


def test_randomised_weights_hide_nothing():
    pair = create_pair("resnet18")
    variables = randomised(pair.model.init(0), 0)
    for keys, leaf in jax.tree_util.tree_flatten_with_path(variables)[0]:
        if keys[-1].key != "num_batches_tracked":
            assert leaf.dtype == jnp.float32
            assert np.unique(np.asarray(leaf)).size > 1, keys


def test_the_options_name_what_there_is():
    import jax_impl.models.model
    import torch_ref.models
    from parity import checking

    assert set(jax_impl.models.model.MODELS) == set(torch_ref.models.MODELS)
    assert set(RUNGS) == {*checking.RUNGS, *replay.RUNGS, "optimizers", "recipe", "accuracy"}
