"""Precision and determinism, as they are asked for."""

import os

import jax
import jax.numpy as jnp
import pytest
import torch
from mutants import pairs
from training_support import random_split

import torch_ref.errors
import torch_ref.models
import torch_ref.precision
import torch_ref.train
from jax_impl.errors import InputError
from jax_impl.training import optim, precision
from jax_impl.training.evaluate import make_evaluate
from jax_impl.training.state import create_state
from jax_impl.training.step import make_train_step


def test_bfloat16_computes_and_float32_remembers():
    model, split = pairs.residual().model, random_split(16)
    optimizer = optim.adam(1e-3)
    losses = {}
    for dtype in (None, jnp.bfloat16):
        state = create_state(model.init(0), optimizer)
        step = make_train_step(model, optimizer, dtype)
        state, loss = step(state, split.images, split.labels)
        assert {leaf.dtype.name for leaf in jax.tree.leaves(state)} == {"float32", "int32"}
        losses[dtype] = float(loss)
        accuracy = make_evaluate(model, dtype=dtype)(state.variables, split)
        assert 0 <= accuracy <= 1
    assert 1e-6 < abs(losses[jnp.bfloat16] / losses[None] - 1) < 0.06
    inputs = jax.ShapeDtypeStruct((16, 32, 32, 3), jnp.bfloat16)
    text = str(jax.make_jaxpr(model.apply)(model.init(0), inputs))
    products = [line for line in text.splitlines() if "dot_general[" in line]
    assert products and all(":bf16[" in line for line in products)


@pytest.mark.parametrize(
    "name, platform, message",
    [("float16", "gpu", "no precision 'float16': choose one of float32, tf32, bf16"),
     ("tf32", "cpu", "tf32: a CPU has none: choose float32 or bf16")],
)  # fmt: skip
def test_a_precision_that_is_not_there(name, platform, message):
    with pytest.raises(InputError, match=message):
        precision.set_precision(name, platform)
    with pytest.raises(torch_ref.errors.InputError, match=message):
        torch_ref.precision.set_precision(torch.nn.Linear(1, 1), name, platform)


@pytest.mark.parametrize(
    "name, products, dtype",
    [("float32", "highest", "float32"), ("tf32", "tensorfloat32", "float32"),
     ("bf16", "default", "bfloat16")],
)  # fmt: skip
def test_precision_is_pinned(name, products, dtype, monkeypatch):
    pinned = {}
    monkeypatch.setattr(jax.config, "update", pinned.__setitem__)
    assert precision.set_precision(name, "gpu") == jnp.dtype(dtype)
    assert pinned == {"jax_default_matmul_precision": products}


def test_determinism_is_asked_of_xla_beside_other_flags(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=true")
    precision.be_deterministic()
    assert os.environ["XLA_FLAGS"].split() == [
        "--xla_cpu_multi_thread_eigen=true",
        "--xla_gpu_deterministic_ops=true",
    ]
