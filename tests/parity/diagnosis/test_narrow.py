"""bfloat16 and float16 inside of a model are told as what they are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from torch import nn

import parity
from parity.checking import climb_all
from parity.diagnosis.narrow import CannotWiden, widened

X = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)


@jax.custom_jvp
def own(x):
    return jnp.tanh(x.astype(jnp.bfloat16)).astype(x.dtype)


own.defjvps(lambda tangent, out, x: tangent)


@pytest.mark.parametrize(
    "function, wide",
    [
        (lambda x: (x.astype(jnp.bfloat16) @ x.T.astype(jnp.bfloat16)).astype(x.dtype),
         lambda x: x @ x.T),
        (jax.jit(lambda x: jax.nn.softmax(x.astype(jnp.float16)).astype(x.dtype)), jax.nn.softmax),
        (own, jnp.tanh),
        (lambda x: {"out": x.astype(jnp.bfloat16).sum() + jnp.ones([], jnp.bfloat16)},
         lambda x: {"out": x.sum() + 1}),
    ],
)  # fmt: skip
def test_a_function_is_computed_in_full_precision(function, wide):
    with jax.enable_x64(True):
        x = jnp.asarray(X, jnp.float64)
        found, expected = widened(function)(x), wide(x)
        assert jax.tree.structure(found) == jax.tree.structure(expected)
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            assert a.dtype == jnp.float64
            np.testing.assert_allclose(a, b, rtol=1e-14)


def test_a_loop_in_bfloat16_is_refused():
    def looped(x):
        return jax.lax.scan(lambda c, row: (c + row, c), x[0], x)

    with jax.enable_x64(True):
        with pytest.raises(CannotWiden):
            widened(looped)(jnp.asarray(X, jnp.bfloat16))
        assert widened(looped)(jnp.asarray(X, jnp.float64))[0].shape == (6,)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.gate, self.fc2 = nn.Linear(6, 6), nn.Softmax(-1), nn.Linear(6, 3)

    def forward(self, x):
        return self.fc2(self.gate(self.fc1(x)))


def net(narrow, eps=0.0):
    def apply(v, x):
        x = x @ v["fc1.weight"].T + v["fc1.bias"]
        return jax.nn.softmax(x.astype(narrow)).astype(x.dtype) @ v["fc2.weight"].T + (
            (1 + eps) * v["fc2.bias"]
        )

    return parity.Pair(
        "net",
        Net,
        apply,
        lambda state: {name: jnp.asarray(value) for name, value in state.items()},
        example_inputs=X,
    )


@pytest.mark.parametrize("narrow", ["bfloat16", "float16"])
def test_narrow_arithmetic_is_the_cause_where_it_is_all(narrow):
    failing = [r for r in climb_all(net(narrow), ["forward"]) if r.passed is False]
    why = failing[0].diagnosis
    assert why is not None and why.cause == f"it computes in {narrow} inside, in JAX"
    assert "gate" in why.faults[0].places
    # Beside a fault that no suspect explains it is not all.
    failing = [r for r in climb_all(net(narrow, eps=0.1), ["forward"]) if r.passed is False]
    assert failing[0].diagnosis is not None and failing[0].diagnosis.cause is None
