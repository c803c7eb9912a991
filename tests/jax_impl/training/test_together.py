"""Several trainings in one compiled step: each is what it is on its own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_impl import create_model
from jax_impl.data.archive import Split
from jax_impl.data.augmentation import Augmentation
from jax_impl.errors import InputError
from jax_impl.torch_random.generator import Generator
from jax_impl.torch_random.loader import Drawn, loader_orders
from jax_impl.training import optim
from jax_impl.training.averaging import with_average
from jax_impl.training.epoch import make_train_epoch
from jax_impl.training.fit import fit, fit_together
from jax_impl.training.state import create_state, stacked, unstacked

SEEDS = 3, 4, 9
BATCH, STEPS = 4, 50
SIZE = BATCH * STEPS - 1  # the last batch is smaller
SMALL = "simple_cnn", {"channels": (3, 4), "hidden": 8}
AUGMENTATION = Augmentation(crop=2, flip=True, cutout=8)


def split():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (SIZE, 32, 32, 3), dtype=np.uint8)
    return Split(images, rng.integers(0, 10, SIZE, dtype=np.int64))


def begun(model, optimizer, seed, dtype=jnp.float64, epochs=2):
    """The state at the start, and the order of each epoch."""
    generator = Generator(seed)
    variables = jax.tree.map(lambda a: jnp.asarray(a, dtype), model.init(generator))
    orders = loader_orders(SIZE, generator)
    return create_state(variables, optimizer), [(next(orders), Drawn()) for _ in range(epochs)]


def trained(model, optimizer, dtype=jnp.float64, seeds=SEEDS, **options):
    """By seed what a training comes to on its own, and at once with the others."""
    alone, images = [], split()
    for seed in seeds:
        state, orders = begun(model, optimizer, seed, dtype)
        epoch = make_train_epoch(model, optimizer, BATCH, seed=seed, **options)
        alone.append(fit(epoch, state, images, orders))
    states, orders = zip(*(begun(model, optimizer, seed, dtype) for seed in seeds), strict=True)
    epoch = make_train_epoch(model, optimizer, BATCH, seed=seeds, **options)
    states, epochs = fit_together(epoch, stacked(states), images, zip(*orders, strict=True))
    return alone, [(unstacked(states, k), epochs[k]) for k in range(len(seeds))]


def difference(one, other):
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return max(float(jnp.max(jnp.abs(a - b))) for a, b in pairs)


def assert_each_is_what_it_is_on_its_own(model, optimizer, seeds, **training):
    with jax.enable_x64(True):
        alone, together = trained(model, optimizer, seeds=seeds, **training)
        for (state, epochs), (own, own_epochs) in zip(alone, together, strict=True):
            assert [epoch.accuracy for epoch in own_epochs] == [epoch.accuracy for epoch in epochs]
            losses = [[epoch.loss for epoch in found] for found in (epochs, own_epochs)]
            assert np.allclose(*losses, rtol=0, atol=1e-10)
            assert difference(state, own) <= 1e-10
        first, second = together[:2]
        assert difference(first[0].params, second[0].params) > 1e-3  # they are several trainings


def test_each_is_what_it_is_on_its_own():
    """Augmented by JAX's generator, averaged, with a smaller batch at the end of each epoch."""
    optimizer = with_average(optim.sgd(0.01, momentum=0.9), 0.9)
    training = {"augmentation": AUGMENTATION, "label_smoothing": 0.1}
    model = create_model(SMALL[0], **SMALL[1])
    assert_each_is_what_it_is_on_its_own(model, optimizer, SEEDS[:2], **training)


@pytest.mark.parametrize(("name", "options"), [SMALL, ("resnet20", {})], ids=["cnn", "resnet20"])
def test_three_trainings_by_adam_are_what_they_are_on_their_own(name, options):
    model = create_model(name, **options)
    assert_each_is_what_it_is_on_its_own(model, optim.adam(1e-3), SEEDS)


def test_one_that_diverges_ends_and_the_others_go_on():
    model, optimizer, images = create_model(SMALL[0], **SMALL[1]), optim.adam(1e-3), split()
    states, orders = zip(*(begun(model, optimizer, s, jnp.float32) for s in SEEDS), strict=True)
    bad = jax.tree.map(lambda leaf: leaf * jnp.nan, states[1].params)
    broken = type(states[1])(states[1].step, bad, states[1].batch_stats, states[1].opt_state)
    stops, told = [], []
    epoch = make_train_epoch(model, optimizer, BATCH, seed=SEEDS)
    _, epochs = fit_together(
        epoch,
        stacked([states[0], broken, states[2]]),
        images,
        zip(*orders, strict=True),
        keep_going=False,
        on_stop=lambda k, stop: stops.append((k, stop.epoch, stop.step)),
        on_epoch=lambda epochs, states: told.append([*epochs]),
    )
    assert stops == [(1, 1, 1)] and told == [[0, 2], [0, 2]]
    assert [*epochs] == [0, 2] and all(np.isfinite(e.loss) for own in epochs.values() for e in own)


def test_when_all_diverge_nothing_is_trained_on():
    model, optimizer, images = create_model(SMALL[0], **SMALL[1]), optim.adam(1e-3), split()
    state, orders = begun(model, optimizer, 0, jnp.float32)
    bad = jax.tree.map(lambda leaf: leaf * jnp.nan, state.params)
    broken = type(state)(state.step, bad, state.batch_stats, state.opt_state)
    calls = []
    epoch = make_train_epoch(model, optimizer, BATCH, seed=[0])
    _, epochs = fit_together(
        epoch,
        stacked([broken]),
        images,
        ([order] for order in orders),
        keep_going=False,
        on_steps=lambda *arguments: calls.append("steps"),
        on_epoch=lambda *arguments: calls.append("epoch"),
    )
    assert not epochs and not calls


def test_orders_that_are_not_of_so_many_trainings_are_refused():
    model, optimizer, images = create_model(SMALL[0], **SMALL[1]), optim.adam(1e-3), split()
    with pytest.raises(InputError, match="give one seed or more"):
        make_train_epoch(model, optimizer, BATCH, seed=())
    state, orders = begun(model, optimizer, 0, jnp.float32)
    epoch = make_train_epoch(model, optimizer, BATCH, seed=(0, 1))
    with pytest.raises(InputError, match="give one to each of 2 trainings"):
        next(epoch(stacked([state, state]), images.images, images.labels, orders[0][0]))
