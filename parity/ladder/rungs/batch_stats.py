"""Running statistics after three train-mode batches, of the batch's own size, three and one.

And after one in eval mode, which leaves them as they are.
"""

from typing import Any

import numpy as np
import torch

from parity.pairs.case import Case, Side
from parity.pairs.pair import Batch, Tensors, to_numpy
from parity.pairs.trees import rows, take

SMALL = 3, 1
AFTER_EVAL = "after eval mode"


def ours(case: Case) -> Side:
    """JAX's side: the statistics after the batches of each size of `sequences`."""
    leaf_map = case.pair.leaf_map
    step = case.compiled(lambda variables, inputs: case.apply(variables, inputs, train=True)[1])
    still = case.compiled(lambda variables, inputs: case.apply(variables, inputs, train=False)[1])

    def held(variables: Any) -> Tensors:
        return leaf_map.to_torch(leaf_map.split(variables)[1], False)

    def statistics(state: Tensors, batch: Batch) -> Tensors:
        tensors = {}
        for size, views in sequences(case, state, batch):
            variables = case.variables(state)
            for view in views:
                variables = step(variables, view)
            tensors |= {f"{n} by batches of {size}": value for n, value in held(variables).items()}
        if tensors:
            found = held(still(case.variables(state), batch.inputs))
            tensors |= {f"{name} {AFTER_EVAL}": value for name, value in found.items()}
        return tensors

    return statistics


def theirs(case: Case) -> Side:
    """PyTorch's side: the same, under the same names."""

    def statistics(state: Tensors, batch: Batch) -> Tensors:
        tensors = {}
        for size, views in sequences(case, state, batch):
            module = case.torch_model(state)
            for view in views:
                advance(case, module, view)
            tensors |= {f"{n} by batches of {size}": v for n, v in buffers(module).items()}
        if tensors:
            module = case.torch_model(state).eval()
            advance(case, module, batch.inputs)
            tensors |= {f"{name} {AFTER_EVAL}": v for name, v in buffers(module).items()}
        return tensors

    return statistics


def advance(case: Case, module: torch.nn.Module, inputs: Any) -> None:
    """One forward pass of PyTorch's, for its statistics."""
    with torch.no_grad():
        case.torch_call(module, case.torch_batch(Batch(inputs, ()))[0])


def buffers(module: torch.nn.Module) -> Tensors:
    """A module's buffers by name."""
    return {name: to_numpy(value) for name, value in module.named_buffers()}


def matched(
    case: Case, ours: Tensors, theirs: Tensors, remarks: list[str]
) -> tuple[Tensors, Tensors]:
    """What both have."""
    del case, remarks
    names = [name for name in theirs if name in ours]
    return {name: ours[name] for name in names}, {name: theirs[name] for name in names}


def sequences(case: Case, state: Tensors, batch: Batch) -> list[tuple[int, list[Any]]]:
    """(batch size, three batches) for each size that PyTorch takes.

    None for a pair without statistics, or that has no train mode.
    """
    if not case.pair.trains or not any(name not in case.pair.parameters for name in state):
        return []
    count, found = rows(batch.inputs), []
    for size in dict.fromkeys(min(size, count) for size in (count, *SMALL)):
        views = [take(batch.inputs, _chosen(count, size, turn), count) for turn in range(3)]
        if size > 1 or _is_taken(case, state, views[0]):
            found.append((size, views))
    return found


def _chosen(count: int, size: int, turn: int) -> np.ndarray:
    """`size` of `count` examples, others in every turn.

    The first are all of a whole batch, the next ones half of it twice, or all three batches would
    have the same statistics.
    """
    step = np.arange(size) // 2 if turn and size == count else np.arange(size)
    return (turn * count // 3 + step) % count


def _is_taken(case: Case, state: Tensors, inputs: Any) -> bool:
    """Whether PyTorch trains on so few: its BatchNorm refuses one value a channel."""
    try:
        advance(case, case.torch_model(state), inputs)
    except ValueError:
        return False
    return True
