"""The parameters' moving average and the accumulation of gradients, against PyTorch's."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from torch import nn
from training_support import random_split

import torch_ref.train
from jax_impl.errors import InputError
from jax_impl.models.model import create_model
from jax_impl.training import optim
from jax_impl.training.averaging import accumulated, averaged, with_average
from jax_impl.training.epoch import make_train_epoch
from jax_impl.training.state import create_state

DECAY = 0.9


def test_the_average_is_pytorchs():
    torch.manual_seed(0)
    model = nn.Linear(3, 2).double()
    average = torch_ref.train.averaged(model, DECAY)
    sgd = torch.optim.SGD(model.parameters(), 0.1)
    with jax.enable_x64(True):
        weights: Any = {
            n: jnp.asarray(p.detach().numpy().copy()) for n, p in model.named_parameters()
        }
        optimizer = with_average(optim.sgd(0.1), DECAY)
        state: Any = optimizer.init(weights)
        for step in range(5):
            gradients = {n: np.cos(step + np.arange(p.size)).reshape(p.shape)
                         for n, p in weights.items()}  # fmt: skip
            updates, state = optimizer.update(gradients, state, weights)
            weights = optax.apply_updates(weights, updates)
            for name, parameter in model.named_parameters():
                parameter.grad = torch.from_numpy(gradients[name])
            sgd.step()
            average.update_parameters(model)
            for name, parameter in average.module.named_parameters():
                error = np.abs(np.asarray(state.average[name]) - parameter.detach().numpy()).max()
                assert error <= 4 * np.finfo(float).eps, (step, name)


def test_what_is_evaluated_is_the_average_with_the_statistics_of_now():
    model, split = create_model("resnet18", width=4), random_split(8)
    optimizer = accumulated(with_average(optim.sgd(0.1), DECAY), 2)
    state = create_state(model.init(0), optimizer)
    for after, _ in make_train_epoch(model, optimizer, 2)(
        state, split.images, split.labels, np.arange(8)
    ):
        state = after
    found = averaged(state)
    assert found.batch_stats is state.batch_stats
    kernel, own = found.params["conv1"]["kernel"], state.params["conv1"]["kernel"]
    start = np.asarray(model.init(0).params["conv1"]["kernel"])
    # Two steps: the average is the first and a tenth of the way to the second.
    first = (np.asarray(kernel) - 0.1 * np.asarray(own)) / 0.9
    assert np.abs(kernel - own).max() > 1e-5 and np.abs(first - start).max() > 1e-5
    plain = create_state(model.init(0), optim.sgd(0.1))
    assert averaged(plain) == plain.variables


@pytest.mark.parametrize("name", ["sgd", "adam", "rmsprop"])
def test_the_mean_of_several_batches_is_the_large_batchs(name):
    """Of a net without batch normalisation, in float64."""
    model, split, found = (
        create_model("simple_cnn", channels=(2, 2), hidden=4),
        random_split(16),
        [],
    )
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: jnp.asarray(x, float), model.init(0))
        for batch, times in ((8, 1), (2, 4)):
            optimizer = accumulated(getattr(optim, name)(0.01), times)
            state = create_state(wide, optimizer)
            epoch = make_train_epoch(model, optimizer, batch)
            for after, _ in epoch(state, split.images, split.labels, np.arange(16)):
                state = after
            found.append(jax.tree.map(np.array, state.params))
    for large, several in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_allclose(several, large, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("decay", [-0.1, 1.1, float("nan")])
def test_a_decay_that_is_none_is_told(decay):
    with pytest.raises(InputError, match="decay is"):
        with_average(optim.sgd(0.1), decay)


def test_no_batches_are_told():
    with pytest.raises(InputError, match="gradients of 0 batches"):
        accumulated(optim.sgd(0.1), 0)
    plain = optim.sgd(0.1)
    assert accumulated(plain, 1) is plain
