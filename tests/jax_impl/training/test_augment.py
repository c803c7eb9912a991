"""Augmentation within the step is torchvision's, and so is training on it."""

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from training_support import random_split

import torch_ref.augment
import torch_ref.models
from jax_impl.data.augmentation import Augmentation
from jax_impl.errors import InputError
from jax_impl.models.model import create_model
from jax_impl.torch_random.generator import Generator
from jax_impl.torch_random.loader import Drawn, augmentation_draws, loader_orders
from jax_impl.training import optim
from jax_impl.training.augment import augmented, draw, key_of
from jax_impl.training.epoch import make_train_epoch
from jax_impl.training.state import create_state
from parity.pairs.jax_recipe import visits
from parity.pairs.weights import to_arrays

ALL = Augmentation(crop=4, flip=True, cutout=16)
CHOICES = [
    ALL,
    Augmentation(crop=4),
    Augmentation(flip=True),
    Augmentation(cutout=7),
    Augmentation(cutout=1),
    Augmentation(crop=31, reflect=True, cutout=64),
    Augmentation(flip=True, cutout=2),
    Augmentation(flip=True, alternate=True),
    Augmentation(crop=4, flip=True, cutout=16, alternate=True),
    Augmentation(),
]


class Augmented(Dataset):
    """What the notebook's data set gives with such a transform."""

    def __init__(self, split, augmentation):
        self.split = split
        self.transform = torch_ref.augment.transform(32, **dataclasses.asdict(augmentation))

    def __len__(self):
        return len(self.split)

    def __getitem__(self, index):
        image = self.transform(Image.fromarray(self.split.images[index]))
        return image, int(self.split.labels[index])


def drawn_for(augmentation, generator, count):
    options = {"crop": augmentation.crop, "flip": augmentation.flip}
    return augmentation_draws(generator, count, cutout=bool(augmentation.cutout), **options)


@pytest.mark.parametrize("augmentation", CHOICES, ids=str)
def test_the_same_images_from_one_seed(augmentation):
    split = random_split(50)
    torch.manual_seed(3)
    data: Any = Augmented(split, augmentation)
    if augmentation.alternate:
        data = torch_ref.augment.Alternating(data, 7)
    loader, generator = DataLoader(data, 16, shuffle=True), Generator(3)
    epochs = itertools.islice(visits(50, generator, augmentation, seed=7, epoch=4), 3)
    for number, (order, drawn) in enumerate(epochs, 4):
        data.epoch = number
        drawn = jax.tree.map(jnp.asarray, drawn)
        ours = augmented(jnp.asarray(split.images[order]), jnp.float32, drawn, augmentation)
        theirs = torch.cat([images for images, _ in loader]).numpy().transpose(0, 2, 3, 1)
        assert np.asarray(ours).tobytes() == np.ascontiguousarray(theirs).tobytes()
    assert (generator.get_state() == torch.get_rng_state().numpy()).all()


def test_flips_that_alternate_visit_both_sides_of_every_image():
    """Half are mirrored in the first epoch, and the others in the next; not by the draws of it."""
    augmentation = dataclasses.replace(ALL, alternate=True)
    seen = []
    for by_torch in (True, False):
        epochs = visits(1000, Generator(0), augmentation, by_torch=by_torch, seed=5)
        for order, drawn in itertools.islice(epochs, 3):
            assert (drawn.top is None) == (not by_torch)
            mirrored = np.empty(1000, bool)
            mirrored[order] = drawn.flipped
            seen.append(mirrored)
    assert abs(int(seen[0].sum()) - 500) < 5 * np.sqrt(250)
    assert (seen[0] != seen[1]).all() and (seen[0] == seen[2]).all()
    assert (np.array(seen[:3]) == seen[3:]).all()


def test_jax_draws_every_value_alike():
    """Of 20,000 images: counts within five standard deviations, corners and centres in range."""
    count = 20_000
    drawn = draw(key_of(-1), ALL, jax.ShapeDtypeStruct((count, 32, 24, 3), jnp.uint8))
    for values, choices in zip(drawn, (9, 9, 2, 32, 24), strict=True):
        found = np.bincount(np.asarray(values, int), minlength=choices)
        assert found.shape == (choices,)
        mean = count / choices
        assert np.abs(found - mean).max() < 5 * np.sqrt(mean)
    pairs = np.corrcoef([np.asarray(values, float) for values in drawn])
    assert np.abs(pairs - np.eye(5)).max() < 5 / np.sqrt(count)
    none = draw(key_of(0), Augmentation(), jax.ShapeDtypeStruct((8, 32, 32, 3), jnp.uint8))
    assert none == Drawn()


def test_seeds_have_keys_of_their_own():
    seeds = [0, 1, -1, 2**32, 2**32 + 1, 2**63, 2**64 - 2, -(2**63) + 1]
    keys = {jax.random.key_data(key_of(seed)).tobytes() for seed in seeds}
    assert len(keys) == len(seeds)


@pytest.mark.parametrize("value", [-1, 1.5, "4"])
@pytest.mark.parametrize("name", ["crop", "cutout"])
def test_a_size_that_is_none_is_bad_input(name, value):
    with pytest.raises(InputError, match=f"{name} is {value!r}: give a whole number of pixels"):
        Augmentation(**{name: value})  # pyright: ignore[reportArgumentType]


CROP, FLIP = Augmentation(crop=4), Augmentation(flip=True)
ALTERNATING = dataclasses.replace(FLIP, alternate=True)
FIVE = np.arange(5)


@pytest.mark.parametrize(
    "augmentation, drawn, why",
    [
        (CROP, Drawn(), "top of the augmentation: nothing is drawn for it; give top left"),
        (CROP, Drawn(top=FIVE), "left of the augmentation: nothing is drawn for it"),
        (ALL, Drawn(top=FIVE, left=FIVE), "flipped of the augmentation: nothing is drawn for it"),
        (ALTERNATING, Drawn(), "flipped of the augmentation: nothing is drawn for it"),
        (Augmentation(), Drawn(flipped=FIVE > 2), "flipped of the augmentation: that is not to be"),
        (FLIP, Drawn(flipped=FIVE), r"is int64 \[5\]: give bool \[5\]"),
        (FLIP, Drawn(flipped=FIVE[:4] > 2), r"is bool \[4\]: give bool \[5\]"),
        (FLIP, Drawn(flipped=np.ones(1, bool)), r"is bool \[1\]: give bool \[5\]"),
        (CROP, Drawn(top=FIVE, left=FIVE + 0.5), r"left .* is float64 \[5\]: give integers \[5\]"),
        (Augmentation(crop=1), Drawn(top=FIVE, left=FIVE), "top .* is 0 to 4: give 0 to 2"),
        (Augmentation(cutout=2), Drawn(row=FIVE, column=FIVE - 1), "column .* is -1 to 3: give 0"),
    ],
)
def test_draws_that_are_not_what_is_needed_are_told(augmentation, drawn, why):
    split, model, optimizer = random_split(5), create_model("simple_cnn"), optim.adam()
    epoch = make_train_epoch(model, optimizer, 2, None, augmentation)
    with pytest.raises(InputError, match=why):
        augmented(split.images, jnp.float32, drawn, augmentation)
    if augmentation in (CROP, ALL):  # what is not given is drawn
        return
    with pytest.raises(InputError, match=why):
        next(epoch(None, split.images, split.labels, FIVE, drawn))


@pytest.mark.parametrize("order", [[0, 5], [-1, 2]])
def test_an_order_of_images_that_are_not_there_is_told(order):
    split = random_split(5)
    epoch = make_train_epoch(create_model("simple_cnn"), optim.adam(), 2)
    with pytest.raises(InputError, match="the order visits images .*: give 0 to 4"):
        next(epoch(None, split.images, split.labels, order))


@pytest.mark.parametrize("smoothing", [-0.1, 1.1, float("nan")])
def test_smoothing_that_is_no_share_is_told(smoothing):
    with pytest.raises(InputError, match="the label smoothing is"):
        make_train_epoch(create_model("simple_cnn"), optim.adam(), 2, label_smoothing=smoothing)


@pytest.mark.parametrize("size", [1, 2, 3, 16])
def test_a_square_in_the_middle_has_the_size_that_is_said(size):
    sixteen = jnp.full(1, 16)
    images, drawn = jnp.full((1, 32, 32, 3), 255, jnp.uint8), Drawn(row=sixteen, column=sixteen)
    cut = augmented(images, jnp.float32, drawn, Augmentation(cutout=size))
    assert int((cut == 0).sum()) == 3 * size**2


def trained(epoch, state, split, orders):
    losses = []
    for visit in orders:
        for after, some in epoch(state, split.images, split.labels, *visit):
            state = after
            losses += some.losses.tolist()
    return state, losses


def test_the_draws_belong_to_the_seed_and_the_step():
    """Training that goes on elsewhere sees what it would have seen; another seed does not."""
    model, split, optimizer = create_model("simple_cnn"), random_split(40), optim.adam()
    orders = [(np.arange(40),)] * 2

    def start():
        return create_state(model.init(0), optimizer)

    def epoch(seed):
        return make_train_epoch(model, optimizer, 16, None, ALL, seed)

    _, whole = trained(epoch(5), start(), split, orders)
    half, first = trained(epoch(5), start(), split, orders[:1])
    _, rest = trained(epoch(5), half, split, orders[1:])
    assert whole == first + rest and len(whole) == 6
    _, other = trained(epoch(6), start(), split, orders)
    assert not set(whole) & set(other)


def test_what_is_given_is_not_drawn():
    model, split, optimizer = create_model("simple_cnn"), random_split(40), optim.adam()
    order, ones = np.arange(40), np.ones(40, bool)

    def losses(augmentation, drawn):
        epoch = make_train_epoch(model, optimizer, 16, None, augmentation, 5)
        state = create_state(model.init(0), optimizer)
        return trained(epoch, state, split, [(order, drawn)])[1]

    alternating = dataclasses.replace(ALL, alternate=True)
    mirrored, not_mirrored = (losses(alternating, Drawn(flipped=flip)) for flip in (ones, ~ones))
    assert len(mirrored) == 3 and not set(mirrored) & set(not_mirrored)
    # Without a flip, alternating or not, the rest is drawn alike.
    assert losses(ALL, Drawn(flipped=~ones)) == not_mirrored
    assert losses(ALL, None) not in (mirrored, not_mirrored)


@pytest.mark.parametrize(
    "name, options, epochs",
    [
        ("simple_cnn", {}, 3),
        pytest.param("resnet18", {"width": 8}, 20, marks=pytest.mark.proof),
    ],
)
def test_training_from_one_seed_is_pytorchs(name, options, epochs):
    """In float64, weights, order and augmentation drawn from the seed on each side."""
    split, batch_size = random_split(100), 10
    torch.manual_seed(1)
    twin = torch_ref.models.create_model(name, **options).double()
    loader = DataLoader(Augmented(split, ALL), batch_size, shuffle=True)
    adam = torch.optim.Adam(twin.parameters(), lr=1e-3)
    theirs = []
    for images, labels in itertools.chain.from_iterable(itertools.repeat(loader, epochs)):
        adam.zero_grad()
        loss = F.cross_entropy(twin(images.double()), labels)
        loss.backward()
        adam.step()
        theirs.append(loss.item())

    with jax.enable_x64(True):
        model, optimizer, generator = create_model(name, **options), optim.adam(), Generator(1)
        variables = jax.tree.map(lambda x: jnp.asarray(x, float), model.init(generator))
        state = create_state(variables, optimizer)
        orders = itertools.islice(loader_orders(100, generator), epochs)
        visits = ((order, drawn_for(ALL, generator, 100)) for order in orders)
        epoch = make_train_epoch(model, optimizer, batch_size, None, ALL)
        state, ours = trained(epoch, state, split, visits)
    assert len(ours) == len(theirs) == 10 * epochs
    # The bar of `trajectory` for what training amplifies.
    assert np.abs(np.array(ours) / theirs - 1).max() <= 1e-10
    arrays = to_arrays(state.variables, model)
    assert all(np.isfinite(arrays[key]).all() for key in twin.state_dict())
