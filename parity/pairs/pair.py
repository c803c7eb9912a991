"""The two implementations of one model, and what both are given when they are compared."""

import contextlib
import copy
import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from jax import tree_util
from PIL import Image
from torch import nn
from torch.nn import functional as F

import torch_ref.data
import torch_ref.models
from jax_impl.data.datasets import normalize
from jax_impl.errors import InputError
from jax_impl.models import registry
from jax_impl.models.model import Model, Variables, from_spec
from jax_impl.training.state import create_state
from jax_impl.training.step import cross_entropy, make_train_step
from parity.pairs.leafmap import LeafMap, leaf_map
from parity.pairs.optimizers import OptimizerSpec
from parity.pairs.taps import recording
from parity.pairs.weights import to_arrays, to_flax
from parity.shell.recipes import Recipe, recipe

Tensors = dict[str, np.ndarray]
"""By name, in PyTorch's names and layout."""


class Batch(NamedTuple):
    """What the pair's `torch_inputs` and `jax_inputs` take, [n, ...], and labels [n, ...].

    For the models of this project uint8 images [n, h, w, 3] and int labels [n].
    """

    images: np.ndarray
    labels: np.ndarray


class Loss(NamedTuple):
    """The mean loss of (outputs, labels) in each framework, in the outputs' dtype."""

    torch: Callable[[Any, Any], Any]
    jax: Callable[[Any, Any], Any]


class Optimizer(NamedTuple):
    """The optimizer in each framework: `torch(parameters)`, and an Optax transformation."""

    torch: Callable[[Any], torch.optim.Optimizer]
    jax: optax.GradientTransformation


CROSS_ENTROPY = Loss(F.cross_entropy, lambda logits, y: cross_entropy(logits, y).mean())


def named_optimizer(name: str, lr: float, **options: Any) -> Optimizer:
    """One of `optim.OPTIMIZERS` with PyTorch's options and, for the others, defaults."""
    made = OptimizerSpec(name, lr, options)
    return Optimizer(lambda parameters: made.to_torch(parameters).optimizer, made.to_optax())


def _as_given(inputs: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(inputs))


@dataclasses.dataclass(frozen=True)
class Pair:
    """One model in both frameworks, and how each is fed, trained and compared.

    Args:
        torch_module: a module, which is copied for each use, or a function that makes one.
        jax_apply: `jax_apply(variables, inputs)` -> outputs; a function that also takes `train=`
            (bool) is told the mode, and may return (outputs, variables with updated statistics).
        to_flax: a state_dict of NumPy arrays -> the variables, any pytree. It may move numbers
            (transpose, reshape, split, join) and drop them, not change them.
        example_inputs: a batch [n, ...] in PyTorch's layout.
        labels: of the examples; by default class indices made up from the outputs' shape.
        channels_last: images are NHWC in JAX: inputs and outputs of modules with four axes are
            transposed, but for the outputs of the modules in `channels_last_in_torch`.
        jax_inputs, torch_inputs: from a batch's inputs to what each model is called with.
        names: a JAX module's recorded path -> the PyTorch module's name; by default the same.
        loss, optimizer: what both are trained with.
        init: seed -> variables, for the `init` rung.
        jax_step: for a training step of your own, see `Case.stepper`.
    """

    name: str
    torch_module: nn.Module | Callable[[], nn.Module]
    jax_apply: Callable[..., Any]
    to_flax: Callable[[dict[str, np.ndarray]], Any]
    example_inputs: np.ndarray | None = None
    labels: np.ndarray | None = None
    channels_last: bool = False
    channels_last_in_torch: tuple[str, ...] = ()
    jax_inputs: Callable[[Any, str], jax.Array] | None = None
    torch_inputs: Callable[[np.ndarray], torch.Tensor] = _as_given
    names: Callable[[str], str] = str
    loss: Loss = CROSS_ENTROPY
    optimizer: Optimizer = dataclasses.field(default_factory=lambda: named_optimizer("adam", 1e-3))
    init: Callable[[int], Any] | None = None
    jax_step: Callable[..., Any] | None = None

    def make_torch(self) -> nn.Module:
        """A new PyTorch module."""
        if isinstance(self.torch_module, nn.Module):
            return copy.deepcopy(self.torch_module)
        return self.torch_module()

    @functools.cached_property
    def takes_train(self) -> bool:
        """Whether `jax_apply` is told the mode."""
        parameters = inspect.signature(self.jax_apply).parameters.values()
        return any(p.name == "train" or p.kind is p.VAR_KEYWORD for p in parameters)

    @functools.cached_property
    def parameters(self) -> dict[str, tuple[int, ...]]:
        """The PyTorch module's parameters by name: their shapes."""
        return {name: tuple(p.shape) for name, p in self.make_torch().named_parameters()}

    @functools.cached_property
    def leaf_map(self) -> LeafMap:
        """Where each number of the state_dict is in the variables."""
        return leaf_map(self.to_flax, arrays_of(self.make_torch()), set(self.parameters))


@dataclasses.dataclass(frozen=True)
class ModelPair(Pair):
    """A pair whose JAX side is a `jax_impl` model on uint8 images, trained by a recipe."""

    model: Model = dataclasses.field(kw_only=True)
    recipe: Recipe = dataclasses.field(kw_only=True)


def model_pair(
    name: str, model: Model, make_torch: Callable[[], nn.Module], recipe: Recipe
) -> ModelPair:
    """The pair of a `jax_impl` model on uint8 images [n, h, w, 3], trained by its recipe."""

    def apply(variables: Variables, images: jax.Array, train: bool = False) -> Any:
        logits, stats = model.apply(variables, images, train=train)
        return logits, Variables(variables.params, stats)

    return ModelPair(
        name,
        make_torch,
        apply,
        lambda state: to_flax(state, model),
        channels_last=True,
        jax_inputs=normalize,
        torch_inputs=_transformed,
        loss=CROSS_ENTROPY,
        optimizer=named_optimizer(recipe.optimizer, recipe.lr),
        init=model.init,
        jax_step=functools.partial(model_step, model),
        model=model,
        recipe=recipe,
    )


def _transformed(images: np.ndarray) -> torch.Tensor:
    """The notebook's transform: uint8 [n, h, w, 3] -> float32 [n, 3, h, w]."""
    found = [torch_ref.data.TRANSFORM(Image.fromarray(image)) for image in images]
    return torch.stack(found)  # pyright: ignore[reportArgumentType]


def model_step(model: Model, optimizer: optax.GradientTransformation) -> Any:
    """This project's own jitted training step as a stepper."""
    step = make_train_step(model, optimizer)
    return (
        lambda variables: create_state(variables, optimizer),
        step,
        lambda state: state.variables,
    )


def create_pair(spec: registry.Spec | str) -> ModelPair:
    """The pair of the registry that a spec, or its text NAME[:OPTION=VALUE]..., describes."""
    if isinstance(spec, str):
        spec = registry.parse(spec)
    options = dataclasses.asdict(spec.options)
    return model_pair(
        str(spec),
        from_spec(spec),
        lambda: torch_ref.models.create_model(spec.name, **options),
        recipe(spec.name),
    )


Side = Callable[[Tensors, Batch], Tensors]
"""What one framework computes from shared weights, a state_dict, and a batch."""


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
        """The JAX variables of a state_dict, in the case's precision."""
        dtype = jnp.dtype(self.dtype)
        cast = {
            name: value.astype(dtype) if jnp.issubdtype(value.dtype, jnp.floating) else value
            for name, value in state.items()
        }
        with precision(self.dtype):
            return self.pair.to_flax(cast)

    def apply(self, variables: Any, inputs: Any, train: bool) -> tuple[jax.Array, Any]:
        """(outputs, variables with updated statistics) of a batch's inputs."""
        return self.call(variables, self.jax_inputs(inputs), train)

    def call(self, variables: Any, x: Any, train: bool) -> tuple[jax.Array, Any]:
        """The same of what `jax_inputs` makes."""
        call = self.pair.jax_apply
        out = call(variables, x, train=train) if self.pair.takes_train else call(variables, x)
        if not isinstance(out, tuple):
            return out, variables
        outputs, updated = out
        return outputs, updated

    def jax_inputs(self, inputs: Any) -> jax.Array:
        """A batch's inputs as the JAX model is called with them."""
        pair = self.pair
        if pair.jax_inputs is not None:
            return pair.jax_inputs(inputs, self.dtype)
        x = jnp.asarray(inputs)
        if jnp.issubdtype(x.dtype, jnp.floating):
            x = x.astype(self.dtype)
        return jnp.transpose(x, (0, 2, 3, 1)) if pair.channels_last and x.ndim == 4 else x

    def to_torch_layout(self, value: Any, module: str = "") -> np.ndarray:
        """An input, or the output of a module, in PyTorch's layout."""
        array, pair = np.asarray(value), self.pair
        transposed = pair.channels_last and module not in pair.channels_last_in_torch
        return array.transpose(0, 3, 1, 2) if transposed and array.ndim == 4 else array

    def recorded(
        self, variables: Any, inputs: Any, train: bool, perturbations: Any = None
    ) -> tuple[jax.Array, Any, dict[str, jax.Array]]:
        """`apply`, and every module's output under PyTorch's name."""
        renamed = self.pair.names
        with recording(perturbations) as recorder:
            outputs, variables = self.apply(variables, inputs, train)
        return outputs, variables, {renamed(n): v for n, v in recorder.outputs.items()}

    def loss(
        self, trainable: list[Any], others: list[Any], x: Any, labels: Any
    ) -> tuple[jax.Array, list[Any]]:
        """The mean loss in train mode of what `jax_inputs` makes, and the updated other leaves."""
        leaf_map = self.pair.leaf_map
        outputs, updated = self.call(leaf_map.join(trainable, others), x, train=True)
        return self.pair.loss.jax(outputs, labels), leaf_map.split(updated)[1]

    def stepper(self) -> tuple[Callable, Callable, Callable]:
        """(variables -> state, (state, inputs, labels) -> (state, loss), state -> variables).

        The pair's own `jax_step(optax transformation)` if it has one: three such functions.
        """
        pair, optimizer = self.pair, self.pair.optimizer.jax
        if pair.jax_step is not None:
            return pair.jax_step(optimizer)
        gradient = jax.value_and_grad(self.loss, has_aux=True)

        def start(variables: Any) -> Any:
            trainable, others = pair.leaf_map.split(variables)
            return trainable, others, optimizer.init(trainable)

        def step(state: Any, inputs: Any, labels: Any) -> Any:
            trainable, others, opt_state = state
            x = self.jax_inputs(inputs)
            (loss, others), gradients = gradient(trainable, others, x, labels)
            updates, opt_state = optimizer.update(gradients, opt_state, trainable)
            return (optax.apply_updates(trainable, updates), others, opt_state), loss

        return start, self.compiled(step), lambda state: pair.leaf_map.join(state[0], state[1])

    def torch_model(self, state: Mapping[str, np.ndarray]) -> nn.Module:
        """The twin with these weights, in train mode, in the case's precision."""
        module = self.pair.make_torch().to(self.device, getattr(torch, self.dtype))
        module.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in state.items()})
        return module.train()

    def torch_batch(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs as the PyTorch model is called with them, and labels."""
        inputs = self.pair.torch_inputs(batch.images).to(self.device)
        if inputs.is_floating_point():
            inputs = inputs.to(getattr(torch, self.dtype))
        labels = torch.from_numpy(np.asarray(batch.labels))
        if labels.is_floating_point():
            labels = labels.to(getattr(torch, self.dtype))
        else:
            labels = labels.long()
        return inputs, labels.to(self.device)


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """A copy of the tensor; NumPy has no bfloat16, whose values come as float32."""
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy().copy()


def arrays_of(module: nn.Module) -> Tensors:
    """A module's state_dict as NumPy arrays."""
    return {name: to_numpy(value) for name, value in module.state_dict().items()}


def example_batch(pair: Pair) -> Batch:
    """The pair's examples, with labels.

    Raises:
        InputError: it has none.
    """
    if pair.example_inputs is None:
        raise InputError(f"{pair.name}: the pair has no example_inputs")
    inputs = np.asarray(pair.example_inputs)
    if pair.labels is not None:
        return Batch(inputs, np.asarray(pair.labels))
    with torch.no_grad():
        outputs = pair.make_torch().eval()(pair.torch_inputs(inputs))
    if outputs.ndim != 2:
        raise InputError(f"{pair.name}: its outputs are no logits [n, classes]: give labels")
    return Batch(inputs, np.arange(len(inputs)) % outputs.shape[1])


@contextlib.contextmanager
def precision(dtype: str) -> Iterator[None]:
    """JAX with 64 bits where `dtype` needs them, and float32 products in full precision."""
    with jax.enable_x64(dtype == "float64"), jax.default_matmul_precision("highest"):
        yield


def randomised_state(pair: Pair, seed: int) -> Tensors:
    """A new module's weights from `seed`, with random normalisation statistics, scales and biases.

    Fresh ones are all zeros and ones, which hide a missing or misplaced term.
    """
    torch.manual_seed(seed)
    module, rng = pair.make_torch(), np.random.default_rng(seed)
    state = arrays_of(module)
    for name, value in state.items():
        if value.dtype.kind != "f":
            continue
        owner = module.get_submodule(name.rpartition(".")[0])
        kind = name.rpartition(".")[2]
        if kind == "running_var" or (kind == "weight" and value.ndim == 1):
            state[name] = rng.uniform(0.5, 1.5, value.shape).astype(np.float32)
        elif kind in ("running_mean", "bias"):
            state[name] = rng.uniform(-0.5, 0.5, value.shape).astype(np.float32)
        elif not np.ptp(value) and not isinstance(owner, nn.Linear | nn.Conv2d):
            state[name] = (value + rng.uniform(-0.5, 0.5, value.shape)).astype(np.float32)
    return state


def randomised(variables: Variables, seed: int) -> Variables:
    """The same for variables of a `jax_impl` model, as float32."""
    rng = np.random.default_rng(seed)

    def draw(keys, leaf):
        kind = keys[-1].key
        if kind in ("scale", "var"):
            return jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape), jnp.float32)
        if kind in ("bias", "mean"):
            return jnp.asarray(rng.uniform(-0.5, 0.5, leaf.shape), jnp.float32)
        return leaf

    return tree_util.tree_map_with_path(draw, variables)


def shared_weights(pair: Pair, seed: int) -> Tensors:
    """Random weights for both sides; a `jax_impl` model's come from `init(seed)`, as trained."""
    if not isinstance(pair, ModelPair):
        return randomised_state(pair, seed)
    return to_arrays(randomised(pair.model.init(seed), seed), pair.model)
