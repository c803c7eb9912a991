"""The numeric rungs: what each framework computes from the same weights and batch, compared."""

from collections.abc import Sequence

from jax_impl.models import Variables
from parity.pair import Batch, Case, Pair, Tensors, precision
from parity.result import Result, result
from parity.rungs import NUMERIC, optimizer
from parity.tolerance import Float32, compare_float32, compare_float64, measure_float32


def climb(
    name: str, pair: Pair, variables: Variables, batches: Sequence[Batch], device: str = "cpu"
) -> tuple[Result, Result]:
    """The results of the rung `name`, one of `NUMERIC`, in float64 and in float32.

    Args:
      batches: of the same size. The first decides in float64; float32 goes on to the next ones
        while a tensor is too far off, for rounding may have decided a tie (`compare_float32`).
      device: PyTorch's; JAX computes on its default one.
    """
    rung = NUMERIC[name]
    wide, narrow = Case(pair, "float64", device), Case(pair, "float32", device)
    with precision("float64"):
        our_wide = rung.ours(wide)
    with precision("float32"):
        our_narrow = rung.ours(narrow)
    their_wide, their_narrow = rung.theirs(wide), rung.theirs(narrow)

    def measure(batch: Batch) -> tuple[Tensors, Tensors, dict[str, Float32]]:
        with precision("float64"):
            our_oracle = our_wide(variables, batch)
        their_oracle = their_wide(variables, batch)
        with precision("float32"):
            ours = our_narrow(variables, batch)
        theirs = their_narrow(variables, batch)
        figures = measure_float32(ours, theirs, our_oracle, their_oracle)
        return our_oracle, their_oracle, figures

    our_oracle, their_oracle, figures = measure(batches[0])
    sensitivity = optimizer.sensitivity(wide, variables, batches[0]) if rung is optimizer else None
    exact = compare_float64(our_oracle, their_oracle, sensitivity)
    measured = [figures]
    rounded = compare_float32(measured)
    while not rounded.passed and len(measured) < len(batches):
        measured.append(measure(batches[len(measured)])[2])
        rounded = compare_float32(measured)
    return (
        result(pair.name, name, "float64", exact),
        result(pair.name, name, "float32", rounded),
    )
