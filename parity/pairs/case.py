"""A pair computed at one precision: how each side's model is called, fed and stepped."""

import contextlib
import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from torch import nn

from parity.pairs.calling import split_updates
from parity.pairs.fixed_leaves import hidden, shown
from parity.pairs.heap import trim
from parity.pairs.masks import SharedInTorch, shared_in_jax
from parity.pairs.pair import Batch, Pair, Tensors
from parity.pairs.taps import recording
from parity.pairs.trees import arguments, map_arrays
from parity.pairs.widening import widened

Side = Callable[[Tensors, Batch], Tensors]
"""What one framework computes from shared weights, a state_dict, and a batch."""

Around = Callable[[nn.Module], contextlib.AbstractContextManager[Any]]
_around: ContextVar[tuple[Around, ...]] = ContextVar("around", default=())


@contextlib.contextmanager
def around(context: Around) -> Iterator[None]:
    """Every call of a PyTorch model inside is made within `context(module)`."""
    token = _around.set((*_around.get(), context))
    try:
        yield
    finally:
        _around.reset(token)


@contextlib.contextmanager
def precision(dtype: str) -> Iterator[None]:
    """JAX with 64 bits where `dtype` needs them, float32 products in full, dropout as PyTorch's."""
    with (
        jax.enable_x64(dtype == "float64"),
        jax.default_matmul_precision("highest"),
        shared_in_jax(),
    ):
        yield


def _cast(leaf: Any, dtype: Any) -> Any:
    """The leaf in another precision; a weakly typed number in that of now."""
    if getattr(leaf, "weak_type", False) and not jnp.ndim(leaf):
        return jnp.asarray(leaf.item())
    floating = jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
    return jnp.asarray(leaf, dtype) if floating else leaf


@dataclasses.dataclass(frozen=True)
class Case:
    """A pair, and the precision and PyTorch's device to compute with.

    Weights are a state_dict of float32 NumPy arrays in every case: float64 casts the same numbers,
    so that it tells what float32 rounds away. The methods for JAX are called inside
    `precision(self.dtype)`.
    """

    pair: Pair
    dtype: str
    device: str = "cpu"
    jit: bool = True

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function` jitted, unless the case asks for single operations."""
        return jax.jit(function) if self.jit else function

    def variables(self, state: Mapping[str, np.ndarray]) -> Any:
        """The JAX variables of a state_dict, in the case's precision.

        Where the converter takes float32 alone, as one that sets a state of Equinox's does, what it
        makes is cast.
        """
        trim()
        dtype = jnp.dtype(self.dtype)
        cast = {
            name: value.astype(dtype) if jnp.issubdtype(value.dtype, jnp.floating) else value
            for name, value in state.items()
        }
        # Weights of zeros, as the optimizer's rung has, may be divided by their norm.
        with np.errstate(all="ignore"):
            try:
                with precision(self.dtype):
                    return self.pair.converted(cast)
            except (TypeError, ValueError):
                if self.dtype == "float32":
                    raise
            narrow = Case(self.pair, "float32").variables(state)
            with precision(self.dtype):
                return jax.tree.map(lambda leaf: _cast(leaf, dtype), narrow)

    def apply(self, variables: Any, inputs: Any, train: bool) -> tuple[Any, Any]:
        """(outputs, variables with updated statistics) of a batch's inputs."""
        return self.call(variables, self.jax_inputs(inputs), train)

    def call(self, variables: Any, made: Any, train: bool) -> tuple[Any, Any]:
        """The same of what `jax_inputs` makes."""
        pair, (args, kwargs) = self.pair, arguments(made)
        mode = {} if pair.mode_argument is None else pair.mode_argument.argument(train)
        variables = shown(variables)
        returned = pair.jax_apply(variables, *args, **kwargs, **mode)
        outputs, updated = split_updates(returned, variables, pair.updates)
        return pair.our_outputs(outputs), hidden(updated)

    def jax_inputs(self, inputs: Any) -> Any:
        """A batch's inputs as the JAX model is called with them."""
        if self.pair.jax_inputs is not None:
            return self.pair.jax_inputs(inputs, self.dtype)

        def made(leaf: Any) -> jax.Array:
            x = jnp.asarray(leaf)
            if jnp.issubdtype(x.dtype, jnp.floating):
                x = x.astype(self.dtype)
            return jnp.transpose(x, (0, 2, 3, 1)) if self.pair.channels_last and x.ndim == 4 else x

        return map_arrays(made, inputs)

    def to_torch_layout(self, value: Any) -> np.ndarray:
        """An input, or the gradient by it, in PyTorch's layout."""
        array = np.asarray(value)
        transposed = self.pair.channels_last and array.ndim == 4
        return array.transpose(0, 3, 1, 2) if transposed else array

    def recorded(
        self, variables: Any, made: Any, train: bool, perturbations: Any = None
    ) -> tuple[Any, Any, dict[str, jax.Array]]:
        """`call`, and every module's output under PyTorch's name."""
        renamed = self.pair.names
        with jax.ensure_compile_time_eval():  # the names may be asked for inside of a trace
            names = self.pair.names_by_weights
        with recording(perturbations, names) as recorder:
            outputs, variables = self.call(variables, made, train)
        return outputs, variables, {renamed(n): v for n, v in recorder.outputs.items()}

    def loss(
        self, trainable: list[Any], others: list[Any], made: Any, labels: Any
    ) -> tuple[jax.Array, list[Any]]:
        """The mean loss in train mode of what `jax_inputs` makes, and the updated other leaves."""
        leaf_map = self.pair.leaf_map
        outputs, updated = self.call(leaf_map.join(trainable, others), made, self.pair.trains)
        return self.pair.loss.jax(outputs, labels), leaf_map.split(updated)[1]

    def stepper(self) -> tuple[Callable, Callable, Callable]:
        """(variables -> state, (state, inputs, labels) -> (state, loss), state -> variables).

        The pair's own `jax_step(optax transformation)` if it has one: three such functions. It is
        given inputs in the case's precision, in PyTorch's layout.
        """
        pair, optimizer = self.pair, self.pair.optimizer.jax
        if pair.jax_step is not None:
            begin, own, variables_of = pair.jax_step(optimizer)

            def given(state: Any, inputs: Any, labels: Any) -> Any:
                return own(state, map_arrays(self._in_dtype, inputs), labels)

            return lambda v: begin(shown(v)), given, lambda state: hidden(variables_of(state))
        gradient = jax.value_and_grad(self.loss, has_aux=True)

        def start(variables: Any) -> Any:
            trainable, others = pair.leaf_map.split(variables)
            return trainable, others, optimizer.init(trainable)

        def step(state: Any, inputs: Any, labels: Any) -> Any:
            trainable, others, opt_state = state
            made = self.jax_inputs(inputs)
            (loss, others), gradients = gradient(trainable, others, made, labels)
            updates, opt_state = optimizer.update(gradients, opt_state, trainable)
            return (optax.apply_updates(trainable, updates), others, opt_state), loss

        return start, self.compiled(step), lambda state: pair.leaf_map.join(state[0], state[1])

    def torch_model(self, state: Mapping[str, np.ndarray]) -> nn.Module:
        """The twin with these weights, in train mode, in the case's precision."""
        trim()
        module = self.pair.make_torch().to(self.device, getattr(torch, self.dtype))
        module.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in state.items()})
        return module.train(self.pair.trains)

    def torch_call(self, module: nn.Module, inputs: Any) -> Any:
        """The twin's outputs, with the dropout of JAX; inputs as `torch_batch` gives them.

        Arrays that the model may change in place are copied.
        """
        args, kwargs = arguments(map_arrays(lambda leaf: leaf.clone(), inputs))
        with contextlib.ExitStack() as stack:
            stack.enter_context(SharedInTorch())
            for context in _around.get():
                stack.enter_context(context(module))
            return self.pair.their_outputs(module(*args, **kwargs))

    def torch_loss(self, outputs: Any, labels: Any) -> torch.Tensor:
        """The twin's loss; its own weights of classes are cast to the outputs' precision."""
        return widened(self.pair.loss.torch)(outputs, labels)

    def torch_batch(self, batch: Batch) -> tuple[Any, Any]:
        """Inputs as the PyTorch model is called with them, and labels."""
        inputs = map_arrays(self._tensor, self.pair.torch_inputs(copy.copy(batch.inputs)))
        return inputs, self.torch_labels(batch.labels)

    def torch_labels(self, labels: Any) -> Any:
        """Labels as tensors: floats in the case's precision, integers as int64."""

        def made(leaf: Any) -> torch.Tensor:
            tensor = torch.from_numpy(np.array(leaf))
            integers = not tensor.is_floating_point() and tensor.dtype != torch.bool
            return self._tensor(tensor.long() if integers else tensor)

        return map_arrays(made, labels)

    def _in_dtype(self, leaf: Any) -> Any:
        floating = jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
        return leaf.astype(self.dtype) if floating else leaf

    def _tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        dtype = getattr(torch, self.dtype) if tensor.is_floating_point() else tensor.dtype
        return tensor.to(self.device, dtype)
