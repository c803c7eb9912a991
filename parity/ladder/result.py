"""What a rung finds: one type from every rung to every report."""

import dataclasses
from typing import NamedTuple


class ModuleError(NamedTuple):
    """One module's output, relative errors.

    Between the frameworks in float64 and in float32, and each framework's float32 noise, its
    distance from its own float64 run.
    """

    name: str
    difference: float
    float32_difference: float
    our_noise: float
    their_noise: float


class StepError(NamedTuple):
    """The frameworks after a training step.

    The parameters' relative difference in float64 and in float32 (None where not measured), the
    losses of JAX and PyTorch in float64, and by how much each framework differs from itself in
    float32: trained again from weights moved by one rounding, each batch in another order.
    """

    step: int
    float64: float | None
    float32: float | None
    our_loss: float
    their_loss: float
    our_own: float | None = None
    their_own: float | None = None


@dataclasses.dataclass(frozen=True)
class Fault:
    """One departure: the module of PyTorch's, and what makes the two agree if it is tried there.

    `places` has every module that the same cause departs in; `error` is relative, of the first.
    """

    module: str
    cause: str | None
    error: float | None = None
    places: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """Where two implementations part and why.

    `module` is the first, in execution order, that departs, with its relative error; `before` the
    one completed just before it. `cause` is the suspect that, tried on the PyTorch side, makes the
    two agree; None if none does. `faults` has every departure that was found, the first included.
    `follows` says that an earlier failure explains this one.
    """

    module: str | None
    error: float | None
    before: str | None
    before_error: float | None
    cause: str | None
    text: str
    faults: tuple[Fault, ...] = ()
    follows: bool = False


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A number beside its tolerance, both in `unit`; `detail` says in a line what it is of.

    `passed` is None where there was nothing to compare. `remarks` say what was left out.
    """

    passed: bool | None
    measured: float
    tolerance: float
    unit: str
    detail: str
    modules: tuple[ModuleError, ...] = ()
    steps: tuple[StepError, ...] = ()
    remarks: tuple[str, ...] = ()


def nothing(unit: str, detail: str, remarks: tuple[str, ...] = ()) -> Comparison:
    """There was nothing to compare, and why."""
    return Comparison(None, 0.0, 0.0, unit, detail, remarks=remarks)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result(Comparison):
    """A comparison, and what was compared: a rung on a model at a precision."""

    model: str
    rung: str
    dtype: str
    diagnosis: Diagnosis | None = None


def result(model: str, rung: str, dtype: str, comparison: Comparison) -> Result:
    """The comparison with its place on the ladder."""
    fields = {f.name: getattr(comparison, f.name) for f in dataclasses.fields(Comparison)}
    return Result(model=model, rung=rung, dtype=dtype, **fields)
