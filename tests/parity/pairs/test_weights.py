"""Weights both ways: bit for bit, and strict."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import torch_ref.models
from jax_impl.errors import InputError
from jax_impl.models.model import MODELS, create_model
from parity.pairs.weights import to_arrays, to_flax, to_torch


def random_state(name: str, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """Every float of a twin's state_dict random, and a count of batches."""
    generator = torch.Generator().manual_seed(0)
    return {
        key: torch.tensor(7) if not value.is_floating_point()
        else torch.randn(value.shape, generator=generator).to(dtype)
        for key, value in torch_ref.models.create_model(name).state_dict().items()
    }  # fmt: skip


DEEP = "resnet152", "resnext101_32x8d", "resnext101_64x4d", "wide_resnet101_2"


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.proof) if name in DEEP else name for name in MODELS],
)
def test_there_and_back_is_exact(name):
    model, state = create_model(name), random_state(name)
    back = to_torch(to_flax(state, model), model)
    assert back.keys() == state.keys()
    for key, value in state.items():
        assert back[key].dtype == value.dtype and torch.equal(back[key], value), key


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_floats_are_kept(dtype):
    model, state = create_model("resnet20"), random_state("resnet20", dtype)
    variables = to_flax(state, model)
    assert str(jax.tree.leaves(variables.params)[0].dtype) == str(dtype).removeprefix("torch.")
    back = to_torch(variables, model)
    assert all(torch.equal(back[key], value) for key, value in state.items())
    assert all(back[key].dtype == value.dtype for key, value in state.items())


def test_nan_and_negative_zero_keep_their_bits():
    model, state = create_model("simple_cnn"), random_state("simple_cnn")
    state["fc2.bias"][:3] = torch.tensor([float("nan"), -0.0, float("inf")])
    back = to_torch(to_flax(state, model), model)
    assert torch.equal(back["fc2.bias"].view(torch.int32), state["fc2.bias"].view(torch.int32))


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_the_prefixes_of_wrappers_are_understood(prefix):
    model, state = create_model("simple_cnn"), random_state("simple_cnn")
    wrapped = {prefix + key: value for key, value in state.items()}
    back = to_torch(to_flax(wrapped, model), model)
    assert all(torch.equal(back[key], value) for key, value in state.items())
    wrapped["conv1.bias"] = wrapped.pop(prefix + "conv1.bias")  # one name without it: no wrapper's
    with pytest.raises(InputError, match="missing conv1.weight, "):
        to_flax(wrapped, model)


def test_a_real_wrapper_is_understood():
    module = torch.nn.DataParallel(torch_ref.models.create_model("resnet20"))
    variables = to_flax(module.state_dict(), create_model("resnet20"))
    twin = torch_ref.models.create_model("resnet20")
    twin.load_state_dict(to_torch(variables, create_model("resnet20")), strict=True)


def test_another_head_is_an_error_unless_it_is_replaced():
    state = random_state("resnet20")
    model = create_model("resnet20", num_classes=7)
    with pytest.raises(InputError) as error:
        to_flax(state, model)
    assert "fc.weight has shape (10, 64), not (7, 64)" in str(error.value)
    assert "fc.bias has shape (10,), not (7,)" in str(error.value)
    fresh = model.init(0)
    variables = to_flax(state, model, new_head=fresh)
    assert jnp.array_equal(variables.params["fc"]["kernel"], fresh.params["fc"]["kernel"])
    back = to_torch(variables, model)
    assert all(torch.equal(back[key], state[key]) for key in state if not key.startswith("fc."))


def test_a_square_kernel_is_converted_by_its_kind_and_not_by_its_shape():
    """A linear layer of n inputs and n outputs fits untransposed as well; so do 3x3x3x3 kernels."""
    model = create_model("simple_cnn", channels=(3, 3), hidden=3 * 8 * 8)
    state = {
        name: torch.randn(value.shape)
        for name, value in torch_ref.models.create_model(
            "simple_cnn", channels=(3, 3), hidden=3 * 8 * 8
        )
        .state_dict()
        .items()
    }
    twin = torch_ref.models.create_model("simple_cnn", channels=(3, 3), hidden=3 * 8 * 8)
    twin.load_state_dict(state)
    images = torch.randn(2, 3, 32, 32)
    expected = twin(images).detach().numpy()
    found, _ = model.apply(to_flax(state, model), jnp.asarray(images.permute(0, 2, 3, 1).numpy()))
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


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
