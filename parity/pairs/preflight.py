"""Whether a pair can be run at all, before anything is compared: a user's first mistakes."""

from typing import Any, NamedTuple

import jax
import numpy as np
import torch

from jax_impl.errors import InputError
from parity.pairs.blame import of_the_user, told
from parity.pairs.case import Case, precision
from parity.pairs.examples import randomised_state
from parity.pairs.pair import CROSS_ENTROPY, Batch, Pair, Tensors
from parity.pairs.trees import leaves


class Preflight(NamedTuple):
    """Why JAX's model does not run in float64, if it does not, and why no loss can be taken."""

    no_float64: str | None
    no_loss: str | None


def preflight(
    pair: Pair, batch: Batch, device: str, *, jit: bool = True, with_loss: bool = True
) -> Preflight:
    """Runs each side's model, and with `with_loss` its loss, once on the examples.

    Raises:
        InputError: one of them cannot be run, which line of the user's fails and how, or the two
            have no output in common.
    """
    case, state = Case(pair, "float32", device), randomised_state(pair, 0)
    _check_numbers(pair, batch)
    with of_the_user(pair.name, "the PyTorch model"), torch.no_grad():
        inputs = case.torch_batch(Batch(batch.inputs, ()))[0]
        raw = case.torch_call(case.torch_model(state).eval(), inputs)
    theirs = leaves(raw)
    with of_the_user(pair.name, "to_flax"):
        variables = case.variables(state)
    _ = pair.leaf_map, pair.mode_argument
    traced: list[Any] = []
    ours: dict[str, Any] = {}
    shapes = jax.eval_shape if jit else lambda function, *args: function(*args)
    for mode in pair.modes:

        def outputs(variables: Any, inputs: Any, train: bool = mode == "train") -> dict[str, Any]:
            traced[:] = [case.apply(variables, inputs, train)[0]]
            return leaves(traced[0])

        with of_the_user(pair.name, f"jax_apply in {mode} mode"), precision("float32"):
            ours = shapes(outputs, variables, batch.inputs)
    if not ours.keys() & theirs.keys():
        raise InputError(
            f"{pair.name}: no output of the two has the same path: PyTorch's are {_told(theirs)}, "
            f"JAX's {_told(ours)}; say what to compare with outputs="
        )
    no_loss = None
    if not any(leaf.is_floating_point() for leaf in theirs.values()):
        no_loss = "no output is of floating-point numbers, of which a loss could be taken"
    elif with_loss:
        if pair.loss == CROSS_ENTROPY and "" not in theirs:
            raise InputError(
                f"{pair.name}: the outputs are {_told(theirs)}, which cross entropy does not take: "
                "say loss=, or outputs= to choose one"
            )
        _try_loss(case, variables, raw, batch, shapes)
    return Preflight(_no_float64(pair, state, batch, device), no_loss)


def check_parameters(pair: Pair) -> None:
    """Raises InputError where some are complex."""
    named = pair.make_torch().named_parameters()
    names = ", ".join(name for name, value in named if value.is_complex())
    if names:
        raise InputError(f"{pair.name}: complex parameters are not compared: {names}")


def _check_numbers(pair: Pair, batch: Batch) -> None:
    for path, leaf in leaves(batch.inputs).items():
        array = np.asarray(leaf)
        if array.dtype.kind in "fc" and np.isnan(array).any():
            where = f" {path}" if path else ""
            raise InputError(f"{pair.name}: the inputs{where} hold numbers that are none (NaN)")


def _try_loss(case: Case, variables: Any, raw: Any, batch: Batch, shapes: Any) -> None:
    """Takes each side's loss once."""
    name = case.pair.name
    with of_the_user(name, "the labels"):
        labels = case.torch_labels(batch.labels)
    with of_the_user(name, "the loss in PyTorch"), torch.no_grad():
        value = case.torch_loss(raw, labels)
        if not isinstance(value, torch.Tensor) or value.ndim:
            told = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
            raise InputError(f"{name}: the loss in PyTorch is no single number: {told}")
    with of_the_user(name, "the loss in JAX"), precision("float32"):
        train = case.pair.trains
        _ = shapes(
            lambda v, x, y: case.pair.loss.jax(case.apply(v, x, train)[0], y),
            variables,
            batch.inputs,
            batch.labels,
        )


def _no_float64(pair: Pair, state: Tensors, batch: Batch, device: str) -> str | None:
    case = Case(pair, "float64", device)
    try:
        with precision("float64"):
            _ = jax.eval_shape(
                lambda v, x: leaves(case.apply(v, x, pair.trains)[0]),
                case.variables(state),
                batch.inputs,
            )
    except (Exception, SystemExit) as error:
        # It did run in float32: a carry, a state or a check is of that.
        return told(error)
    return None


def _told(outputs: dict[str, Any]) -> str:
    told = (f"{path or 'one array'} {list(leaf.shape)}" for path, leaf in outputs.items())
    return ", ".join(told) or "none"
