"""What two sides of a pair compute, compared directly and without the ladder.

This is how the nets are known to be right and the bugs to show at all. Everything is compared in
the JAX side's layout: what PyTorch has is sent through the pair's own `to_flax`.
"""

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
import torch

import parity

INVERTED = "deterministic", "use_running_average", "inference"
MODES = "train", "training", "is_training"
Tree = Any


def as_dtype(x: Any, dtype: str) -> Any:
    if isinstance(x, jax.Array):  # a traced one has been cast before
        return x
    x = np.asarray(x)
    return x.astype(dtype) if x.dtype.kind == "f" else x


class Sides:
    """Both sides of a pair with the same weights, in one precision."""

    def __init__(self, pair: parity.Pair, dtype: str = "float64", seed: int = 0):
        self.pair, self.dtype = pair, dtype
        self.module = pair.make_torch()
        torch.manual_seed(seed)
        self.state = self._state(seed)
        self.module.load_state_dict(
            {k: torch.from_numpy(np.array(v)) for k, v in self.state.items()}
        )
        self.module.to(getattr(torch, dtype))
        inputs, labels = pair.example_inputs, pair.labels
        if labels is None:
            classes = self.forward_torch(inputs, False).shape[-1]
            count = len(jax.tree.leaves(inputs)[0])
            labels = np.arange(count) % classes
        self.inputs, self.labels = inputs, labels
        trained = {name for name, _ in self.module.named_parameters()}
        marks = {
            name: np.full(v.shape, name in trained, np.float32) for name, v in self.state.items()
        }
        marked = pair.to_flax({k: v.astype(self.state[k].dtype) for k, v in marks.items()})
        self.trained = [bool(np.asarray(leaf).all()) for leaf in jax.tree.leaves(marked)]

    def _state(self, seed: int) -> dict[str, np.ndarray]:
        """New weights with scales, biases and statistics that are no zeros and ones."""
        rng, tied = np.random.default_rng(seed), {}
        for name, value in self.module.state_dict(keep_vars=True).items():
            array, leaf = value.detach().numpy().copy(), name.rpartition(".")[2]
            if array.dtype.kind == "f":
                if leaf == "running_var" or (leaf == "weight" and array.ndim == 1):
                    array = rng.uniform(0.5, 1.5, array.shape)
                elif array.ndim == 1 or "token" in leaf or "pos_" in leaf:
                    array = rng.uniform(-0.5, 0.5, array.shape)
                array = tied.setdefault(id(value), array.astype(np.float32))
            tied[name] = array
        return {name: tied[name] for name in self.module.state_dict()}

    @property
    def variables(self) -> Tree:
        return self.pair.to_flax({k: as_dtype(v, self.dtype) for k, v in self.state.items()})

    def inputs_jax(self, inputs: Any) -> Any:
        if self.pair.jax_inputs is not None:
            return self.pair.jax_inputs(inputs, self.dtype)

        def given(x):
            x = jnp.asarray(as_dtype(x, self.dtype))
            return x.transpose(0, 2, 3, 1) if self.pair.channels_last and x.ndim == 4 else x

        return jax.tree.map(given, inputs)

    def inputs_torch(self, inputs: Any) -> Any:
        if isinstance(inputs, np.ndarray):
            return self._tensor(self.pair.torch_inputs(inputs))
        return jax.tree.map(lambda x: self._tensor(torch.from_numpy(np.array(x))), inputs)

    def _tensor(self, x: torch.Tensor) -> torch.Tensor:
        return x.to(getattr(torch, self.dtype)) if x.is_floating_point() else x

    def forward_torch(self, inputs: Any, train: bool, keep: bool = False) -> Any:
        self.module.train(train)
        given = self.inputs_torch(inputs)
        with contextlib.nullcontext() if keep else torch.no_grad():
            return called(self.module, given)

    def forward_jax(self, variables: Tree, inputs: Any, train: bool) -> tuple[Any, Tree]:
        """(outputs, updated variables)."""
        mode = {}
        for name in inspect.signature(self.pair.jax_apply).parameters:
            if name in MODES or name in INVERTED:
                mode = {name: train != (name in INVERTED)}
        found = called(self.pair.jax_apply, self.inputs_jax(inputs), variables, **mode)
        if isinstance(found, tuple) and len(found) == 2 and alike(found[1], variables):
            return found
        return found, variables

    def loss(self, leaves: list[Any], structure: Any, inputs: Any, labels: Any) -> Any:
        variables = jax.tree.unflatten(structure, leaves)
        outputs, updated = self.forward_jax(variables, inputs, True)
        return self.pair.loss.jax(outputs, as_dtype(labels, self.dtype)), (outputs, updated)

    def torch_loss(self, outputs: Any, labels: Any) -> torch.Tensor:
        labels = self._tensor(torch.from_numpy(np.array(labels)))
        return self.pair.loss.torch(outputs, labels)

    def as_variables(self, state: dict[str, np.ndarray]) -> list[np.ndarray]:
        return [np.asarray(x) for x in jax.tree.leaves(self.pair.to_flax(state))]

    def torch_state(self) -> dict[str, np.ndarray]:
        return {k: v.detach().numpy().copy() for k, v in self.module.state_dict().items()}


def called(function: Any, inputs: Any, *first: Any, **options: Any) -> Any:
    """An array is one argument, a tuple several, a dict named ones."""
    if isinstance(inputs, dict):
        return function(*first, **inputs, **options)
    if isinstance(inputs, tuple):
        return function(*first, *inputs, **options)
    return function(*first, inputs, **options)


def alike(one: Tree, other: Tree) -> bool:
    return jax.tree.structure(one) == jax.tree.structure(other)


def distance(one: Any, other: Any) -> float:
    """The largest difference, relative to the largest value of either."""
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    if one.shape != other.shape or not np.isfinite(one).all() == np.isfinite(other).all():
        return np.inf
    largest = max(np.abs(one).max(initial=0), np.abs(other).max(initial=0))
    return float(np.abs(one - other).max(initial=0) / largest) if largest else 0.0


@contextlib.contextmanager
def shared_masks() -> Iterator[None]:
    """Dropout of both frameworks draws the same numbers, call after call."""
    calls = {"jax": 0, "torch": 0}

    def uniform(side: str, shape: Any) -> np.ndarray:
        calls[side] += 1
        return np.random.default_rng(calls[side]).random(shape)

    def bernoulli(key: Any, p: Any = 0.5, shape: Any = None, **_: Any) -> jax.Array:
        del key
        return jnp.asarray(uniform("jax", shape) < p)

    def dropout(x: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False):
        del inplace
        if not training or not p:
            return x
        kept = torch.from_numpy(uniform("torch", tuple(x.shape)) < 1 - p)
        return torch.where(kept, x / (1 - p), 0)

    with (
        mock.patch.object(jax.random, "bernoulli", bernoulli),
        mock.patch.object(torch.nn.functional, "dropout", dropout),
    ):
        yield


def outputs_differ(sides: Sides, train: bool) -> float:
    def forward(variables: Tree) -> Any:
        with shared_masks():
            return sides.forward_jax(variables, sides.inputs, train)[0]

    ours = jax.jit(forward)(sides.variables)
    with shared_masks():
        return _apart(sides, ours, sides.forward_torch(sides.inputs, train))


def _apart(sides: Sides, ours: Any, theirs: Any) -> float:
    worst = 0.0
    for one, two in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        one = np.asarray(one)
        if sides.pair.channels_last and one.ndim == 4:
            one = one.transpose(0, 3, 1, 2)
        worst = max(worst, distance(one, two.detach().numpy()))
    return worst


def inputs_differ(sides: Sides) -> float:
    if sides.pair.jax_inputs is None:
        return 0.0
    ours = np.asarray(sides.inputs_jax(sides.inputs)).transpose(0, 3, 1, 2)
    return distance(ours, sides.inputs_torch(sides.inputs).numpy())


def training_step_differs(sides: Sides) -> dict[str, float]:
    """The outputs in train mode, the loss, its gradient by every parameter, the new statistics.

    Gradients are against the largest of any of them.
    """
    sides = Sides(sides.pair, sides.dtype)
    leaves, structure = jax.tree.flatten(sides.variables)

    def loss(leaves: list[Any]) -> Any:
        with shared_masks():
            return sides.loss(leaves, structure, sides.inputs, sides.labels)

    gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (ours, (outputs, updated)), found = gradient(leaves)
    with shared_masks():
        their_outputs = sides.forward_torch(sides.inputs, True, keep=True)
    theirs = sides.torch_loss(their_outputs, sides.labels)
    theirs.backward()
    state = {name: np.zeros(v.shape, v.dtype) for name, v in sides.torch_state().items()}
    for name, parameter in sides.module.named_parameters(remove_duplicate=False):
        if parameter.grad is not None:
            state[name] = parameter.grad.numpy().copy()
    gradients, statistics = [], []
    rows = zip(
        sides.trained,
        zip(found, sides.as_variables(state), strict=True),
        zip(jax.tree.leaves(updated), sides.as_variables(sides.torch_state()), strict=True),
        strict=True,
    )
    for trained, gradient_pair, value_pair in rows:
        if trained:
            gradients.append([np.asarray(x) for x in gradient_pair])
        else:
            statistics.append(distance(*value_pair))
    largest = max(np.abs(two).max() for _, two in gradients)
    return {
        "forward": _apart(sides, outputs, their_outputs),
        "loss": distance(ours, theirs.item()),
        "gradients": float(max(np.abs(one - two).max() for one, two in gradients) / largest),
        "batch_stats": max(statistics, default=0.0),
    }


def updates_differ(sides: Sides, steps: int) -> float:
    """The parameters after `steps` of the pair's optimizer, from the same random gradients."""
    sides, optimizer = Sides(sides.pair, sides.dtype), sides.pair.optimizer.jax
    update = jax.jit(
        lambda grads, state, params: optimizer.update(grads, state, params),
    )
    theirs, rng = sides.pair.optimizer.torch(sides.module.parameters()), np.random.default_rng(0)

    def chosen(leaves: list[Any]) -> list[Any]:
        return [np.asarray(x) for x, yes in zip(leaves, sides.trained, strict=True) if yes]

    params = chosen(jax.tree.leaves(sides.variables))
    state = jax.jit(optimizer.init)(params)
    for _ in range(steps):
        grads = {name: np.zeros(v.shape, v.dtype) for name, v in sides.torch_state().items()}
        for name, parameter in sides.module.named_parameters():
            grads[name] = rng.normal(size=tuple(parameter.shape)).astype(sides.dtype)
            parameter.grad = torch.from_numpy(grads[name].copy())
        theirs.step()
        updates, state = update(chosen(sides.as_variables(grads)), state, params)
        params = [p + np.asarray(u) for p, u in zip(params, updates, strict=True)]
    wanted = chosen(sides.as_variables(sides.torch_state()))
    return max(distance(one, two) for one, two in zip(params, wanted, strict=True))


def training_differs(sides: Sides, steps: int, batches: Any = None) -> float:
    """The parameters and statistics after `steps`, by the pair's own step."""
    sides = Sides(sides.pair, sides.dtype)
    assert sides.pair.jax_step is not None
    batches = batches or [(sides.inputs, sides.labels)]
    start, step, variables_of = sides.pair.jax_step(sides.pair.optimizer.jax)
    held = start(sides.variables)
    optimizer = sides.pair.optimizer.torch(sides.module.parameters())
    for turn in range(steps):
        inputs, labels = batches[turn % len(batches)]
        inputs = jax.tree.map(lambda x: as_dtype(x, sides.dtype), inputs)
        held, _ = step(held, inputs, as_dtype(labels, sides.dtype))
        optimizer.zero_grad()
        sides.torch_loss(sides.forward_torch(inputs, True, keep=True), labels).backward()
        optimizer.step()
    wanted = sides.as_variables(sides.torch_state())
    ours = jax.tree.leaves(variables_of(held))
    return max(distance(one, two) for one, two in zip(ours, wanted, strict=True))


def likelihood_of_initial_weights(pair: parity.Pair, seeds: int = 6) -> float:
    """The least p-value, over all parameters, that both sides draw from one distribution.

    Of Kolmogorov and Smirnov's test of two samples; 0 where only one of them is constant.
    """
    assert pair.init is not None
    ours: list[list[np.ndarray]] = []
    theirs: list[list[np.ndarray]] = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        module = pair.make_torch()
        state = {name: value.detach().numpy() for name, value in module.state_dict().items()}
        theirs.append([np.ravel(x) for x in jax.tree.leaves(pair.to_flax(state))])
        ours.append([np.ravel(x) for x in jax.tree.leaves(pair.init(seed + seeds))])
    values = []
    for one, two in zip(zip(*ours, strict=True), zip(*theirs, strict=True), strict=True):
        mine, other = np.concatenate(one), np.concatenate(two)
        if not np.ptp(other):
            values.append(float(np.array_equal(mine, other)))
        else:
            tested: Any = scipy.stats.ks_2samp(mine, other, method="asymp")
            values.append(float(tested.pvalue))
    return min(values)
