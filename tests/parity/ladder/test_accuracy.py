"""The accuracy rung: its plan, its verdicts, and a small training of both frameworks."""

import dataclasses
import math

import numpy as np
import pytest
import torch

import torch_ref.data
from jax_impl.data import datasets
from jax_impl.data.archive import Dataset, Split
from jax_impl.training import optim
from parity.ladder.rungs import accuracy, accuracy_verdict
from parity.ladder.rungs.accuracy_verdict import Plan, Training
from parity.pairs.pair import ModelPair, create_pair
from parity.report.comparison import compare
from parity.shell.console import Console
from parity.shell.recipes import Recipe

RECIPE = Recipe(batch_size=16, optimizer="adam", lr=1e-3, epochs=5)


def plan_of(affordable: int | None, size: int = 1000) -> Plan:
    return accuracy._plan(RECIPE, size, 0, affordable, 4)


def test_a_full_plan_has_every_epoch():
    plan = plan_of(None)
    assert (plan.unit, plan.steps, plan.all_steps, plan.extent) == ("epoch", 315, 315, "5 epochs")
    assert all(sorted(order) == list(range(1000)) for order in plan.orders)
    assert not np.array_equal(plan.orders[0], plan.orders[1])


@pytest.mark.parametrize("affordable, epochs", [(63, 1), (200, 3), (10_000, 5)])
def test_a_plan_takes_whole_epochs_if_it_can(affordable, epochs):
    plan = plan_of(affordable)
    assert (plan.unit, len(plan.orders), plan.steps) == ("epoch", epochs, 63 * epochs)


@pytest.mark.parametrize(
    "affordable, size, steps", [(0, 50_000, 100), (1234, 50_000, 1230), (40, 1000, 60)]
)
def test_a_plan_below_an_epoch_is_cut_in_equal_parts(affordable, size, steps):
    plan = plan_of(affordable, size)
    assert (plan.unit, plan.steps) == ("part", steps)
    assert plan.extent == f"{steps:,} of {math.ceil(size / 16) * 5:,} steps"
    assert [len(order) for order in plan.orders] == [steps // 5 * 16] * 5
    assert len(set(np.concatenate(plan.orders).tolist())) == steps * 16


def training(losses: list[float], accuracy: float) -> Training:
    return Training("either", losses, accuracy, 1.0, [accuracy - 0.1, accuracy + 0.1])


@pytest.mark.parametrize(
    "theirs, passed",
    [
        (training([1.04, 0.5], 0.74), [True, True]),
        (training([1.06, 0.5], 0.74), [False, True]),
        (training([1.0, 0.5], 0.70), [True, False]),
        (training([1.0, float("nan")], 0.74), [False, True]),
    ],
)
def test_the_fixed_bars(theirs, passed):
    plan = Plan([np.arange(2)] * 2, "epoch", 2, 2, 0)
    found = accuracy_verdict.fixed(training([1.0, 0.5], 0.74), theirs, plan, 10_000)
    assert [comparison.passed for comparison in found] == passed
    assert found[1].tolerance == pytest.approx(300 * math.sqrt(2 * 0.74 * 0.26 / 10_000), rel=0.05)


@pytest.mark.parametrize(
    "theirs, passed",
    [
        (training([1.0, 0.535], 0.60), [True, True]),  # within the spread of the replicas
        (training([1.2, 0.5], 0.60), [False, True]),  # the first losses hardly spread
        (training([1.0, 0.5], 0.10), [True, False]),
        (training([float("nan"), 0.5], 0.6), [False, True]),
    ],
)
def test_replicas_widen_the_bars_to_their_spread(theirs, passed):
    plan = Plan([np.arange(2)] * 2, "part", 2, 10, 4)
    steps = (-2, -1, 0, 1, 2)
    runs = [training([1.0 + 0.001 * i, 0.5 + 0.003 * i], 0.6 + 0.01 * i / 2) for i in steps]
    found = accuracy_verdict.against_replicas(runs, theirs, plan, 10_000)
    assert [comparison.passed for comparison in found] == passed


@pytest.mark.parametrize(
    "theirs, passed",
    [
        (training([1.04, 0.5], 0.61), [True, True]),
        (training([1.06, 0.5], 0.61), [False, True]),
        (training([1.0, 0.5], 0.57), [True, False]),
    ],
)
def test_one_run_has_no_spread(theirs, passed):
    plan = Plan([np.arange(2)] * 2, "part", 2, 10, 4)
    found = accuracy_verdict.against_replicas([training([1.0, 0.5], 0.6)], theirs, plan, 10_000)
    assert [comparison.passed for comparison in found] == passed


def test_what_spreads_by_more_than_ten_per_cent_proves_nothing():
    """The first loss is compared, the second is chaotic, and so is the accuracy."""
    plan = Plan([np.arange(2)] * 2, "epoch", 2, 2, 4)
    runs = [training([1.0 + 0.001 * i, 0.5 + 0.05 * i], 0.6 + 0.05 * i) for i in (-2, -1, 0, 1, 2)]
    loss, accuracy = accuracy_verdict.against_replicas(
        runs, training([1.0, 0.9], 0.2), plan, 10_000
    )
    assert loss.passed and loss.remarks == ("chaotic, and not compared: epoch 2",)
    assert accuracy.passed is None and "chaotic: JAX runs that differ by a" in accuracy.detail
    wild = [training([1.0 + 0.5 * i, 0.5 + 0.2 * i], 0.6) for i in (-1, 0, 1)]
    loss, accuracy = accuracy_verdict.against_replicas(wild, training([1.0, 0.5], 0.6), plan, 10000)
    assert loss.passed is None and accuracy.passed


def test_a_loss_that_is_no_number_fails_however_chaotic_it_is():
    plan = Plan([np.arange(2)] * 2, "epoch", 2, 2, 4)
    wild = [training([1.0 + 0.5 * i, 0.5 + 0.2 * i], 0.6) for i in (-1, 0, 1)]
    theirs = training([1.0, float("nan")], 0.6)
    assert accuracy_verdict.against_replicas(wild, theirs, plan, 10_000)[0].passed is False


def test_one_run_of_each_is_told_and_not_judged():
    plan = Plan([np.arange(2)] * 2, "part", 2, 10, 0)
    found = accuracy_verdict.once(training([1.0, 0.5], 0.6), training([2.0, 1.5], 0.1), plan)
    assert found.passed is None and "one run of each" in found.detail
    assert "losses 1.000 0.500, accuracy 60.00 %; " in found.detail
    assert "losses 2.000 1.500, accuracy 10.00 %" in found.detail


@pytest.fixture(scope="module")
def few() -> tuple[Dataset, accuracy.TorchData]:
    """A hundred digits to train on, and as many to test on."""
    ours, theirs = datasets.load_digits(), torch_ref.data.load("digits")
    splits = [Split(split.images[:100], split.labels[:100]) for split in (ours.train, ours.test)]
    for dataset in theirs:
        dataset.data, dataset.targets = dataset.data[:100], dataset.targets[:100]
    return dataclasses.replace(ours, train=splits[0], test=splits[1]), theirs


def trained(few, pair: ModelPair) -> accuracy.Outcome:
    return accuracy.run(
        pair, pair.model.init(0), *few, seed=0, budget=1e-9, full=True, device="cpu",
        console=Console(),
    )  # fmt: skip


@pytest.fixture(scope="module")
def pair() -> ModelPair:
    return dataclasses.replace(create_pair("simple_cnn"), recipe=RECIPE)


def test_both_frameworks_train_alike(few, pair, capsys):
    outcome = trained(few, pair)
    assert [found.rung for found in outcome.results] == ["accuracy", "accuracy"]
    assert all(found.passed for found in outcome.results), outcome.results
    first, second = outcome.trainings
    assert len(first.losses) == len(second.losses) == 5
    assert first.checkpoints[-1] == first.accuracy  # a hundred test images are all
    assert second.checkpoints[-1] == second.accuracy
    np.testing.assert_allclose(first.losses, second.losses, rtol=0.01)
    assert first.losses[-1] < first.losses[0] / 2
    output = capsys.readouterr().out
    assert output.count("Epoch 5, Loss: ") == 2 and output.count("Accuracy: ") == 2
    rows = compare(pair, outcome, 100)
    assert [row.framework for row in rows] == ["JAX", "PyTorch"]
    assert [row.parameters for row in rows] == [2_122_186] * 2
    # 2 x (27 x 1024 x 32 + 288 x 256 x 64 + 4096 x 512 + 512 x 10) multiplications and additions
    assert rows[1].forward_flops == 15_411_200
    assert rows[0].forward_flops == pytest.approx(15_411_200, rel=0.05)


def test_another_learning_rate_fails(few, pair, monkeypatch):
    create = optim.create_optimizer
    monkeypatch.setattr(optim, "create_optimizer", lambda name, lr: create(name, lr / 3))
    assert not all(found.passed for found in trained(few, pair).results)


def test_other_weights_fail(few, pair, monkeypatch):
    """PyTorch starting from weights of its own, half as large, instead of the shared ones."""

    def others(variables, model):
        torch.manual_seed(1)
        return {name: value / 2 for name, value in pair.make_torch().state_dict().items()}

    monkeypatch.setattr(accuracy, "to_torch", others)
    assert not all(found.passed for found in trained(few, pair).results)


def test_a_budget_bounds_the_steps(few, pair):
    outcome = accuracy.run(
        pair, pair.model.init(0), *few, seed=0, budget=1e-9, full=False, device="cpu",
        console=Console(),
    )  # fmt: skip
    assert outcome.plan.unit == "part" and outcome.plan.steps == 5
    assert [found.passed for found in outcome.results] == [None]


def test_a_budget_for_one_run_of_each_is_not_spent_on_more(few, pair, monkeypatch):
    """And one for all of them is."""
    monkeypatch.setattr(accuracy, "_probe", lambda *arguments: (1.0, 1.0))
    steps = 7 * 5
    for budget, replicas in ((2 * steps, 0), ((accuracy.REPLICAS + 2) * steps, accuracy.REPLICAS)):
        outcome = accuracy.run(
            pair, pair.model.init(0), *few, seed=0, budget=budget, full=False, device="cpu",
            console=Console(),
        )  # fmt: skip
        assert (outcome.plan.extent, outcome.plan.replicas) == ("5 epochs", replicas)
        assert (outcome.results[0].passed is None) == (not replicas)
