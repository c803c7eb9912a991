"""Running statistics after three train-mode batches, of the batch's own size, three and one."""

import numpy as np
import torch

from parity.pairs.pair import Batch, Case, Side, Tensors, to_numpy

SMALL = 3, 1


def ours(case: Case) -> Side:
    """JAX's side: the statistics after the batches of each size of `sequences`."""
    leaf_map = case.pair.leaf_map
    step = case.compiled(lambda variables, inputs: case.apply(variables, inputs, train=True)[1])

    def statistics(state: Tensors, batch: Batch) -> Tensors:
        tensors = {}
        for size, views in sequences(case, state, batch):
            variables = case.variables(state)
            for view in views:
                variables = step(variables, view)
            found = leaf_map.to_torch(leaf_map.split(variables)[1], False)
            tensors |= {f"{name} by batches of {size}": value for name, value in found.items()}
        return tensors

    return statistics


def theirs(case: Case) -> Side:
    """PyTorch's side: the same, under the same names."""
    leaf_map = case.pair.leaf_map

    def statistics(state: Tensors, batch: Batch) -> Tensors:
        tensors = {}
        held = leaf_map.to_torch(leaf_map.split(case.variables(state))[1], False)
        for size, views in sequences(case, state, batch):
            module = case.torch_model(state)
            with torch.no_grad():
                for view in views:
                    module(case.torch_batch(Batch(view, batch.labels))[0])
            tensors |= {
                f"{name} by batches of {size}": to_numpy(value)
                for name, value in module.named_buffers()
                if name in held
            }
        return tensors

    return statistics


def sequences(case: Case, state: Tensors, batch: Batch) -> list[tuple[int, list[np.ndarray]]]:
    """(batch size, three batches) for each size that PyTorch takes.

    None for a pair without statistics.
    """
    if not any(name not in dict(case.pair.parameters) for name in state):
        return []
    images = np.asarray(batch.images)
    count, found = len(images), []
    for size in dict.fromkeys(min(size, count) for size in (count, *SMALL)):
        views = [images[_chosen(count, size, turn)] for turn in range(3)]
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


def _is_taken(case: Case, state: Tensors, images: np.ndarray) -> bool:
    """Whether PyTorch trains on so few: its BatchNorm refuses one value a channel."""
    try:
        with torch.no_grad():
            case.torch_model(state)(case.torch_batch(Batch(images, np.zeros(len(images), int)))[0])
    except ValueError:
        return False
    return True
