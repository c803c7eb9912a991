"""Running statistics after three train-mode batches, of the batch's own size and of three."""

import numpy as np
import torch

from parity.pair import Batch, Case, Side, Tensors, to_numpy

ODD = 3


def ours(case: Case) -> Side:
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
    """(batch size, three batches) for each size; none for a pair without statistics."""
    if not any(name not in dict(case.pair.parameters) for name in state):
        return []
    images = np.asarray(batch.images)
    shifted = [images, np.roll(images, 1, axis=-2), np.flip(images, axis=-2)]
    sizes = dict.fromkeys((len(images), min(ODD, len(images))))
    return [(size, [np.ascontiguousarray(view[:size]) for view in shifted]) for size in sizes]
