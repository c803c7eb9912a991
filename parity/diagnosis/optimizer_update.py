"""What departs of an update that no known fault explains."""

import jax
import jax.numpy as jnp
import numpy as np

from parity.diagnosis import optimizer_words as words
from parity.diagnosis.optimizer_problem import Problem
from parity.ladder.tolerance import FLOAT64_TOLERANCE
from parity.pairs.case import Case, precision
from parity.pairs.pair import Tensors, arrays_of

CLOSE = 1e-6
"""Relative: two updates are proportional."""


def told(case: Case, given: Problem, theirs: np.ndarray) -> str:
    """Compares the steps as functions of the gradient and of the parameter.

    Args:
        case: the pair.
        given: JAX's parameters after each step are `observed`; the last start is zeros.
        theirs: PyTorch's, [starts, steps, n].
    """
    errors = [
        given.errors(given.observed[:, : s + 1], theirs[:, : s + 1]) for s in range(theirs.shape[1])
    ]
    step = next((s for s, e in enumerate(errors) if (e > FLOAT64_TOLERANCE).any()), 0)
    names = list(given.shapes)
    departing = [name for name, e in zip(names, errors[-1], strict=True) if e > FLOAT64_TOLERANCE]
    parts = dict(zip(names, given.parts, strict=True))
    where = ""
    if len(departing) < len(names):
        where = f"only {words.who(departing, given.shapes, [])} depart; "
    if step:
        text = f"the steps agree up to step {step} and depart at step {step + 1}: what is kept "
        return where + text + "between steps differs (momentum, bias correction, a schedule)."
    text = where + _first_step(given, theirs, {name: parts[name] for name in departing})
    if depends_on_others(case, {name: given.named(given.starts[0])[name] for name in names}):
        text += " A tensor's step depends on the gradients of the others (a global norm)."
    return text


def depends_on_others(case: Case, state: Tensors) -> bool:
    """Whether JAX's first step of the first leaf changes with the gradients of other leaves.

    `state` are the parameters; other entries of the state_dict are taken from a new module.
    """
    whole = arrays_of(case.pair.make_torch()) | {n: v.astype(np.float32) for n, v in state.items()}
    optimizer = case.pair.optimizer.jax
    with precision(case.dtype):
        leaves, _ = case.pair.leaf_map.split(case.variables(whole))
        rng = np.random.default_rng(0)
        gradients = [jnp.asarray(rng.normal(size=leaf.shape)) for leaf in leaves]
        others = [gradients[0], *[gradient * 1e3 for gradient in gradients[1:]]]
        first, second = (
            np.asarray(jax.tree.leaves(optimizer.update(g, optimizer.init(leaves), leaves)[0])[0])
            for g in (gradients, others)
        )
    return bool(np.abs(first - second).max() > 1e-6 * np.abs(first).max())


def _first_step(given: Problem, theirs: np.ndarray, parts: dict[str, slice]) -> str:
    ours, other = (run[:, 0] - given.starts for run in (given.observed, theirs))
    point, gradient = given.starts[0], given.gradients[0]
    chosen = np.concatenate([np.arange(p.start, p.stop) for p in parts.values()])
    if not ours[:, chosen].any():
        return "JAX takes no step at step 1."
    if not np.isfinite(ours[:, chosen]).all():
        return "JAX's first step is not finite."
    decays = [_decay(run[:, chosen], point[chosen]) for run in (ours, other)]
    factors = {name: _factor(ours[-1, part], other[-1, part]) for name, part in parts.items()}
    known = [f for f in factors.values() if f is not None]
    found = []
    if len(known) == len(factors):
        if np.ptp(known) <= CLOSE * max(map(abs, known)):
            if abs(known[0] - 1) > CLOSE:
                found.append(f"JAX's first step is {known[0]:.6g} times PyTorch's")
        else:
            each = ", ".join(f"{name} {factor:.4g}" for name, factor in list(factors.items())[:4])
            found.append(
                f"JAX's first step is a multiple of PyTorch's, another in every tensor ({each}): "
                "it depends on the tensor's norm, or the learning rate on the tensor"
            )
    elif _saturates(ours[-1, chosen], gradient[chosen]):
        found.append("JAX's first step is of one size whatever the gradient is (its sign)")
    else:
        found.append("JAX's first step is another function of the gradient")
    if decays[0] != decays[1]:
        here, there = decays
        if here is None or there is None:
            whose = "JAX's" if here is None else "PyTorch's"
            found.append(f"{whose} first step depends on the parameter otherwise than linearly")
        else:
            found.append(
                f"it also moves a parameter p by {here:.4g} p, PyTorch's by {there:.4g} p "
                "(a weight decay)"
            )
    return "; ".join(found or ["the first step departs"]) + "."


def _factor(ours: np.ndarray, theirs: np.ndarray) -> float | None:
    """The factor of two proportional vectors; None for others."""
    square = float((theirs**2).sum())
    if not square:
        return None
    factor = float((ours * theirs).sum()) / square
    close = np.abs(ours - factor * theirs).max() <= CLOSE * np.abs(ours).max(initial=0)
    return factor if close else None


def _saturates(step: np.ndarray, gradient: np.ndarray) -> bool:
    sizes = np.abs(step[gradient != 0])
    return sizes.size > 1 and bool(np.ptp(sizes) <= 1e-3 * sizes.max())


def _decay(run: np.ndarray, point: np.ndarray) -> float | None:
    """What of a first step is proportional to the parameter; None where it depends otherwise.

    The step from zeros, of the same gradient, has nothing of it.
    """
    difference = run[0] - run[-1]
    if np.abs(difference).max() <= 1e-12 * np.abs(run[0]).max():
        return 0.0
    square = float((point**2).sum())
    factor = float((difference * point).sum()) / square if square else 0.0
    close = np.abs(difference - factor * point).max() <= CLOSE * np.abs(difference).max()
    return float(f"{factor:.6g}") if close else None
