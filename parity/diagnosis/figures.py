"""How noisy each framework is in a narrow precision, tensor by tensor."""

from parity.diagnosis.common import Known
from parity.ladder.rungs import NUMERIC
from parity.ladder.tolerance import relative_error, scales_of
from parity.pairs.case import Case, precision
from parity.pairs.pair import Tensors


def figures_of(
    known: Known, rung: str, narrow: str
) -> tuple[dict[str, tuple[float, float]], dict[str, Tensors]]:
    """(JAX's noise, PyTorch's) by tensor, and what each side computed in each precision."""
    sides: dict[str, Tensors] = {}
    for dtype in ("float64", narrow):
        case = Case(known.pair, dtype, known.device, known.jit)
        with precision(dtype):
            ours = NUMERIC[rung].ours(case)(known.state, known.batches[0])
        theirs = NUMERIC[rung].theirs(case)(known.state, known.batches[0])
        matched = NUMERIC[rung].matched(case, ours, theirs, [])
        sides[f"our {dtype}"], sides[f"their {dtype}"] = matched
    wide = sides["our float64"], sides["their float64"]
    scales = {} if rung == "forward" else scales_of(*wide)
    return {
        name: (
            relative_error(sides[f"our {narrow}"][name], wide[0][name], scales.get(name)),
            relative_error(value, wide[1][name], scales.get(name)),
        )
        for name, value in sides[f"their {narrow}"].items()
        if name in wide[0] and name in sides[f"our {narrow}"]
    }, sides
