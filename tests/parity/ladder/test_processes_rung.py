"""The rung `processes`: PyTorch's and JAX's training by several processes."""

import dataclasses

import numpy as np
import pytest

from jax_impl.data.datasets import load_digits
from jax_impl.errors import InputError
from parity.ladder.rungs import processes
from parity.ladder.workers.task import Task
from parity.pairs.pair import create_pair
from parity.pairs.weights import to_arrays
from parity.program import main
from parity.shell.options import RunOptions

NET = "resnet18:width=2:stem=cifar"


@pytest.fixture(scope="module")
def trainings(tmp_path_factory):
    """By statistics and framework, of two processes."""
    pair, split = create_pair(NET), load_digits().train
    weights = {
        name: value.astype(np.float64) if value.dtype == np.float32 else value
        for name, value in to_arrays(pair.model.init(0), pair.model).items()
    }
    found = {}
    for kind in ("global", "local"):
        task = Task(NET, 2, 25, kind, str(tmp_path_factory.mktemp(kind)))
        for side in (processes.JAX, processes.TORCH):
            found[kind, side] = processes.trained(task, split, weights, 0, side)
    return task, found


def test_the_frameworks_agree(trainings):
    task, found = trainings
    for kind in ("global", "local"):
        ours, theirs = found[kind, processes.JAX], found[kind, processes.TORCH]
        compared = processes.compare_training(task, ours, theirs)
        assert compared.passed and compared.measured <= 1e-10, compared
        assert len(theirs.losses) == processes.STEPS and len(theirs.weights) > 50


def test_statistics_of_shares_are_others(trainings):
    """Each process has its share: statistics of a share and of the batch are told apart."""
    task, found = trainings
    for side in (processes.JAX, processes.TORCH):
        one, other = found["global", side], found["local", side]
        compared = processes.compare_training(task, one, other)
        assert not compared.passed and compared.measured > 1e-3


def test_a_loss_or_a_weight_that_departs_fails(trainings):
    task, found = trainings
    ours, theirs = found["global", processes.JAX], found["global", processes.TORCH]
    name = next(iter(ours.weights))
    moved = {**ours.weights, name: ours.weights[name] * (1 + 1e-9)}
    assert not processes.compare_training(task, ours._replace(weights=moved), theirs).passed
    short = ours._replace(losses=ours.losses[:-1])
    assert not processes.compare_training(task, short, theirs).passed


def test_processes_that_do_not_train_are_told(tmp_path):
    pair, split = create_pair("simple_cnn:channels=2,2:hidden=4"), load_digits().train
    weights = to_arrays(pair.model.init(0), pair.model)
    task = Task("simple_cnn:channels=2,2:hidden=8", 2, 25, "global", str(tmp_path))
    with pytest.raises(InputError, match=r"torch_worker ended with 1: .*size mismatch"):
        processes.trained(task, split, weights, 0, processes.TORCH)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"processes": 0}, "--processes is 0: give 1 to 64"),
        ({"processes": 10**30}, "give 1 to 64"),
        ({"processes": 2, "pair": "a:b"}, "--processes: of a --pair"),
    ],
)
def test_what_cannot_be_asked(change, told):
    with pytest.raises(InputError, match=told):
        main(dataclasses.replace(RunOptions(), **change))
