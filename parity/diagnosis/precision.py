"""float64 agrees and float32 or bfloat16 does not: which side rounds more, and how."""

import math
from collections.abc import Callable
from typing import Any

import torch

from parity.diagnosis.common import Known, said
from parity.diagnosis.figures import figures_of
from parity.diagnosis.forward import NOT_LEGAL
from parity.diagnosis.sites import Change, Site, applied, observed
from parity.diagnosis.suspects import Call, Thunk
from parity.ladder.result import Diagnosis, Fault, Result
from parity.ladder.rungs import NUMERIC, forward
from parity.ladder.tolerance import EPS, NOISE_MULTIPLE, relative_error
from parity.pairs.case import Case
from parity.pairs.pair import Tensors

PRODUCTS = (
    "conv1d", "conv2d", "conv3d", "linear", "matmul", "__matmul__", "bmm",
    "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
)  # fmt: skip
NORMS = "batch_norm", "layer_norm", "group_norm", "instance_norm"
COLLAPSED = 1e3
"""The same of a variance whose digits are all lost: what is left of it is chance."""
NEAR = 4.0
"""Two noises of one cause are within this factor of each other."""


def find(known: Known, failed: Result) -> Diagnosis:
    """Which tensor of the rung is noisier on one side than on the other, from where on, and why."""
    narrow = failed.dtype
    figures, sides = figures_of(known, "forward", narrow)
    noisy = _noisy(figures, EPS[narrow])
    what = "output"
    if not noisy and failed.rung in NUMERIC and failed.rung != "forward":
        figures, sides = figures_of(known, failed.rung, narrow)
        noisy = _noisy(figures, EPS[narrow])
        what = f"{failed.rung}, in"
    if not noisy:
        return said(None)
    first = noisy[0]
    index = list(figures).index(first)
    before = list(figures)[index - 1] if index else None
    ours, theirs = figures[first]
    side = "JAX" if ours > theirs else "PyTorch"
    fault = None
    if side == "JAX" and narrow == "float32":
        fault = _rounding_cause(known, sides, figures, first, what == "output")
    name = first.partition(" in ")[0]
    times = max(ours, theirs) / max(min(ours, theirs), EPS[narrow])
    what = f"{narrow} noise of {side}, {times:.0f} times its twin's, in the {what}"
    if fault is not None:
        known.add(fault)  # not its change: it is of float32 alone
    return said(
        name,
        max(ours, theirs),
        before.partition(" in ")[0] if before else None,
        max(figures[before]) if before else None,
        cause=None if fault is None else fault.cause,
        what=what,
        faults=() if fault is None else (fault,),
    )


def is_noisy(known: Known, failed: Result) -> bool:
    """Whether a tensor of the rung is noisier on one side than on the other, as in `find`."""
    return bool(_noisy(figures_of(known, failed.rung, failed.dtype)[0], EPS[failed.dtype]))


def _noisy(figures: dict[str, tuple[float, float]], least: float) -> list[str]:
    return [
        name
        for name, (ours, theirs) in figures.items()
        if max(ours, theirs) > NOISE_MULTIPLE * max(min(ours, theirs), least)
    ]


def _rounding_cause(
    known: Known,
    sides: dict[str, Tensors],
    figures: dict[str, tuple[float, float]],
    name: str,
    in_forward: bool,
) -> Fault | None:
    """The coarser arithmetic that gives PyTorch the noise that JAX shows, in calls before it.

    Of several the one whose noise is nearest, everywhere in the model.
    """
    case = Case(known.pair, "float32", known.device)
    called: dict[str, set[str]] = {}

    def listen(site: Site, call: Call) -> None:
        called.setdefault(call.name, set()).add(site.module)

    with observed(listen):
        forward.theirs(case)(known.state, known.batches[0])
    target = name if in_forward else next(reversed(_outputs_of(sides)), name)
    noise = (
        relative_error(sides["our float32"][target], sides["our float64"][target])
        if (target in sides["our float32"])
        else figures[name][0]
    )
    nearest: tuple[float, str, tuple[Change, ...]] | None = None
    for cause, functions, change in ROUNDINGS:
        names = [f for f in functions if f in called]
        if not names:
            continue
        changes = tuple(Change(cause, f, make=change) for f in names)
        try:
            with applied(changes):
                found = forward.theirs(case)(known.state, known.batches[0])
        except NOT_LEGAL:
            continue
        if target not in found:
            continue
        own = relative_error(found[target], sides["their float64"][target])
        plain = relative_error(sides["their float32"][target], sides["their float64"][target])
        apart = abs(math.log(max(own, 1e-300) / max(noise, 1e-300)))
        louder = own > NEAR * max(plain, 1e-300)
        near = NEAR if functions is PRODUCTS else COLLAPSED
        if louder and apart < math.log(near) and (nearest is None or apart < nearest[0]):
            nearest = apart, cause, changes
    if nearest is None:
        return None
    places = tuple(sorted({m for c in nearest[2] for m in called[c.function]}))
    bare = name.partition(" in ")[0]
    return Fault(bare, nearest[1], figures[name][0], places)


def _outputs_of(sides: dict[str, Tensors]) -> list[str]:
    """The names of the outputs among the tensors."""
    return [name for name in sides["their float64"] if name.startswith(forward.OUTPUTS)]


def _rounded(bits: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """float32 to so many bits of mantissa, to nearest."""

    def cut(x: torch.Tensor) -> torch.Tensor:
        mantissa, exponent = torch.frexp(x)
        return torch.ldexp(
            torch.round(torch.ldexp(mantissa, torch.tensor(bits + 1))), exponent - bits - 1
        )

    return cut


def _products(bits: int) -> Callable[[Call], Thunk | None]:
    cut = _rounded(bits)

    def change(call: Call) -> Thunk | None:
        def product() -> Any:
            operands = [cut(x) if isinstance(x, torch.Tensor) else x for x in call.args[:2]]
            return call.function(*operands, *call.args[2:], **call.kwargs)

        return product if len(call.args) >= 2 else None

    return change


def _one_pass(call: Call) -> Thunk | None:
    """The norm with the variance as E[x^2] - E[x]^2, both as float32 sums."""
    a = call.given
    x = a["input"]
    if call.name == "batch_norm" and not a["training"]:
        return None

    def normalised() -> torch.Tensor:
        if call.name == "layer_norm":
            axes, y = tuple(range(-len(a["normalized_shape"]), 0)), x
            shape = tuple(a["normalized_shape"])
        else:
            groups = {"group_norm": a.get("num_groups"), "instance_norm": x.shape[1]}
            shape = (1, -1, *[1] * (x.ndim - 2))
            if call.name == "batch_norm":
                axes, y = tuple(i for i in range(x.ndim) if i != 1), x
            else:
                y = x.reshape(x.shape[0], groups[call.name], -1)
                axes = (-1,)
        mean = y.mean(axes, keepdim=True)
        square = y.square().mean(axes, keepdim=True)
        var = (square - mean.square()).clamp(min=0)
        out = ((y - mean) / (var + a["eps"]).sqrt()).reshape(x.shape)
        if a.get("weight") is not None:
            out = out * a["weight"].reshape(shape)
        return out if a.get("bias") is None else out + a["bias"].reshape(shape)

    return normalised


ROUNDINGS: tuple[tuple[str, tuple[str, ...], Callable[[Call], Thunk | None]], ...] = (
    ("products are computed in TF32, 10 bits of mantissa", PRODUCTS, _products(10)),
    ("products are computed in bfloat16, 7 bits of mantissa", PRODUCTS, _products(7)),
    ("the variance is computed in one pass: JAX is the noisy side", NORMS, _one_pass),
)
