"""Nothing is shared but a seed: JAX draws what PyTorch draws after `torch.manual_seed(seed)`.

PyTorch makes its module and trains by a shuffling `DataLoader`; JAX follows with
`jax_impl.torch_random.generator` and `jax_impl.torch_random.loader`, which know nothing of PyTorch.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from jax_impl.data.archive import Dataset
from jax_impl.torch_random.generator import Generator
from jax_impl.torch_random.loader import loader_orders
from parity.ladder.result import Comparison, Result, result
from parity.ladder.rungs.points import CHAOS
from parity.ladder.rungs.runs import (
    PARAMETERS_BAR,
    jax_run,
    own_noise,
    reordered,
    same_in_any_order,
    torch_run,
)
from parity.ladder.rungs.trajectory import SECOND_RUNS
from parity.ladder.tolerance import NOISE_MULTIPLE
from parity.pairs.case import Case, precision
from parity.pairs.pair import Batch, ModelPair, Tensors
from parity.pairs.weights import to_arrays
from torch_ref.data import CIFAR10, Digits, make_loader

EPOCHS = 3
TorchData = CIFAR10 | Digits


def init_exact(
    pair: ModelPair, ours: Dataset, theirs: TorchData, seed: int, steps: int, device: str
) -> Result:
    """Initial weights of one seed; every value must have PyTorch's bits."""
    del ours, theirs, steps, device
    torch.manual_seed(seed)
    expected = pair.make_torch().state_dict()
    found = to_arrays(pair.model.init(seed), pair.model)
    total = sum(value.numel() for value in expected.values())
    differing = {
        name: int(np.count_nonzero(found[name] != value.numpy()))
        for name, value in expected.items()
    }
    count = sum(differing.values())
    detail = f"{total:,} values of seed {seed}"
    if count:
        detail += f"; most in {max(differing, key=differing.__getitem__)}"
    comparison = Comparison(count == 0, count, 0, "differing values", detail)
    return result(pair.name, "init_exact", "float32", comparison)


def order_exact(
    pair: ModelPair, ours: Dataset, theirs: TorchData, seed: int, steps: int, device: str
) -> Result:
    """The order of the training images over `EPOCHS` epochs, after the weights' draws."""
    del steps, device
    size, batch_size = len(ours.train.labels), pair.recipe.batch_size
    torch.manual_seed(seed)
    pair.make_torch()
    loader = make_loader(_numbers(theirs), batch_size, shuffle=True)
    expected = [np.concatenate([b.numpy() for b in loader]) for _ in range(EPOCHS)]
    generator = Generator(seed)
    pair.model.init(generator)
    found = list(itertools.islice(loader_orders(size, generator), EPOCHS))
    count = sum(int(np.count_nonzero(a != b)) for a, b in zip(found, expected, strict=True))
    detail = f"{EPOCHS} epochs of {size:,} images in batches of {batch_size}, seed {seed}"
    comparison = Comparison(count == 0, count, 0, "images in another place", detail)
    return result(pair.name, "order_exact", "float32", comparison)


def replay(
    pair: ModelPair, ours: Dataset, theirs: TorchData, seed: int, steps: int, device: str
) -> Result:
    """The losses of so many steps in float64.

    Where they are further apart than the plain bar, second runs of both say how much training
    amplifies rounding, and are made and counted as in the trajectory: from weights moved by one
    rounding, with the examples of every batch in another order.
    """
    case = Case(pair, "float64", device)
    torch.manual_seed(seed)
    expected: Tensors = {n: v.numpy() for n, v in pair.make_torch().state_dict().items()}
    after_init = torch.get_rng_state()
    their_run = torch_run(case, expected)
    their_batches = _torch_batches(pair, ours, theirs)
    generator = Generator(seed)
    state = to_arrays(pair.model.init(generator), pair.model)
    with precision("float64"):
        stepper = case.stepper()
    our_run = jax_run(case, state, stepper)
    torch.set_rng_state(after_init)  # modules made meanwhile have drawn weights of their own
    batches = list(itertools.islice(_jax_batches(pair, ours, generator), steps))
    pairs = zip(batches, their_batches, strict=False)
    losses = np.array([(our_run.step(mine), their_run.step(other)) for mine, other in pairs])
    differences = np.abs(losses[:, 0] - losses[:, 1]) / np.abs(losses[:, 1])
    own, told = np.zeros(len(losses)), ""
    compared = _judged(differences, own, seed, told)
    for second in range(1, SECOND_RUNS + 1):
        if compared.passed:
            break
        again = _second_runs(case, (state, expected), batches, stepper, second)
        own = np.maximum(own, _amplified(again, losses))
        told = (
            "; a second run, rounded otherwise, differs from its framework's first by up to "
            f"{own.max():.1e}"
        )
        there = own <= CHAOS
        compared = _judged(differences[there], own[there], seed, told)
    return result(pair.name, "replay", "float64", compared)


def _second_runs(
    case: Case, states: tuple[Tensors, Tensors], batches: list[Batch], stepper: Any, seed: int
) -> np.ndarray:
    """The losses of JAX and of PyTorch, rounded otherwise: [steps, 2]."""
    ours, theirs = states
    runs = jax_run(case, ours, stepper, seed), torch_run(case, theirs, seed)
    reorder = same_in_any_order(case, theirs, batches[0])
    found = []
    for number, batch in enumerate(batches, 1):
        given = reordered(batch, (number, seed)) if reorder else batch
        found.append([run.step(given) for run in runs])
    return np.array(found)


def _amplified(again: np.ndarray, first: np.ndarray) -> np.ndarray:
    """By step, what second runs of JAX and PyTorch say of rounding; both losses are [steps, 2]."""
    return np.array([own_noise(*each) for each in _own(again, first)])


def _own(again: np.ndarray, first: np.ndarray) -> np.ndarray:
    """By step, the most by which a framework's losses have differed from its own so far.

    A loss that is no number explains nothing.
    """
    return np.nan_to_num(np.fmax.accumulate(np.abs(again - first) / np.abs(first), axis=0), nan=0.0)


def _judged(differences: np.ndarray, own: np.ndarray, seed: int, told: str) -> Comparison:
    """The step that is furthest beyond its tolerance, or nearest to it."""
    unit = "relative difference of the losses"
    if not len(differences):
        detail = f"nothing could be compared, seed {seed}{told}"
        return Comparison(False, 0.0, PARAMETERS_BAR, unit, detail)
    allowed = np.maximum(PARAMETERS_BAR, NOISE_MULTIPLE * own)
    at = int(np.nan_to_num(differences / allowed, nan=np.inf).argmax())
    worst, tolerance = float(differences[at]), float(allowed[at])
    detail = f"largest against its tolerance at step {at + 1} of {len(differences)}, seed {seed}"
    return Comparison(bool(worst <= tolerance), worst, tolerance, unit, detail + told)


def _torch_batches(pair: ModelPair, ours: Dataset, theirs: TorchData) -> Iterator[Batch]:
    """What PyTorch's shuffling loader takes, by its own draws."""
    loader = make_loader(_numbers(theirs), pair.recipe.batch_size, shuffle=True)
    for _ in range(pair.recipe.epochs):
        for indices in loader:
            chosen = indices.numpy()
            yield Batch(ours.train.images[chosen], ours.train.labels[chosen])


def _numbers(theirs: TorchData) -> Any:
    """A data set in which each sample is its own number."""
    return range(len(theirs))


def _jax_batches(pair: ModelPair, ours: Dataset, generator: Generator) -> Iterator[Batch]:
    size = pair.recipe.batch_size
    for order in itertools.islice(
        loader_orders(len(ours.train.labels), generator), pair.recipe.epochs
    ):
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            yield Batch(ours.train.images[chosen], ours.train.labels[chosen])


RUNGS: dict[str, Callable[..., Result]] = {
    "init_exact": init_exact,
    "order_exact": order_exact,
    "replay": replay,
}
