"""The rung of recipes, and bugs of trainings planted on JAX's side: each is caught and named."""

import dataclasses
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jax_impl.data.augmentation import Augmentation
from jax_impl.data.datasets import load_digits, normalize
from jax_impl.models.registry import parse
from jax_impl.training import augment, averaging, build, resume, schedules
from parity.commands import run as command
from parity.ladder.rungs import recipe
from parity.pairs import jax_recipe
from parity.pairs.pair import ModelPair, create_pair

Patch = pytest.MonkeyPatch
BUGS: dict[str, tuple[str, str, Callable[[Patch], None]]] = {}


@pytest.fixture(scope="module")
def pair() -> ModelPair:
    return create_pair(parse("simple_cnn:channels=4,4:hidden=8"))


def bug(part: str, cause: str) -> Callable:
    def add(patch: Callable[[Patch], None]) -> Callable:
        BUGS[patch.__name__.replace("_", " ")] = part, cause, patch
        return patch

    return add


@bug("the optimizer", "weight decay is of biases and normalisations too")
def decay_on_norms(patch):
    patch.setattr(build, "_decays", lambda params: jax.tree.map(lambda _: True, params))


@bug("the moving average", "the last weights are kept, and not their average")
def average_missing(patch):
    patch.setattr(recipe, "averaged", lambda state: state.variables)


@bug("the moving average", "it is of the weights before the step")
def average_of_the_wrong_step(patch):
    def with_average(optimizer, decay):
        right: Any = averaging.with_average(optax.set_to_zero(), decay)

        def update(updates, state, params=None):
            _, kept = right.update(updates, state, params)  # follows before the weights move
            made, inner = optimizer.update(updates, state.inner, params)
            return made, kept._replace(inner=inner)

        def init(params):
            return right.init(params)._replace(inner=optimizer.init(params))

        return optax.GradientTransformation(init, update)

    patch.setattr(build, "with_average", with_average)


@bug("the schedule", "the rate is a step ahead")
def schedule_one_step_off(patch):
    made = schedules.sequential_lr

    def ahead(*arguments):
        schedule = made(*arguments)
        return lambda step: schedule(step + 1)

    patch.setattr(schedules, "sequential_lr", ahead)


@bug("the augmentation", "the cutout is made before normalising")
def cutout_before_normalising(patch):
    cut = augment._cut_out

    def black(inputs, drawn, size):
        gone = cut(jnp.ones_like(inputs), drawn, size) == 0
        return jnp.where(gone, jnp.asarray(-1, inputs.dtype), inputs)

    patch.setattr(augment, "_cut_out", black)


@bug("the augmentation", "the padding is made after normalising")
def crop_padded_after_normalising(patch):
    right = augment.augmented

    def faulty(images, dtype, drawn, augmentation):
        found = right(images, dtype, drawn, augmentation)
        outside = augment._crop(jnp.ones_like(images), drawn, augmentation) == 0
        flip = drawn.flipped[:, None, None, None]
        outside = jnp.where(flip, outside[:, :, ::-1], outside)
        return jnp.where(outside, jnp.zeros((), found.dtype), found)

    patch.setattr(recipe, "augmented", faulty)
    patch.setattr("jax_impl.training.epoch.augmented", faulty)


@bug("the training step", "accumulated gradients are summed, not averaged")
def gradients_summed(patch):
    def summed(optimizer, batches):
        scale = optax.scale(float(batches))
        return averaging.accumulated(optax.chain(scale, optimizer), batches)

    patch.setattr(build, "accumulated", summed)


@bug("the training step", "every batch makes a step: none are accumulated")
def gradients_not_accumulated(patch):
    made = jax_recipe.make_optimizer

    def alone(given, batches):
        return made(dataclasses.replace(given, accumulate=1), batches)

    patch.setattr(recipe, "make_optimizer", alone)


@bug("the loss", "labels are not smoothed")
def no_smoothing(patch):
    made = recipe.make_train_epoch
    patch.setattr(recipe, "make_train_epoch", lambda *given: cast(Any, made)(*given[:-1], 0.0))


@bug("the training step", "the optimizer's state is lost when training goes on")
def state_lost_on_resuming(patch):
    right = resume.newest

    def faulty(folder, like, check, log):
        found = right(folder, like, check, log)

        def fresh(path: Any, leaf: Any) -> Any:
            momentum = any(getattr(key, "name", "") == "trace" for key in path)
            return jnp.zeros_like(leaf) if momentum else leaf

        return found._replace(state=jax.tree_util.tree_map_with_path(fresh, found.state))

    patch.setattr(recipe, "newest", faulty)


@bug("the optimizer", "gradients are not clipped")
def no_clipping(patch):
    patch.setattr("jax_impl.training.optim.clip_by_global_norm", lambda norm: optax.identity())


@bug("the augmentation", "there is no flip")
def no_flip(patch):
    made = augment.augmented

    def faulty(images, dtype, drawn, augmentation):
        plain: Augmentation = dataclasses.replace(augmentation, flip=False)
        return made(images, dtype, drawn._replace(flipped=None), plain)

    patch.setattr(recipe, "augmented", faulty)
    patch.setattr("jax_impl.training.epoch.augmented", faulty)


@bug("the evaluation", "the mirror image is left out")
def no_mirror(patch):
    made = recipe.in_jax

    def faulty(pair, split, *rest, **options):
        found = made(pair, split, *rest, **options)
        apply = pair.model.apply
        with jax.enable_x64(True):
            kept = found.weights
            variables = pair.to_flax(kept)
            logits, _ = apply(variables, normalize(split.images, jnp.float64), train=False)
        return found._replace(logits=jax.device_get(logits))

    patch.setattr(recipe, "in_jax", faulty)
    patch.setattr("parity.diagnosis.recipe.in_jax", faulty)


def test_twins_agree(pair):
    inputs, training = recipe.run(pair, load_digits().train, 0, "cpu")
    assert inputs.passed and inputs.measured == 0
    assert training.passed and training.measured <= 1e-12


def test_what_is_chaotic_is_left_out_and_the_rest_held_to_the_noisier_side():
    def trained(losses, weight):
        weights = {"w": np.array([weight])}
        return recipe.Trained(np.zeros(1), np.array(losses), weights, np.ones(1))

    ours, theirs = trained([1.0, 1 + 1e-9], 1.0), trained([1.0, 1.0], 1.3)
    assert not recipe.compare_training(ours, theirs).passed
    moved = trained([1.0, 1 + 2e-9], 1.1), trained([1.0, 1 + 1e-10], 1.2)
    found = recipe.compare_training(ours, theirs, [moved])
    assert found.passed and "not compared: 1 of 4 parts" in found.detail
    quiet = trained([1.0, 1 + 1e-9], 1.1), trained([1.0, 1 + 1e-11], 1.2)
    assert not recipe.compare_training(ours, theirs, [quiet]).passed
    broken = trained([1.0, np.nan], 1.0)
    assert not recipe.compare_training(broken, theirs, [(broken, moved[1])]).passed


@pytest.mark.proof
@pytest.mark.parametrize("name", ["resnet20", "resnet18:width=4", "resnet50"])
def test_twins_with_statistics_agree(name):
    assert all(
        found.passed
        for found in recipe.run(create_pair(parse(name)), load_digits().train, 0, "cpu")
    )


@pytest.mark.proof
@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_caught_and_named(name, pair, monkeypatch):
    part, cause, patch = BUGS[name]
    patch(monkeypatch)
    found = list(command._recipe(pair, load_digits(), 0, "cpu"))
    (failed, *_) = [one for one in found if not one.passed]
    why = failed.diagnosis
    assert why is not None and (why.module, why.cause) == (part, cause), why
