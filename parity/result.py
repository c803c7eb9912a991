"""What a rung finds: one type from every rung to every report."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A number beside its tolerance, both in `unit`; `detail` says in a line what it is of."""

    passed: bool
    measured: float
    tolerance: float
    unit: str
    detail: str


@dataclasses.dataclass(frozen=True)
class Result:
    """A comparison, and what was compared: a rung on a model at a precision."""

    model: str
    rung: str
    dtype: str
    passed: bool
    measured: float
    tolerance: float
    unit: str
    detail: str


def result(model: str, rung: str, dtype: str, comparison: Comparison) -> Result:
    """The comparison with its place on the ladder."""
    return Result(model, rung, dtype, **dataclasses.asdict(comparison))
