"""What the two sides of a pair compute, in float64 and in the JAX side's layout, without the suite.

A gradient, like a new state_dict, has the names and shapes of the weights, and a converter only
moves numbers: so `to_flax` of PyTorch's gradients is what JAX's must be.
"""

import contextlib
import inspect
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import tree_util
from torch.nn import functional as F

import parity

INVERTED = "deterministic", "use_running_average", "inference"
MODES = "train", "training", "is_training", *INVERTED
STATISTICS = "running_mean", "running_var"


def weights(pair: parity.Pair, seed: int) -> dict[str, np.ndarray]:
    """A new module's state_dict, of which no entry is all zeros or ones."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    state = {}
    for name, value in pair.make_torch().state_dict().items():
        array = value.double().numpy() if value.is_floating_point() else value.numpy()
        if array.dtype == np.float64 and array.ndim == 1:
            array = np.abs(array + rng.uniform(-0.4, 0.4, array.shape))
        state[name] = array
    return state


def positional(inputs: Any) -> tuple[list[Any], dict[str, Any]]:
    """(positional arguments, keyword arguments) of a pair's `example_inputs`."""
    if isinstance(inputs, dict):
        return [], inputs
    return (list(inputs) if isinstance(inputs, tuple) else [inputs]), {}


def wide(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64) if array.dtype.kind == "f" else array


@contextlib.contextmanager
def shared_masks():
    """Dropout drops the same in both frameworks: what the n-th call's own generator says."""
    calls = iter(range(1000))

    def kept(shape, probability):
        return np.random.default_rng(next(calls)).random(tuple(shape)) < probability

    def bernoulli(key, p=0.5, shape=(), **_):
        return jnp.asarray(kept(shape, p))

    def dropped(x, p=0.5, training=True, inplace=False):
        return x * torch.from_numpy(kept(x.shape, 1 - p)) / (1 - p) if training else x

    with mock.patch.object(jax.random, "bernoulli", bernoulli):
        with mock.patch.object(F, "dropout", dropped):
            yield


def in_torch(pair: parity.Pair, state: dict[str, np.ndarray]) -> dict[str, Any]:
    """Outputs in both modes; gradients and the new statistics as JAX has them."""
    module = pair.make_torch().double()
    module.load_state_dict({name: torch.from_numpy(v.copy()) for name, v in state.items()})
    tensors = jax.tree.map(lambda x: torch.from_numpy(wide(np.asarray(x))), pair.example_inputs)
    args, kwargs = positional(tensors)
    labels = torch.from_numpy(wide(np.asarray(pair.labels)))
    found = {"outputs in eval mode": module.eval()(*args, **kwargs)}
    outputs = found["outputs in train mode"] = module.train()(*args, **kwargs)
    pair.loss.torch(outputs, labels).backward()
    # A tied weight has several names and one gradient.
    named = dict(module.named_parameters(remove_duplicate=False))
    gradients = {name: np.zeros_like(value) for name, value in state.items()}
    for name, parameter in named.items():
        if parameter.grad is not None:
            gradients[name] = parameter.grad.numpy()
    new = {name: value.detach().numpy() for name, value in module.state_dict().items()}
    to_numpy = {key: jax.tree.map(lambda x: x.detach().numpy(), v) for key, v in found.items()}
    return to_numpy | {"gradients": pair.to_flax(gradients), "variables": pair.to_flax(new)}


def in_jax(pair: parity.Pair, state: dict[str, np.ndarray]) -> dict[str, Any]:
    """The same of the JAX side; frozen parameters and statistics have gradients of zero."""
    leaves, tree = jax.tree.flatten(pair.to_flax(state))
    trained = trained_leaves(pair, state)
    inputs = jax.tree.map(lambda x: moved(pair, jnp.asarray(wide(x))), pair.example_inputs)
    args, kwargs = positional(inputs)
    labels = jnp.asarray(wide(np.asarray(pair.labels)))
    mode = next((m for m in MODES if m in inspect.signature(pair.jax_apply).parameters), None)

    def call(leaves, train):
        variables = jax.tree.unflatten(tree, leaves)
        told = {} if mode is None else {mode: train != (mode in INVERTED)}
        out = pair.jax_apply(variables, *args, **kwargs, **told)
        if isinstance(out, tuple) and len(out) == 2 and jax.tree.structure(out[1]) == tree:
            return out
        return out, variables

    def merged(chosen, leaves):
        taken = iter(chosen)
        return [next(taken) if t else x for t, x in zip(trained, leaves, strict=True)]

    def loss(chosen, leaves):
        outputs, new = call(merged(chosen, leaves), True)
        return pair.loss.jax(outputs, labels), (outputs, new)

    def everything(leaves):
        chosen = [x for t, x in zip(trained, leaves, strict=True) if t]
        gradients, (outputs, new) = jax.grad(loss, has_aux=True)(chosen, leaves)
        return call(leaves, False)[0], outputs, gradients, new

    # Compiled quickly: each runs once.
    fast = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    evaluated, outputs, gradients, new = jax.jit(everything, compiler_options=fast)(leaves)
    gradients = merged(gradients, [0 * x for x in leaves])
    return {
        "outputs in eval mode": jax.tree.map(lambda x: moved(pair, x, back=True), evaluated),
        "outputs in train mode": jax.tree.map(lambda x: moved(pair, x, back=True), outputs),
        "gradients": jax.tree.unflatten(tree, gradients),
        "variables": new,
    }


def trained_leaves(pair: parity.Pair, state: dict[str, np.ndarray]) -> list[bool]:
    """Of each leaf of the variables, whether it is of a parameter that is trained."""
    named = pair.make_torch().named_parameters(remove_duplicate=False)
    trained = {name for name, parameter in named if parameter.requires_grad}
    ones = {n: np.full_like(v, n in trained) for n, v in state.items()}
    return [bool(np.all(leaf)) for leaf in jax.tree.leaves(pair.to_flax(ones))]


def moved(pair: parity.Pair, x: jax.Array, back: bool = False) -> jax.Array:
    """Maps from PyTorch's layout to JAX's, or back."""
    if not (pair.channels_last and x.ndim == 4):
        return x
    return x.transpose((0, 3, 1, 2) if back else (0, 2, 3, 1))


def differences(pair: parity.Pair, seed: int) -> dict[str, float]:
    """The largest relative difference in each of the four parts.

    A part's tensors are measured by their own largest value, and by a thousandth of the part's, for
    those that are zero by mathematics.
    """
    with jax.enable_x64(True):
        state = weights(pair, seed)
        with shared_masks():
            theirs = in_torch(pair, state)
        with shared_masks():
            ours = in_jax(pair, state)
        return {part: difference(ours[part], theirs[part]) for part in theirs}


def difference(ours: Any, theirs: Any) -> float:
    """The largest of two trees' leaves; they have the same paths and shapes."""
    first, second = (tree_util.tree_flatten_with_path(tree)[0] for tree in (ours, theirs))
    assert [(p, np.shape(x)) for p, x in first] == [(p, np.shape(x)) for p, x in second]
    arrays = [(np.asarray(a), np.asarray(b)) for (_, a), (_, b) in zip(first, second, strict=True)]
    largest = max(np.abs(b).max() for _, b in arrays)
    scales = [np.abs(b).max() + 1e-3 * largest for _, b in arrays]
    pairs = zip(arrays, scales, strict=True)
    found = [np.abs(a - b).max() / (scale or 1.0) for (a, b), scale in pairs]
    return float(np.max(found))  # NaN if one of them is
