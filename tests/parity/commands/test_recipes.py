"""What a recipe says is the same training in both frameworks, by the scripts' own functions."""

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from training_support import random_split

import torch_ref.augment
import torch_ref.models
import torch_ref.train
from jax_impl.data.augmentation import Augmentation
from jax_impl.models.model import from_spec
from jax_impl.models.registry import parse
from jax_impl.torch_random.generator import Generator
from jax_impl.training.averaging import averaged
from jax_impl.training.epoch import make_train_epoch
from jax_impl.training.state import create_state
from parity.ladder.rungs.recipe import RECIPE
from parity.pairs import jax_recipe, torch_recipe
from parity.pairs.weights import to_arrays
from parity.shell.recipes import Recipe

IMAGES, SEED = 64, 4
# The bar of `trajectory`, of losses: what training amplifies.
BAR = 1e-10
COSINE = Recipe(10, "adamw", 1e-3, 3, weight_decay=0.1, decay_norms=False, schedule="cosine")
RECIPES = {
    "everything": RECIPE,
    "cosine": COSINE,
    "cosine after a warm-up": dataclasses.replace(COSINE, warmup=1.0, clip_norm=0.5),
    "warm-up alone": Recipe(10, "rmsprop", 1e-4, 3, momentum=0.5, warmup=2.0),
    "the notebook's": Recipe(10, "adam", 1e-3, 3),
    "alternating flips": dataclasses.replace(
        RECIPE, augment=dataclasses.replace(RECIPE.augment, alternate=True)
    ),
}
SMALL = "simple_cnn:channels=4,4:hidden=8"


class Augmented(Dataset):
    def __init__(self, split, recipe):
        self.split = split
        self.transform = torch_ref.augment.transform(32, **dataclasses.asdict(recipe.augment))

    def __len__(self):
        return len(self.split)

    def __getitem__(self, index):
        image = self.transform(Image.fromarray(self.split.images[index]))
        return image.double(), int(self.split.labels[index])


Trained = tuple[list[float], dict[str, np.ndarray]]
"""Losses, step by step, and the weights that a run keeps."""


def in_torch(model: str, recipe: Recipe) -> Trained:
    spec = parse(model)
    torch.manual_seed(SEED)
    net = torch_ref.models.create_model(spec.name, **dataclasses.asdict(spec.options)).double()
    data: Any = Augmented(random_split(IMAGES), recipe)
    if recipe.augment.alternate:
        data = torch_ref.augment.Alternating(data, SEED)
    loader = DataLoader(data, recipe.batch_size, shuffle=True)
    made = torch_recipe.make_optimizer(net, recipe, len(loader))
    losses, criterion = [], nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    average = None if recipe.ema is None else torch_ref.train.averaged(net, recipe.ema)

    def noted(outputs, labels):
        loss = criterion(outputs, labels)
        losses.append(loss.item())
        return loss

    def loaders():
        for number in range(1, recipe.epochs + 1):
            data.epoch = number
            yield loader

    torch_ref.train.train(
        net,
        loaders(),
        noted,
        made[0],
        scheduler=made[1],
        clip_norm=recipe.clip_norm,
        accumulate=recipe.accumulate,
        average=average,
        print=lambda line: None,
    )
    kept = net if average is None else average.module
    return losses, {name: value.numpy() for name, value in kept.state_dict().items()}


def in_jax(model: str, recipe: Recipe) -> Trained:
    split, losses = random_split(IMAGES), []
    with jax.enable_x64(True):
        net, generator = from_spec(parse(model)), Generator(SEED)
        variables = jax.tree.map(lambda x: jnp.asarray(x, float), net.init(generator))
        optimizer = jax_recipe.make_optimizer(recipe, -(-IMAGES // recipe.batch_size))
        epoch = make_train_epoch(
            net, optimizer, recipe.batch_size, None, recipe.augment, 0, recipe.label_smoothing
        )
        state = create_state(variables, optimizer)
        visits = itertools.islice(
            jax_recipe.visits(IMAGES, generator, recipe.augment, seed=SEED), recipe.epochs
        )
        for visit in visits:
            for after, some in epoch(state, split.images, split.labels, *visit):
                state = after
                losses += some.losses.tolist()
        return losses, to_arrays(averaged(state), net)


def apart(ours: Trained, theirs: Trained) -> float:
    """Of the losses and of the weights that are kept, the largest relative difference."""
    assert len(ours[0]) == len(theirs[0]) == 21 and ours[1].keys() == theirs[1].keys()
    pairs = [(ours[0], theirs[0]), *((ours[1][name], theirs[1][name]) for name in ours[1])]
    return max(float(np.abs(np.subtract(a, b)).max() / np.abs(b).max()) for a, b in pairs)


@pytest.mark.parametrize(
    "model, name",
    [
        pytest.param("resnet18:width=4", "everything", marks=pytest.mark.proof),
        *((SMALL, name) for name in RECIPES),
    ],
)
def test_a_recipe_trains_alike(model, name):
    assert apart(in_jax(model, RECIPES[name]), in_torch(model, RECIPES[name])) <= BAR


ONE_SIDED = {
    "momentum": 0.8,
    "nesterov": False,
    "weight_decay": 4e-3,
    "decay_norms": True,
    "schedule": "constant",
    "milestones": (1.3, 1.8),  # a step earlier
    "gamma": 0.1,
    "warmup": 0.3,
    "label_smoothing": 0.0,
    "clip_norm": None,
    "accumulate": 1,
    "ema": 0.95,
    "augment": Augmentation(crop=4, flip=True, cutout=16, alternate=True),
}


@pytest.fixture(scope="module")
def reference() -> Trained:
    return in_torch(SMALL, RECIPE)


@pytest.mark.parametrize("field", ONE_SIDED)
def test_what_one_side_does_otherwise_shows(field, reference):
    changed = dataclasses.replace(RECIPE, **{field: ONE_SIDED[field]})
    assert apart(in_jax(SMALL, changed), reference) > 1e4 * BAR
