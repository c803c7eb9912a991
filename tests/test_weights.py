"""Weights both ways: bit for bit, and strict."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import torch_ref.models
from jax_impl.errors import InputError
from jax_impl.models import MODELS, create_model
from parity.weights import to_arrays, to_flax, to_torch


def random_state(name: str, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """Every float of a twin's state_dict random, and a count of batches."""
    generator = torch.Generator().manual_seed(0)
    return {
        key: torch.tensor(7) if not value.is_floating_point()
        else torch.randn(value.shape, generator=generator).to(dtype)
        for key, value in torch_ref.models.create_model(name).state_dict().items()
    }  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_there_and_back_is_exact(name):
    model, state = create_model(name), random_state(name)
    back = to_torch(to_flax(state, model), model)
    assert back.keys() == state.keys()
    for key, value in state.items():
        assert back[key].dtype == value.dtype and torch.equal(back[key], value), key


def test_float64_is_kept():
    model, state = create_model("simple_cnn"), random_state("simple_cnn", torch.float64)
    with jax.enable_x64(True):
        back = to_torch(to_flax(state, model), model)
    assert all(torch.equal(back[key], value) for key, value in state.items())
    with pytest.raises(InputError, match="float64.*jax_enable_x64"):
        to_flax(state, model)


def test_the_result_is_what_the_model_takes():
    model, state = create_model("resnet18"), random_state("resnet18")
    variables = to_flax(state, model)
    assert jax.tree.structure(variables) == jax.tree.structure(model.init(0))
    for leaf, shape in zip(jax.tree.leaves(variables), jax.tree.leaves(model.shapes), strict=True):
        assert (leaf.shape, leaf.dtype) == (shape.shape, shape.dtype)


def test_every_problem_is_named_at_once():
    model, state = create_model("simple_cnn"), random_state("simple_cnn")
    del state["conv1.bias"]
    state["extra.weight"] = torch.zeros(1)
    state["fc1.weight"] = state["fc1.weight"].T
    with pytest.raises(InputError) as error:
        to_flax(state, model)
    message = str(error.value)
    assert "missing conv1.bias" in message
    assert "unexpected extra.weight" in message
    assert "fc1.weight has shape (4096, 512), not (512, 4096)" in message


def test_gradients_convert_like_parameters():
    model = create_model("simple_cnn")
    variables = model.init(0)
    arrays = to_arrays(
        variables._replace(params=jax.tree.map(jnp.ones_like, variables.params)), model
    )
    assert all(np.array_equal(value, np.ones_like(value)) for value in arrays.values())
