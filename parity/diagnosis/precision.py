"""float64 agrees and float32 or bfloat16 does not: which side rounds more, and how."""

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from parity.diagnosis.common import Everywhere, events, said
from parity.diagnosis.suspects import Call
from parity.ladder.result import Diagnosis
from parity.ladder.rungs import forward
from parity.ladder.tolerance import EPS, NOISE_MULTIPLE, relative_error
from parity.pairs.pair import Batch, Case, Pair, Tensors, precision


def find(
    pair: Pair, state: Tensors, batch: Batch, device: str, jit: bool, narrow: str
) -> Diagnosis:
    """float64 agrees and `narrow` does not: one side rounds more than that does."""
    figures = {}
    least = EPS[narrow]
    sides: dict[str, Tensors] = {}
    for dtype in ("float64", narrow):
        case = Case(pair, dtype, device, jit)
        with precision(dtype):
            sides[f"our {dtype}"] = forward.ours(case)(state, batch)
        sides[f"their {dtype}"] = forward.theirs(case)(state, batch)
    for name, value in sides[f"their {narrow}"].items():
        if name in sides[f"our {narrow}"]:
            ours = relative_error(sides[f"our {narrow}"][name], sides["our float64"][name])
            theirs = relative_error(value, sides["their float64"][name])
            figures[name] = ours, theirs
    noisy = [
        name
        for name, (ours, theirs) in figures.items()
        if max(ours, theirs) > NOISE_MULTIPLE * max(min(ours, theirs), least)
    ]
    if not noisy:
        return said(None)
    first = noisy[0]
    index = list(figures).index(first)
    before = list(figures)[index - 1] if index else None
    ours, theirs = figures[first]
    side = "JAX" if ours > theirs else "PyTorch"
    cause = None
    if side == "JAX" and narrow == "float32":
        cause = _rounding_cause(pair, state, batch, device, sides, first, ours)
    name = first.partition(" in ")[0]
    before_error = max(figures[before]) if before else None
    times = max(ours, theirs) / max(min(ours, theirs), least)
    what = f"{narrow} noise of {side}, {times:.0f} times its twin's, in the output"
    before = before.partition(" in ")[0] if before else None
    return said(name, max(ours, theirs), before, before_error, cause, what=what)


def _rounding_cause(
    pair: Pair,
    state: Tensors,
    batch: Batch,
    device: str,
    sides: dict[str, Tensors],
    name: str,
    noise: float,
) -> str | None:
    """The coarser arithmetic that gives PyTorch the noise that JAX shows."""
    case = Case(pair, "float32", device)
    module, (x, _) = case.torch_model(state), case.torch_batch(batch)
    key, _, mode = name.rpartition(" in ")
    module.train(mode == "train mode")
    key = "" if key == "outputs" else key
    nearest: tuple[float, str] | None = None
    for cause, change in _ROUNDINGS.items():
        found: dict[str, np.ndarray] = {}

        def on_event(unique: str, output: torch.Tensor, found: Any = found) -> None:
            found[unique] = output.detach().cpu().numpy().copy()

        copied = copy.deepcopy(module)
        with torch.no_grad(), events(copied, on_event), Everywhere(change):
            copied(x)
        own = relative_error(found[key], sides["their float64"][name])
        apart = abs(math.log(max(own, 1e-300) / noise))
        if apart < math.log(4) and (nearest is None or apart < nearest[0]):
            nearest = apart, cause
    return nearest[1] if nearest else None


def _rounded(bits: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """float32 to so many bits of mantissa, to nearest."""

    def cut(x: torch.Tensor) -> torch.Tensor:
        mantissa, exponent = torch.frexp(x)
        return torch.ldexp(
            torch.round(torch.ldexp(mantissa, torch.tensor(bits + 1))), exponent - bits - 1
        )

    return cut


def _products(bits: int) -> Callable[[Call], Any]:
    cut = _rounded(bits)

    def change(call: Call) -> Any:
        if call.name not in ("conv2d", "linear", "matmul"):
            return call.plain()
        operands = [cut(x) if isinstance(x, torch.Tensor) else x for x in call.args[:2]]
        return call.function(*operands, *call.args[2:], **call.kwargs)

    return change


def _one_pass(call: Call) -> Any:
    if call.name != "batch_norm" or not call.given["training"]:
        return call.plain()
    a, shape = call.given, (1, -1, 1, 1)
    x = a["input"]
    mean, square = x.mean((0, 2, 3)), x.square().mean((0, 2, 3))
    out = (x - mean.view(shape)) / (square - mean.square() + a["eps"]).sqrt().view(shape)
    return out * a["weight"].view(shape) + a["bias"].view(shape)


_ROUNDINGS: dict[str, Callable[[Call], Any]] = {
    "products are computed in TF32, 10 bits of mantissa": _products(10),
    "products are computed in bfloat16, 7 bits of mantissa": _products(7),
    "the variance is computed in one pass, as E[x^2] - E[x]^2": _one_pass,
}
