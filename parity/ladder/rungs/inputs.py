"""A batch as each model is called with it: values, channels, layout."""

import numpy as np

from parity.ladder.result import Result, result
from parity.ladder.tolerance import compare_float64
from parity.pairs.pair import Batch, Case, Pair, precision


def run(pair: Pair, batch: Batch, device: str = "cpu") -> Result:
    """The rung `data` of one pair, in float64."""
    ours, theirs = both(Case(pair, "float64", device), batch)
    comparison = compare_float64({"the inputs": ours}, {"the inputs": theirs})
    return result(pair.name, "data", "float64", comparison)


def both(case: Case, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """The inputs of the JAX and of the PyTorch model, in PyTorch's layout."""
    with precision(case.dtype):
        ours = case.to_torch_layout(case.jax_inputs(batch.images))
    return ours, case.torch_batch(batch)[0].cpu().numpy()
