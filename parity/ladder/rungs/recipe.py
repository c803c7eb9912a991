"""Everything that a recipe may say at once, through the scripts' own training, from a seed.

JAX is interrupted after every epoch, and goes on from its checkpoint; PyTorch is not.
"""

import dataclasses
import itertools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

import torch_ref.augment
import torch_ref.train
from jax_impl.data.archive import Split
from jax_impl.data.augmentation import Augmentation
from jax_impl.data.datasets import normalize
from jax_impl.torch_random.generator import Generator
from jax_impl.training.augment import augmented
from jax_impl.training.averaging import averaged
from jax_impl.training.epoch import make_train_epoch
from jax_impl.training.resume import Checkpoints, newest
from jax_impl.training.state import create_state
from parity.ladder.result import Comparison, Result, result
from parity.ladder.rounding import moved_arrays, moved_tree
from parity.ladder.rungs.second_runs import Parts, compare, losses_of
from parity.ladder.rungs.trajectory import SECOND_RUNS
from parity.pairs.case import precision
from parity.pairs.jax_recipe import make_optimizer, visits
from parity.pairs.pair import ModelPair, Tensors
from parity.pairs.torch_recipe import make_optimizer as make_torch_optimizer
from parity.pairs.weights import to_arrays
from parity.shell.recipes import Recipe

IMAGES = 64
RECIPE = Recipe(
    batch_size=10,
    optimizer="sgd",
    lr=0.05,
    epochs=3,
    momentum=0.9,
    nesterov=True,
    weight_decay=5e-3,
    decay_norms=False,
    schedule="steps",
    milestones=(1.3, 2.0),
    gamma=0.2,
    warmup=0.5,
    label_smoothing=0.1,
    clip_norm=0.3,
    ema=0.9,
    accumulate=2,
    mirror=True,
    augment=Augmentation(crop=4, flip=True, cutout=16),
)
"""Each part of it moves the losses or the weights of so short a training by far more than the
tolerance."""


class Trained(NamedTuple):
    """What a training saw and came to.

    The inputs of the first epoch, float32 [n, h, w, 3] as they were visited; the loss of every
    step; the weights that are kept; and their logits, added to those of mirror images.
    """

    inputs: np.ndarray
    losses: np.ndarray
    weights: Tensors
    logits: np.ndarray


@dataclasses.dataclass(frozen=True)
class Change:
    """What PyTorch's side does otherwise, for the diagnosis.

    Args:
        recipe: trained by.
        transform: of the images, in place of the recipe's.
        scheduler_first: the rate is set before a step, and not after it.
        divide: the losses of accumulated batches by their number.
        forget: the optimizer's state after every epoch.
        average: of the parameters is what is kept: of "after" a step, of "before" it, or "none".
        mirror: images' logits are added.
    """

    recipe: Recipe = RECIPE
    transform: Callable[[Any], torch.Tensor] | None = None
    scheduler_first: bool = False
    divide: bool = True
    forget: bool = False
    average: str = "after"
    mirror: bool = True


NONE = Change()


def run(pair: ModelPair, split: Split, seed: int, device: str) -> Iterator[Result]:
    """The inputs bit for bit in float32; losses, weights and logits in float64.

    Where those are further apart than the plain bar, second trainings of both from weights moved by
    one rounding say how much training amplifies, and are counted as in the trajectory.
    """
    split = first_images(split)
    ours = in_jax(pair, split, seed)
    theirs = in_torch(pair, split, seed, device)
    yield result(pair.name, "recipe", "float32", compare_inputs(ours, theirs))
    again: list[tuple[Trained, Trained]] = []
    compared = compare_training(ours, theirs)
    for second in range(1, SECOND_RUNS + 1):
        if compared.passed:
            break
        again.append(
            (in_jax(pair, split, seed, second), in_torch(pair, split, seed, device, moved=second))
        )
        compared = compare_training(ours, theirs, again)
    yield result(pair.name, "recipe", "float64", compared)


def first_images(split: Split) -> Split:
    """Those that the rung trains on."""
    return Split(split.images[:IMAGES], split.labels[:IMAGES])


def compare_inputs(ours: Trained, theirs: Trained) -> Comparison:
    """How many of the first epoch's augmented values differ, of float32."""
    count = int(np.count_nonzero(ours.inputs != theirs.inputs))
    detail = f"{ours.inputs.size:,} values: crop, flip, normalised, cutout, by PyTorch's draws"
    return Comparison(count == 0, count, 0, "differing values", detail)


def compare_training(
    ours: Trained, theirs: Trained, again: Sequence[tuple[Trained, Trained]] = ()
) -> Comparison:
    """The losses, weights and logits; `again` are second trainings of the two."""
    unit = "relative difference of a training with every part of a recipe"
    return compare(unit, _parts(ours), _parts(theirs), [(_parts(a), _parts(b)) for a, b in again])


def _parts(trained: Trained) -> Parts:
    weights = {f"the kept {name}": value for name, value in trained.weights.items()}
    return {**losses_of(trained.losses), **weights, "the mirrored logits": trained.logits}


def in_jax(pair: ModelPair, split: Split, seed: int, moved: int | None = None) -> Trained:
    """JAX's side; with `moved`, a seed, from weights moved by one rounding."""
    recipe, model, size = RECIPE, pair.model, len(split.labels)
    with precision("float64"):
        generator = Generator(seed)
        variables = jax.tree.map(_wide, model.init(generator))
        if moved is not None:
            variables = moved_tree(variables, moved)
        optimizer = make_optimizer(recipe, -(-size // recipe.batch_size))
        epoch = make_train_epoch(
            model, optimizer, recipe.batch_size, None, recipe.augment, 0, recipe.label_smoothing
        )
        state, losses, inputs = create_state(variables, optimizer), [], np.empty(0)
        orders = itertools.islice(visits(size, generator, recipe.augment), recipe.epochs)
        for number, (order, drawn) in enumerate(orders):
            if number == 0:
                on_device = jax.tree.map(jnp.asarray, drawn)
                images = jnp.asarray(split.images[order])
                inputs = np.asarray(augmented(images, jnp.float32, on_device, recipe.augment))
            else:
                state = _again(state)
            for after, steps in epoch(state, split.images, split.labels, order, drawn):
                state = after
                losses += steps.losses.tolist()
        kept = averaged(state)
        given = normalize(split.images, jnp.float64)
        apply = jax.jit(lambda kept, x: model.apply(kept, x, train=False)[0])
        logits = apply(kept, given) + apply(kept, given[:, :, ::-1])
        return Trained(inputs, np.array(losses), to_arrays(kept, model), np.asarray(logits))


def _again(state: Any) -> Any:
    """A state out of its checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        saved = Checkpoints(Path(folder), 1)
        saved.save(1, state, {"step": 1})
        saved.close()
        return newest(Path(folder), state, lambda told: None, lambda line: None).state


def _wide(leaf: Any) -> Any:
    return jnp.asarray(leaf, jnp.float64) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf


class _Images(Dataset[Any]):
    """Augmented images of a split, and in `seen` the first ones that were asked for."""

    def __init__(self, split: Split, transform: Callable[[Any], torch.Tensor]):
        self.split, self.transform, self.seen = split, transform, []

    def __len__(self) -> int:
        return len(self.split.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = self.transform(Image.fromarray(self.split.images[index]))
        if len(self.seen) < len(self):
            self.seen.append(image)
        return image.double(), int(self.split.labels[index])


def in_torch(
    pair: ModelPair,
    split: Split,
    seed: int,
    device: str,
    change: Change = NONE,
    moved: int | None = None,
) -> Trained:
    """PyTorch's side, by the notebook's loop; `moved` as in `in_jax`."""
    recipe, side = change.recipe, split.images.shape[1]
    torch.manual_seed(seed)
    module = pair.make_torch().double()
    if moved is not None:
        state = {name: value.numpy() for name, value in module.state_dict().items()}
        state = moved_arrays(state, np.random.default_rng(moved))
        module.load_state_dict({name: torch.as_tensor(value) for name, value in state.items()})
    module.to(device)
    transform = change.transform or torch_ref.augment.transform(
        side, **dataclasses.asdict(recipe.augment)
    )
    images = _Images(split, transform)
    loader = DataLoader(images, recipe.batch_size, shuffle=True)
    optimizer, scheduler = make_torch_optimizer(module, recipe, len(loader))
    average = None if recipe.ema is None else torch_ref.train.averaged(module, recipe.ema)
    losses: list[float] = []
    criterion = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    times = 1 if change.divide else recipe.accumulate

    def noted(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        loss = criterion(outputs, labels)
        losses.append(loss.item())
        return loss * times

    def forget(_: Any) -> None:
        if change.forget:
            optimizer.state.clear()

    if change.scheduler_first and scheduler is not None:
        optimizer.register_step_pre_hook(lambda *_: scheduler.step())
    if average is not None and change.average == "before":
        optimizer.register_step_pre_hook(lambda *_: average.update_parameters(module))
    torch_ref.train.train(
        module,
        itertools.repeat(loader, recipe.epochs),
        noted,
        optimizer,
        device,
        scheduler=None if change.scheduler_first else scheduler,
        clip_norm=recipe.clip_norm,
        accumulate=recipe.accumulate,
        average=average if change.average == "after" else None,
        print=lambda line: None,
        on_epoch=forget,
    )
    kept = module if average is None or change.average == "none" else average.module
    kept.eval()
    with torch.no_grad():
        plain = np.asarray(normalize(split.images)).transpose(0, 3, 1, 2).copy()
        given = torch.from_numpy(plain).double().to(device)
        logits = kept(given)
        if change.mirror:
            logits = logits + kept(given.flip(-1))
    inputs = torch.stack(images.seen).numpy().transpose(0, 2, 3, 1)
    weights = {name: value.cpu().numpy() for name, value in kept.state_dict().items()}
    return Trained(inputs, np.array(losses), weights, logits.cpu().numpy())
