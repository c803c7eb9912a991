"""The two implementations of one model, and what both are given when they are compared."""

import copy
import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import jax
import numpy as np
import optax
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

import torch_ref.data
import torch_ref.models
from jax_impl.data.datasets import normalize
from jax_impl.errors import InputError, one_line, shown
from jax_impl.models import registry
from jax_impl.models.model import Model, Variables, from_spec
from jax_impl.training.state import create_state
from jax_impl.training.step import cross_entropy, make_train_step
from parity.pairs.blame import of_the_user
from parity.pairs.calling import Mode, mode_of
from parity.pairs.fixed_leaves import hidden, is_numbers
from parity.pairs.leafmap import LeafMap, leaf_map
from parity.pairs.naming import names_by_weights
from parity.pairs.optimizers import OptimizerSpec
from parity.pairs.trees import map_arrays
from parity.pairs.weights import to_flax
from parity.shell.recipes import Recipe, recipe

Tensors = dict[str, np.ndarray]
"""By name, in PyTorch's names and layout."""


class Batch(NamedTuple):
    """What the pair's `torch_inputs` and `jax_inputs` take, and labels: trees of arrays [n, ...].

    For the models of this project uint8 images [n, h, w, 3] and int labels [n].
    """

    inputs: Any
    labels: Any


class Loss(NamedTuple):
    """The mean loss of (outputs, labels) in each framework, in the outputs' dtype."""

    torch: Callable[[Any, Any], Any]
    jax: Callable[[Any, Any], Any]


class Outputs(NamedTuple):
    """What is made of each model's outputs before they are compared and given to the loss."""

    torch: Callable[[Any], Any]
    jax: Callable[[Any], Any]


class Optimizer(NamedTuple):
    """The optimizer in each framework: `torch(parameters)`, and an Optax transformation."""

    torch: Callable[[Any], torch.optim.Optimizer]
    jax: optax.GradientTransformation


MODES = "eval", "train"
_FUNCTIONS = "torch_module", "jax_apply", "to_flax", "torch_inputs", "names"
_MAYBE_FUNCTIONS = "jax_inputs", "init", "jax_step"

CROSS_ENTROPY = Loss(F.cross_entropy, lambda logits, y: cross_entropy(logits, y).mean())


def named_optimizer(name: str, lr: float, **options: Any) -> Optimizer:
    """One of `optimizer_names.OPTIMIZERS` with PyTorch's options and, for the others, defaults."""
    __tracebackhide__ = True
    made = OptimizerSpec(name, lr, options)
    try:
        ours = made.to_optax()
    except TypeError as error:  # an option that it does not have, or of another kind
        raise InputError(f"the optimizer {name}: {one_line(error)}") from error
    return Optimizer(lambda parameters: made.to_torch(parameters).optimizer, ours)


def _as_given(inputs: Any) -> Any:
    return map_arrays(lambda leaf: torch.from_numpy(np.array(leaf)), inputs)


@dataclasses.dataclass(frozen=True)
class Pair:
    """One model in both frameworks, and how each is fed, trained and compared.

    Inputs and outputs are an array or any tree of arrays. A tuple of inputs is passed as positional
    arguments, a dict as keyword arguments. Outputs are matched by path, as "logits" or "hidden.0".

    Args:
        torch_module: a module, which is copied for each use, or a function that makes one.
        jax_apply: `jax_apply(variables, inputs)` -> outputs, or (outputs, variables with updated
            statistics).
        to_flax: a state_dict of NumPy arrays -> the variables, any pytree. Numbers that it moves,
            scales or shifts are compared in gradients and training too; of what it makes otherwise
            (fused weights) the outputs and the loss alone.
        example_inputs: a batch [n, ...] in PyTorch's layout.
        labels: of the examples; by default class indices made up from the outputs' shape, or where
            they are no logits [n, classes] none, with a loss of the outputs themselves.
        channels_last: images are NHWC in JAX: inputs and outputs with four axes are transposed.
        channels_last_in_torch: modules of PyTorch's whose outputs are NHWC too; where shapes or
            values tell, they need not be named.
        jax_inputs, torch_inputs: from a batch's inputs to what each model is called with.
        names: a JAX module's recorded path -> the PyTorch module's name; by default that of the
            module whose weights it has, or else the same.
        loss, optimizer: what both are trained with.
        init: seed -> variables, for the `init` rung.
        jax_step: for a training step of your own, see `Case.stepper`.
        outputs: from a model's outputs to what is compared, one function for both or `Outputs`.
        updates: whether `jax_apply` returns (outputs, variables); by default it does where the
            second of two has the structure of the variables.
        mode: the name of the argument of `jax_apply` that tells the mode; by default train,
            training or is_training, or deterministic, use_running_average or inference, which are
            true in eval mode.
        modes: those that are compared; ("eval",) for a port that only infers.
        accept: departures that are as they should be, by name: "biased running variance".
        dtypes: of "float64", "float32" and "bfloat16", the precisions that are compared.
    """

    name: str
    torch_module: nn.Module | Callable[[], nn.Module]
    jax_apply: Callable[..., Any]
    to_flax: Callable[[dict[str, np.ndarray]], Any]
    example_inputs: Any = None
    labels: Any = None
    channels_last: bool = False
    channels_last_in_torch: tuple[str, ...] = ()
    jax_inputs: Callable[[Any, str], Any] | None = None
    torch_inputs: Callable[[Any], Any] = _as_given
    names: Callable[[str], str] = str
    loss: Loss = CROSS_ENTROPY
    optimizer: Optimizer = dataclasses.field(default_factory=lambda: named_optimizer("adam", 1e-3))
    init: Callable[[int], Any] | None = None
    jax_step: Callable[..., Any] | None = None
    outputs: Callable[[Any], Any] | Outputs | None = None
    updates: bool | None = None
    mode: str | None = None
    modes: tuple[str, ...] = MODES
    accept: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ("float64", "float32")

    def __post_init__(self) -> None:
        __tracebackhide__ = True  # pytest shows the user's line and the message
        if not isinstance(self.name, str):
            raise InputError(f"a pair is named {self.name!r}: give it a name, a text")
        for names, none in ((_FUNCTIONS, False), (_MAYBE_FUNCTIONS, True)):
            for name in names:
                value = getattr(self, name)
                if not (callable(value) or none and value is None):
                    self._refuse(name, "a function")
        if not isinstance(self.outputs, Outputs | None) and not callable(self.outputs):
            self._refuse("outputs", "a function, or parity.Outputs")
        if not isinstance(self.loss, Loss):
            self._refuse("loss", "a parity.Loss")
        if not isinstance(self.optimizer, Optimizer):
            self._refuse("optimizer", "a parity.Optimizer, as parity.named_optimizer makes one")
        if not isinstance(self.mode, str | None):
            self._refuse("mode", "the name of an argument")

    def _refuse(self, name: str, needed: str) -> NoReturn:
        __tracebackhide__ = True
        value = shown(repr(getattr(self, name)))
        raise InputError(f"{shown(self.name)}: {name} is {value}: give {needed}")

    def make_torch(self) -> nn.Module:
        """A new PyTorch module."""
        if isinstance(self.torch_module, nn.Module):
            return copy.deepcopy(self.torch_module)
        with of_the_user(self.name, "torch_module"):
            made = self.torch_module()
        if not isinstance(made, nn.Module):
            kind = "nothing" if made is None else f"a {type(made).__name__}"
            raise InputError(f"{self.name}: torch_module gives {kind}: return a torch.nn.Module")
        return made

    def converted(self, state: dict[str, np.ndarray]) -> Any:
        """The variables of a state_dict, of which the leaves are arrays.

        Raises:
            InputError: one is of another framework's, or of no numbers.
        """
        made = hidden(self.to_flax(state))
        for path, leaf in jax.tree_util.tree_flatten_with_path(made)[0]:
            if not is_numbers(leaf):
                kind = f"{type(leaf).__module__.partition('.')[0]} {type(leaf).__name__}"
                where = jax.tree_util.keystr(path) or "the variables"
                raise InputError(f"{where} is a {kind}: give arrays of numbers, JAX's or NumPy's")
        return made

    @functools.cached_property
    def mode_argument(self) -> Mode | None:
        """How `jax_apply` is told the mode; None where it is not."""
        return mode_of(self.jax_apply, self.mode, self.name)

    @property
    def trains(self) -> bool:
        """Whether the loss and training are in train mode."""
        return "train" in self.modes

    @functools.cached_property
    def parameters(self) -> dict[str, tuple[int, ...]]:
        """The PyTorch module's trained parameters by name: their shapes."""
        named = self.make_torch().named_parameters()
        return {name: tuple(p.shape) for name, p in named if p.requires_grad}

    @functools.cached_property
    def aliases(self) -> dict[str, str]:
        """The other names of tied entries of the state_dict, each to the first."""
        module = self.make_torch()
        first = {id(p): name for name, p in module.named_parameters()}
        state = module.state_dict(keep_vars=True)
        return {n: first[id(v)] for n, v in state.items() if first.get(id(v), n) != n}

    @functools.cached_property
    def leaf_map(self) -> LeafMap:
        """Where each number of the state_dict is in the variables."""
        with of_the_user(self.name, "to_flax"):
            state = arrays_of(self.make_torch())
            return leaf_map(self.converted, state, self.parameters, self.aliases)

    @functools.cached_property
    def names_by_weights(self) -> dict[str, str]:
        """PyTorch's names of JAX's modules of other names, where `names` says nothing."""
        if self.names is not str:
            return {}
        modules = (name for name, _ in self.make_torch().named_modules() if name)
        return names_by_weights(self.leaf_map.held, modules, self.aliases)

    def our_outputs(self, outputs: Any) -> Any:
        """What is compared of JAX's outputs."""
        chosen = self.outputs.jax if isinstance(self.outputs, Outputs) else self.outputs
        return outputs if chosen is None else chosen(outputs)

    def their_outputs(self, outputs: Any) -> Any:
        """What is compared of PyTorch's outputs."""
        chosen = self.outputs.torch if isinstance(self.outputs, Outputs) else self.outputs
        return outputs if chosen is None else chosen(outputs)


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


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """A copy of the tensor; NumPy has no bfloat16, whose values come as float32."""
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy().copy()


def arrays_of(module: nn.Module) -> Tensors:
    """A module's state_dict as NumPy arrays."""
    return {name: to_numpy(value) for name, value in module.state_dict().items()}
