"""What an optimizer does whose rules are not known: PyTorch's with an option changed, or Optax's.

PyTorch's optimizer is run again on the shared gradients with one of its options changed, with
another learning rate, or with gradients that are clipped; or an optimizer of Optax is run in the
place of the pair's.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import optax
import torch

from parity.diagnosis import optimizer_words as words
from parity.diagnosis.optimizer_causes import AGREEMENT, IMPROVEMENT, ROUNDING, SECONDS
from parity.diagnosis.optimizer_faults import BETAS, DECAYS, LIMITS
from parity.diagnosis.optimizer_problem import Problem, problem
from parity.ladder.rungs import optimizer
from parity.pairs.budget import Budget
from parity.pairs.case import Case, precision
from parity.pairs.pair import Optimizer, Tensors

USUAL: dict[str, tuple[Any, ...]] = {
    "betas": BETAS,
    "eps": (1e-8, 1e-7, 1e-6, 1e-5, 1e-3, 1e-10, 1e-16, 0.0),
    "weight_decay": (0.0, *DECAYS),
    "momentum": (0.0, 0.9, 0.99, 0.95, 0.5),
    "dampening": (0.0, 0.9),
    "alpha": (0.9, 0.99, 0.999),
    "rho": (0.9, 0.95, 0.99),
    "momentum_decay": (0.0, 4e-3),
    "lr_decay": (0.0,),
    "etas": ((0.5, 1.2),),
    "step_sizes": ((1e-6, 50),),
    "ns_steps": (5,),
    "adjust_lr_fn": ("original", "match_rms_adamw"),
}
"""Values of PyTorch's options; those that are true or false are turned."""

LR = 1e-3
"""A learning rate to begin with, where PyTorch's optimizer has none."""

NAMES = {"alpha": "decay alpha", "rho": "decay rho", "weight_decay": "weight decay"}

KNOWN = {
    ("NAdam", "nadam"): "Optax's nadam has no schedule of the momentum (PyTorch's momentum_decay)",
    ("NAdam", "nadamw"): "Optax's nadam has no schedule of the momentum (momentum_decay)",
    ("Adagrad", "adagrad"): "Optax's adagrad starts at 0.1 and has eps 1e-7 inside the root",
}
"""Why optimizers of one name differ."""


def cause(case: Case, state: Tensors, given: Problem) -> str | None:
    """What PyTorch's optimizer must be changed to, or is not; None if that is not found."""
    budget = Budget(SECONDS)
    for made in (_of_torch, _of_optax):
        for text, found in made(case, state, given):
            if found:
                return text
            if not budget.left:
                return None
    return None


def trained(case: Case, state: Tensors) -> list[torch.nn.Parameter]:
    """PyTorch's parameters that the optimizer is given."""
    return [p for p in case.torch_model(state).parameters() if p.requires_grad]


def _limits(case: Case, state: Tensors, given: Problem) -> np.ndarray:
    errors = given.errors(_run(case, state, given))
    return np.maximum(np.minimum(AGREEMENT, IMPROVEMENT * errors), ROUNDING)


Gradients = list[dict[str, np.ndarray]]


def _run(
    case: Case,
    state: Tensors,
    given: Problem,
    options: dict[str, Any] | None = None,
    gradients: Gradients | None = None,
    rates: np.ndarray | None = None,
) -> np.ndarray:
    """PyTorch's parameters, [starts, steps, n], with options of every group changed.

    `rates` are factors of the learning rate at each step.
    """
    gradients = gradients or list(optimizer.shared_gradients(case))
    runs = []
    for scale in optimizer.STARTS.values():
        module = case.torch_model(state)
        named = {n: p for n, p in module.named_parameters() if p.requires_grad}
        made = case.pair.optimizer.torch(named.values())
        for group in made.param_groups:
            group |= {key: value for key, value in (options or {}).items() if key in group}
        own = [group.get("lr") for group in made.param_groups]
        with torch.no_grad():
            for parameter in named.values():
                parameter.mul_(scale)
        found = []
        for step, tensors in enumerate(gradients):
            for group, lr in zip(made.param_groups, own, strict=True):
                if lr is not None:
                    group["lr"] = lr * (1.0 if rates is None else float(rates[step]))
            for name, parameter in named.items():
                if name in tensors:
                    parameter.grad = torch.from_numpy(np.asarray(tensors[name])).to(parameter)
            made.step()
            found.append({name: named[name].detach().cpu().numpy().copy() for name in given.shapes})
        runs.append(found)
    starts = [{name: np.asarray(state[name]) for name in given.shapes}] * len(runs)
    return problem(starts, gradients, runs).observed


def _of_torch(case: Case, state: Tensors, given: Problem) -> Iterator[tuple[str, bool]]:
    limits = _limits(case, state, given)

    def agrees(**changes: Any) -> bool:
        try:
            return bool((given.errors(_run(case, state, given, **changes)) <= limits).all())
        except (RuntimeError, ValueError, TypeError, ZeroDivisionError):
            return False  # PyTorch refuses the option

    made = case.pair.optimizer.torch(trained(case, state))
    for key, own in made.defaults.items():
        for value in _values(key, own):
            text = f"{NAMES.get(key, key)} {value} in place of PyTorch's {own}"
            yield text, agrees(options={key: value})
    if "lr" in made.defaults:  # an optimizer of the user's own may have none
        rates = _rates(case, state, given)
        text = _bias_correction(rates, made.defaults.get("betas", ()))
        yield text or words.rate(rates, float(made.defaults["lr"])), agrees(rates=rates)
    for text, gradients in _changed_gradients(case):
        yield text, agrees(gradients=gradients)


def _values(key: str, own: Any) -> list[Any]:
    if isinstance(own, bool) and key not in ("foreach", "fused", "capturable", "differentiable"):
        return [not own]
    usual = USUAL.get(key, ())
    if isinstance(own, tuple) and key == "betas":
        usual = (own[::-1], *usual)
    return [value for value in usual if value != own]


def _bias_correction(rates: np.ndarray, betas: Sequence[float]) -> str | None:
    """What is said of rates that are a moment's bias correction, 1 - beta^t, or one over it."""
    steps = np.arange(1, len(rates) + 1)
    for beta in betas[:2]:
        missing = 1 - beta**steps
        if np.allclose(rates, missing, rtol=1e-6, atol=0):
            return f"the bias correction, 1 / (1 - {beta:g}^t), is missing"
        if np.allclose(rates, 1 / missing, rtol=1e-6, atol=0):
            return f"there is a bias correction, 1 / (1 - {beta:g}^t), that PyTorch's has not"
    return None


def _rates(case: Case, state: Tensors, given: Problem) -> np.ndarray:
    """The factors of the learning rate whose steps are nearest to JAX's."""
    rates = np.ones(len(given.gradients))
    for step in range(len(rates)):
        none = rates.copy()
        none[step] = 0.0
        one, without = (_run(case, state, given, rates=r)[:, step] for r in (rates, none))
        square = float(((one - without) ** 2).sum())
        if square:
            rates[step] = ((given.observed[:, step] - without) * (one - without)).sum() / square
    return rates


def _changed_gradients(case: Case) -> Iterator[tuple[str, Gradients]]:
    raw = list(optimizer.shared_gradients(case))
    yield "the step goes up the gradient", [{n: -g for n, g in t.items()} for t in raw]
    yield (
        "the signs of the gradients are taken",
        [{n: np.sign(g) for n, g in t.items()} for t in raw],
    )
    for limit in LIMITS:
        norms = [np.sqrt(sum(float((g.astype(float) ** 2).sum()) for g in t.values())) for t in raw]
        text = f"the gradients are clipped to a norm of {limit:g}, of all together"
        yield (
            text,
            [
                {n: g.astype(float) * min(1.0, limit / norm) for n, g in t.items()}
                for t, norm in zip(raw, norms, strict=True)
            ],
        )
        text = f"the gradients are clipped to a value of {limit:g}"
        yield text, [{n: np.clip(g, -limit, limit) for n, g in t.items()} for t in raw]


def _of_optax(case: Case, state: Tensors, given: Problem) -> Iterator[tuple[str, bool]]:
    """Optimizers of Optax with PyTorch's learning rate and betas, or with what rate they need."""
    made = case.pair.optimizer.torch(trained(case, state))
    own, given_lr = type(made).__name__, float(made.defaults.get("lr", LR))
    limits = _limits(case, state, given)
    for name, make in _candidates(dict(made.defaults)):
        if name == own.lower():  # it says nothing that the two have one name
            continue
        lr = given_lr
        for _ in range(2):
            try:
                factor = _first_factor(case, state, given, make(lr))
                if factor is None:
                    break
                if abs(factor - 1) > 1e-6:
                    lr = float(f"{factor * lr:.10g}")
                    continue
                found = _optax_run(case, state, given, make(lr))
            except (TypeError, ValueError):
                break
            agrees = bool((given.errors(found) <= limits).all())
            alias = name.partition("(")[0]
            text = KNOWN.get((own, alias), f"JAX's optimizer does what optax.{name} does")
            text += f", PyTorch's is {own}" if (own, alias) not in KNOWN else ""
            text += f", and its learning rate is {lr:.6g}" if lr != given_lr else ""
            yield text, agrees
            break


def _first_factor(
    case: Case, state: Tensors, given: Problem, transform: optax.GradientTransformation
) -> float | None:
    """By what its first step from zeros must be multiplied to be JAX's; None if by nothing."""
    with precision(case.dtype):
        made = next(optimizer.our_steps(_with(case, transform), state, scale=0.0))
    first, seen = np.concatenate([made[n].ravel() for n in given.shapes]), given.observed[-1, 0]
    square = float((first**2).sum())
    factor = float((first * seen).sum()) / square if square else 0.0
    close = np.allclose(first * factor, seen, rtol=1e-5, atol=1e-7 * np.abs(seen).max())
    return factor if factor > 0 and close else None


def _candidates(
    options: dict[str, Any],
) -> Iterator[tuple[str, Callable[[float], optax.GradientTransformation]]]:
    beta1, beta2 = options.get("betas", (0.9, 0.999))
    eps, decay = options.get("eps", 1e-8), options.get("weight_decay", 0.0)
    eps = eps if isinstance(eps, float) else 1e-8
    moments = {"b1": beta1, "b2": beta2}
    plain = (
        "adam", "nadam", "adamax", "radam", "amsgrad", "adabelief", "yogi", "lamb", "lion", "nadamw"
    )  # fmt: skip
    for name in plain:
        make = getattr(optax, name)
        yield name, lambda lr, make=make: make(lr, **moments, eps=eps)
        yield name, lambda lr, make=make: make(lr)
    for value in dict.fromkeys((decay, 1e-2, 1e-4, 0.1)):
        for name in ("adamw", "nadamw", "lamb", "lion", "adamaxw"):
            make = getattr(optax, name)
            told = f"{name}(weight_decay={value:g})"
            yield told, lambda lr, make=make, v=value: make(lr, **moments, eps=eps, weight_decay=v)
            yield told, lambda lr, make=make, v=value: make(lr, weight_decay=v)
    for name in ("adagrad", "adadelta", "rmsprop", "sgd", "sign_sgd", "lars", "novograd", "adan"):
        make = getattr(optax, name)
        yield name, lambda lr, make=make: make(lr)
    yield "sgd(momentum=0.9)", lambda lr: optax.sgd(lr, 0.9)
    yield "sgd(momentum=0.9, nesterov=True)", lambda lr: optax.sgd(lr, 0.9, nesterov=True)
    yield "rmsprop(decay=0.99)", lambda lr: optax.rmsprop(lr, decay=0.99)
    yield "adafactor", lambda lr: optax.adafactor(lr)


def _with(case: Case, transform: optax.GradientTransformation) -> Case:
    """The case with an optimizer of Optax in the place of the pair's."""
    changed = Optimizer(case.pair.optimizer.torch, transform)
    pair = dataclasses.replace(case.pair, optimizer=changed)
    return dataclasses.replace(case, pair=pair, jit=False)


def _optax_run(
    case: Case, state: Tensors, given: Problem, transform: optax.GradientTransformation
) -> np.ndarray:
    other = _with(case, transform)
    with precision(case.dtype):
        runs = [
            list(optimizer.our_steps(other, state, scale=scale))
            for scale in optimizer.STARTS.values()
        ]
    starts = [{name: np.asarray(state[name]) for name in given.shapes}] * len(runs)
    return problem(starts, list(optimizer.shared_gradients(case)), runs).observed
