"""A batch as each model is called with it: values, channels, layout."""

import numpy as np

from parity.ladder.alignment import aligned
from parity.ladder.result import Result, nothing, result
from parity.ladder.rungs.gradients import input_name
from parity.ladder.tolerance import compare_float64
from parity.pairs.case import Case, precision
from parity.pairs.pair import Batch, Pair, Tensors, to_numpy
from parity.pairs.trees import leaves


def run(pair: Pair, batch: Batch, device: str = "cpu") -> Result:
    """The rung `data` of one pair, in float64."""
    ours, theirs = both(Case(pair, "float64", device), batch)
    comparison = compare_float64(ours, theirs)
    if not theirs:
        comparison = nothing(comparison.unit, "the two are called with other arguments")
    return result(pair.name, "data", "float64", comparison)


def both(case: Case, batch: Batch) -> tuple[Tensors, Tensors]:
    """The inputs of the JAX and of the PyTorch model by name, in PyTorch's layout.

    Those of one path, or all in their order where the paths differ.
    """
    with precision(case.dtype):
        made = leaves(case.jax_inputs(batch.inputs))
        ours = {path: np.asarray(leaf) for path, leaf in made.items()}
    theirs = {path: to_numpy(leaf) for path, leaf in leaves(case.torch_batch(batch)[0]).items()}
    if ours.keys() != theirs.keys() and len(ours) == len(theirs):
        ours = dict(zip(theirs, ours.values(), strict=True))
    first, second = {}, {}
    for path, reference in theirs.items():
        if path in ours:
            value = aligned(ours[path], reference, case.pair.channels_last, inner=False)
            first[input_name(path)] = ours[path] if value is None else value
            second[input_name(path)] = reference
    return first, second
