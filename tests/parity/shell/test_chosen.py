"""What `parity train`'s options come to: recipes, what replaces them, and what is refused."""

import dataclasses
import re
from typing import Any, get_args

import pytest
import tyro

import parity.program
from jax_impl.data.augmentation import NOTHING, Augmentation
from jax_impl.errors import InputError
from parity.shell import cli
from parity.shell.chosen import chosen_training
from parity.shell.data_choice import Choice
from parity.shell.earlier import read_earlier
from parity.shell.files import to_json
from parity.shell.options import RecipeName, RecipesOptions
from parity.shell.recipes import RECIPES, Recipe, recipe
from parity.shell.run_directory import config_of
from parity.shell.saving import digest
from parity.shell.train_options import TrainOptions


def test_pytorch_draws_no_weights_of_flax():
    with pytest.raises(InputError, match="--init flax: PyTorch draws its own"):
        chosen_training(TrainOptions("torch", init="flax"))


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"padding": 4}, "--padding: it goes with --augment crop, which is not given"),
        ({"padding": 4, "augment": ("flip",)}, "--padding: it goes with --augment crop"),
        ({"padding": 0, "augment": ("crop",)}, "--padding is 0: give 1 to 31 pixels"),
        ({"padding": 32, "augment": ("crop",)}, "--padding is 32: give 1 to 31 pixels"),
        ({"reflect": True, "augment": ("cutout",)}, "--reflect: it goes with --augment crop"),
        ({"cutout_size": 16}, "--cutout-size: it goes with --augment cutout"),
        ({"cutout_size": 0, "augment": ("cutout",)}, "--cutout-size is 0: give 1 to 64 pixels"),
        ({"cutout_size": 65, "augment": ("cutout",)}, "--cutout-size is 65: give 1 to 64 pixels"),
        ({"alternate": True}, "--alternate: it goes with --augment flip, which is not given"),
        ({"padding": 2, "recipe": "resnet20_he", "augment": ("flip",)}, "--padding: it goes with"),
        ({"random": "jax"}, "--random jax: it goes with --augment, which is not given"),
        (
            {"random": "jax", "augment": ("crop",), "framework": "torch"},
            "--random jax: PyTorch draws its own numbers; leave it out",
        ),
    ],
)
def test_augmentation_that_would_not_be_done_is_refused(given, why):
    with pytest.raises(InputError, match=why):
        chosen_training(TrainOptions(**given))


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"momentum": 0.9}, "--momentum: adam has none; leave it out"),
        ({"momentum": 0.0}, "--momentum: adam has none; leave it out"),
        ({"nesterov": False}, "--nesterov: adam has none; leave it out"),
        ({"decay_norms": False}, "--decay-norms False: nothing decays; give a --weight-decay too"),
        ({"lr": 1e39}, "--lr is 1e+39: give a number above 0, of 1e-35 to 1e+35"),
        ({"lr": 1e-50}, "--lr is 1e-50: give a number above 0"),
        ({"weight_decay": 1e39}, "--weight-decay is 1e+39: give a number above 0"),
        (
            {"recipe": "resnet20_he", "warmup": 90.0},
            "--warmup is 90: the recipe's rate",
        ),
        ({"nesterov": True, "optimizer": "rmsprop"}, "--nesterov: rmsprop has none"),
        ({"nesterov": True, "optimizer": "sgd"}, "--nesterov: it needs a --momentum above 0"),
        ({"momentum": 1.0, "optimizer": "sgd"}, "--momentum is 1.0: give a number of 0 or more"),
        ({"weight_decay": -1.0}, "--weight-decay is -1.0: give a number above 0"),
        ({"weight_decay": float("inf")}, "--weight-decay is inf"),
        ({"label_smoothing": 1.0}, "--label-smoothing is 1.0: give a number of 0 or more, below"),
        ({"clip_norm": 0.0}, "--clip-norm is 0.0: give a number above 0"),
        ({"clip_norm": float("nan")}, "--clip-norm is nan"),
        ({"warmup": 5.0}, "--warmup is 5.0: give epochs, below the 5 of all"),
        ({"schedule": "steps"}, "--schedule steps: give its --milestones, in epochs"),
        ({"milestones": (2.0,)}, "--milestones: it goes with --schedule steps"),
        ({"gamma": 0.5, "schedule": "cosine"}, "--gamma: it goes with --schedule steps"),
        ({"gamma": 0.0, "schedule": "steps", "milestones": (2.0,)}, "--gamma is 0.0: give a num"),
        ({"schedule": "steps", "milestones": (3.0, 2.0)}, "--milestones 3 2: give rising epochs"),
        ({"schedule": "steps", "milestones": (1.0,), "warmup": 1.0}, "--milestones 1: give rising"),
        (
            {"schedule": "steps", "milestones": (2.0, 5.0)},
            "--milestones 2 5: give epochs before the training's end",
        ),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_refused(given, why):
    with pytest.raises(InputError, match=re.escape(why)):
        chosen_training(TrainOptions(**given))


def test_an_option_replaces_its_part_of_a_recipe():
    def chosen(**given: Any) -> Recipe:
        return chosen_training(TrainOptions(recipe="resnet18_cifar", **given))[1]

    whole = RECIPES["resnet18_cifar"].recipe
    assert chosen() == whole and whole.optimizer_options == {
        "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4
    }  # fmt: skip
    assert chosen(epochs=30, lr=0.05) == dataclasses.replace(whole, epochs=30, lr=0.05)
    cosine = chosen(schedule="cosine", warmup=2.0)
    assert (cosine.schedule, cosine.milestones, cosine.warmup) == ("cosine", (), 2.0)
    # Momentum and decay are of the recipe's own optimizer.
    assert chosen(optimizer="adamw").optimizer_options == {}
    assert chosen(optimizer="adamw", weight_decay=0.1).optimizer_options == {"weight_decay": 0.1}
    spec, _ = chosen_training(TrainOptions(recipe="resnet18_cifar", model="resnet34"))
    assert spec.name == "resnet34"


def test_the_recipes_are_told_in_the_commands_own_options(capsys, monkeypatch):
    """What `parity recipes` prints of each is the recipe again."""
    assert tuple(RECIPES) == get_args(RecipeName)
    monkeypatch.setenv("COLUMNS", "80")
    parity.program.main(RecipesOptions())
    printed = capsys.readouterr().out.splitlines()
    assert max(map(len, printed)) <= 80
    for name, named in RECIPES.items():
        at = printed.index(f"{name}: {named.model}")
        after = [line for line in printed[at + 1 :] if not line.startswith("  ")]
        text = " ".join(printed[at + 1 : printed.index(after[0], at + 1) if after else None])
        known, options = text.split(" --epochs", 1)
        told = [f"parity train --recipe {name}", named.source, named.accuracy, named.cost]
        assert " ".join(known.split()) == " ".join(told)
        given = ["--model", named.model, *f"--epochs{options}".split()]
        options = tyro.cli(TrainOptions, args=given)
        assert chosen_training(options)[1] == named.recipe


def test_augmentation_as_the_field_has_it():
    def chosen(**given: Any) -> Augmentation:
        return chosen_training(TrainOptions(**given))[1].augment

    assert chosen() == NOTHING
    all_of_it = chosen(augment=("cutout", "flip", "crop"), random="jax", reflect=True)
    assert all_of_it == Augmentation(crop=4, reflect=True, flip=True, cutout=16)
    assert chosen(augment=("crop",), padding=2) == Augmentation(crop=2)
    assert chosen(recipe="resnet18_cutout") == Augmentation(crop=4, flip=True, cutout=16)
    assert chosen(recipe="resnet18_cutout", cutout_size=8, padding=2) == Augmentation(
        2, False, True, 8
    )
    assert chosen(recipe="resnet18_cutout", augment=()) == NOTHING
    assert chosen(augment=("flip",), alternate=True) == Augmentation(flip=True, alternate=True)


def test_the_notebooks_recipes_and_what_replaces_them():
    assert recipe("simple_cnn") == Recipe(32, "adam", 1e-3, 5)
    assert recipe("resnet18") == recipe("resnet50") == Recipe(16, "adam", 1e-2, 5)
    options = TrainOptions(model="resnet18", lr=0.1, optimizer="sgd")
    assert chosen_training(options)[1] == Recipe(16, "sgd", 0.1, 5)


@pytest.mark.parametrize(
    ("given", "whose"),
    [
        ({"augment": ("crop",)}, "torch"),
        ({"recipe": "resnet20_he"}, "jax"),
        ({"recipe": "resnet20_he", "random": "torch"}, "torch"),
        ({"recipe": "resnet20_he", "framework": "torch"}, "torch"),
        ({"augment": ("crop",), "random": "jax"}, "jax"),
    ],
)
def test_whose_numbers_augment(given, whose):
    assert chosen_training(TrainOptions(**given))[1].random == whose


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"warmup": 1e-9}, "--warmup 1e-09: that is 0 of 50 steps; give 1 or more"),
        ({"warmup": 4.99}, "--warmup 4.99: that is 50 of 50 steps"),
        ({"milestones": (0.01,)}, "--milestones 0.01: that is after steps 0 of 50"),
        ({"milestones": (1.0, 1.01)}, "--milestones 1 1.01: that is after steps 10 10 of 50"),
        ({"milestones": (4.99,)}, "--milestones 4.99: that is after steps 50 of 50"),
        ({"milestones": (0.5,), "warmup": 0.49}, "--milestones 0.5: that is after steps 5 of 50"),
    ],
)
def test_epochs_that_round_to_no_step_of_their_own_are_refused(given, why):
    schedule = {"schedule": "steps"} if "milestones" in given else {}
    _, chosen = chosen_training(TrainOptions(**schedule, **given))
    with pytest.raises(InputError, match=re.escape(why)):
        chosen.schedule_options(10)


def test_a_recipes_later_milestones_are_not_reached():
    _, chosen = chosen_training(TrainOptions(recipe="resnet18_cifar", epochs=100))
    assert chosen.schedule_options(10)["milestones"] == [600, 1200, 1600]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("--seed x", "--seed 'x': give a whole number"),
        ("--batch-size 1.5", "--batch-size '1.5': give a whole number"),
        ("--batch-size x'y", '--batch-size "x\'y": give a whole number'),
        ("--lr abc", "--lr 'abc': give a number"),
        ("--milestones 1 b", "--milestones '1 b': give numbers"),
        ("--checkpoint-every k", "--checkpoint-every 'k': give a number"),
        ("--mirror maybe", "--mirror 'maybe': give true, false or nothing"),
        ("--mirror true false", "--mirror 'true false': give true, false or nothing"),
    ],
)
def test_a_value_of_another_kind_is_told(given, told, capfd):
    with pytest.raises(SystemExit, match="2"):
        cli.parse(TrainOptions, given.split())
    assert capfd.readouterr().err == f"error: {told} (--help lists the options)\n"


def test_a_switch_is_true_alone_and_takes_any_case():
    options = cli.parse(TrainOptions, "--mirror --nesterov false --reflect True".split())
    assert (options.mirror, options.nesterov, options.reflect) == (True, False, True)
    assert options.alternate is None


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_the_same_after_its_config_was_read(name, tmp_path):
    """Its digest, too: it tells a training's checkpoints from another's."""
    options = TrainOptions(recipe=name)
    spec, recipe = chosen_training(options)
    told = config_of(options, spec, recipe, Choice("digits", "as asked"), "jax", "cpu")
    (tmp_path / "config.json").write_text(to_json(told))
    read = read_earlier(tmp_path / "config.json").recipe
    assert read == recipe
    assert digest(dataclasses.asdict(read)) == digest(dataclasses.asdict(recipe))


def test_a_number_that_no_float_holds(tmp_path):
    options = TrainOptions()
    spec, recipe = chosen_training(options)
    told = config_of(options, spec, recipe, Choice("digits", "as asked"), "jax", "cpu")
    (tmp_path / "config.json").write_text(to_json(told | {"lr": 10**400}))
    with pytest.raises(InputError, match="lr is 1000.*: give a number"):
        read_earlier(tmp_path / "config.json")
