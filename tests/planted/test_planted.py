"""The nets are right, and every bug shows where it is said to, without the suite's ladder."""

from collections import Counter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from planted import BUGS, NETS, compare
from planted.bugs import training_steps
from planted.nets import regression
from planted.nets.optimizers import OPTIMIZERS

SAME = 1e-9
ROUNDING = {"float64": SAME, "float32": 1e-3}
"""What rounding may make of a net's outputs, and what every bug makes more than."""
FALSE_ALARM = 1e-5
ORDER = "data", "forward", "loss", "gradients", "batch_stats", "init", "optimizer", "trajectory"
NAMES = [bug.name for bug in BUGS]


@pytest.fixture(autouse=True)
def quickly():
    """Programs that run once are compiled without optimisation, and one thread is enough."""
    threads, name = torch.get_num_threads(), "jax_disable_most_optimizations"
    torch.set_num_threads(1)
    before = jax.config.values[name]
    jax.config.update(name, True)
    yield
    jax.config.update(name, before)
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", NETS)
def test_a_net_and_its_port_are_the_same(name):
    with jax.enable_x64(True):
        pair = NETS[name]()
        sides = compare.Sides(pair)
        assert sum(p.numel() for p in sides.module.parameters()) < 50_000
        assert compare.inputs_differ(sides) < SAME
        assert compare.outputs_differ(sides, False) < SAME
        for what, difference in compare.training_step_differs(sides).items():
            assert difference < SAME, what
        if pair.init is not None:
            assert compare.likelihood_of_initial_weights(pair) > FALSE_ALARM


def test_inputs_of_mean_1000_are_no_fault():
    assert (
        compare.outputs_differ(compare.Sides(regression.make(mean=1000.0), "float32"), False) < 1e-3
    )


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_and_its_port_are_the_same(name):
    rng = np.random.default_rng(0)
    start = {"kernel": rng.normal(size=(3, 2)), "bias": rng.normal(size=3)}
    made = OPTIMIZERS[name]()
    theirs = {k: torch.nn.Parameter(torch.from_numpy(v.copy())) for k, v in start.items()}
    optimizer = made.torch(theirs.values())
    with jax.enable_x64(True):
        params: Any = {k: jnp.asarray(v) for k, v in start.items()}
        state = made.jax.init(params)
        for _ in range(6):
            grads = {k: rng.normal(size=v.shape) for k, v in start.items()}
            for key, parameter in theirs.items():
                parameter.grad = torch.from_numpy(grads[key].copy())
            optimizer.step()
            updates, state = made.jax.update(jax.tree.map(jnp.asarray, grads), state, params)
            params = optax.apply_updates(params, updates)
        for key, parameter in theirs.items():
            moved = compare.distance(start[key], parameter.detach().numpy())
            assert moved > 1e-4
            assert compare.distance(params[key], parameter.detach().numpy()) < 1e-6 * moved


@pytest.mark.parametrize("name", training_steps.CORRECT)
def test_the_loops_are_right_without_a_fault(name):
    batches = [tuple(b) for b in training_steps.batches()] if name == "tcn" else None
    with jax.enable_x64(True):
        sides = compare.Sides(training_steps.CORRECT[name]())
        assert compare.training_differs(sides, 6, batches) < SAME


@pytest.mark.parametrize("bug", BUGS, ids=NAMES)
def test_a_bug_shows_at_its_rung_and_not_before(bug):
    limit = ROUNDING[bug.dtype]
    with jax.enable_x64(bug.dtype == "float64"):
        found = first_departure(bug, limit)
    assert found in bug.rungs, found


def first_departure(bug, limit) -> str | None:
    pair = bug.make()
    sides = compare.Sides(pair, bug.dtype)
    if pair.jax_step is not None:
        batches = [tuple(batch) for batch in bug.batches()] if bug.batches else None
        return "trajectory" if compare.training_differs(sides, bug.steps, batches) > limit else None
    if "optimizer" in bug.rungs and compare.updates_differ(sides, bug.steps) > limit:
        return "optimizer"
    if compare.inputs_differ(sides) > limit:
        return "data"
    if compare.outputs_differ(sides, False) > limit:
        return "forward"
    for rung, difference in compare.training_step_differs(sides).items():
        if difference > limit:
            return rung
    if pair.init is not None and compare.likelihood_of_initial_weights(pair) < FALSE_ALARM:
        return "init"
    return None


def test_there_are_a_hundred_of_every_kind():
    assert len(BUGS) == len(set(NAMES)) == 100
    assert {rung for bug in BUGS for rung in bug.rungs} == set(ORDER)
    counts = Counter(len(bug.faults) for bug in BUGS)
    assert counts[2] + counts[3] == 15 and counts[3] >= 2
    assert len({bug.style for bug in BUGS}) == 5
    assert {bug.net for bug in BUGS} <= {name.partition("_bilinear")[0] for name in NETS}


def test_a_cause_is_told_by_all_the_words_of_one_alternative():
    fault = BUGS[0].faults[0]
    assert fault.is_told_by("The kernel is FLIPPED in both axes")
    assert not fault.is_told_by("the stride is 2") and not fault.is_told_by(None)
