"""The studies there are: every training of theirs can be asked for, and is another one."""

import pytest

from jax_impl.models import registry
from parity.program import Options
from parity.shell import cli
from parity.shell.chosen import chosen_training
from parity.shell.console import in_words
from parity.study import cost
from parity.study.studies import AXES, NOTEBOOKS, STUDIES, cnn

EXPECTED = {"cnn-vs-resnet": 33, "notebook": 80, "choose-cnn": 75, "residual": 8}


def asked_for(training, data="cifar10", epochs=None):
    """The options and the recipe that the command line comes to."""
    options = cli.parse(Options, ["train", *training.arguments(data, epochs)], prog="parity")
    return options, *chosen_training(options)


@pytest.mark.parametrize("name", STUDIES)
def test_each_training_is_one_of_its_own(name):
    study = STUDIES[name]
    trainings = study.trainings(None, None)
    assert len(trainings) == EXPECTED[name]
    assert len({training.label for training in trainings}) == len(trainings)
    asked = {str(training.arguments("cifar10", None)) for training in trainings}
    assert len(asked) == len(trainings)


@pytest.mark.parametrize("name", STUDIES)
def test_each_training_can_be_asked_for(name):
    for case in STUDIES[name].cases:
        options, spec, recipe = asked_for(case)
        assert str(spec) == str(registry.parse(case.model)) and options.recipe == case.recipe
        assert recipe.epochs == cost.epochs(case, None)
        assert recipe.validation == (5000 if case.validated else 0)
        assert asked_for(case, "digits", 2)[2].epochs == 2


def test_part_of_a_study_has_all_its_nets():
    trainings = STUDIES["choose-cnn"].trainings(None, None)
    assert {t.seed for t in trainings[:25]} == {0} and len({t.group for t in trainings[:25]}) == 25


def test_seeds_and_frameworks_are_replaced():
    notebook = STUDIES["notebook"]
    assert len(notebook.trainings(("torch",), 1)) == 3
    assert {t.framework for t in notebook.trainings(None, 1)} == {"jax", "torch"}
    assert notebook.seeds_of("simple_cnn, Adam 0.001") == 20


def test_the_notebooks_choice_is_in_the_grid_and_is_the_notebooks_net():
    case = cnn(NOTEBOOKS)
    assert case is not None and case in STUDIES["choose-cnn"].cases
    assert registry.parse(case.model).options == registry.CNNOptions(pool_after=(1, 2))


def test_no_net_is_twice_in_the_grid():
    nets = [registry.parse(case.model).options for case in STUDIES["choose-cnn"].cases]
    assert len({*nets}) == len(nets) == 25


def test_a_point_without_a_net_has_none():
    assert cnn(NOTEBOOKS | {"filter": "7x7", "convolutions": "4"}) is None
    assert cnn(NOTEBOOKS | {"pooling": "2x2 twice"}) is None
    assert cnn(NOTEBOOKS | {"head": "mean of each channel", "filter": "5x5"}) is None
    assert {name for name, _ in AXES} == {*NOTEBOOKS}


def test_two_pools_leave_maps_of_one_size_and_so_one_head():
    """With "2x2 twice" depth is varied and nothing else: `fc1` reads as many numbers."""
    sizes = set()
    for depth in ("3", "4"):
        case = cnn(NOTEBOOKS | {"convolutions": depth, "pooling": "2x2 twice"})
        assert case is not None
        sizes |= {
            module.parameters
            for module in cost.summary(registry.parse(case.model), None).modules
            if module.path == "fc1"
        }
    assert sizes == {4096 * 512 + 512}


def test_a_rate_of_a_training_tells_how_long_the_others_take():
    study = STUDIES["choose-cnn"]
    first, *others = study.trainings(None, 1)
    images = 45_000 * 5
    result = {
        "flops": cost.flops(first.model),
        "rows": [{"epoch": e, "seconds": 10.0} for e in range(1, 6)],
        "seconds": 50.0,
        "data": "cifar10",
    }
    known = cost.rates({first.label: first}, {first.label: result})
    assert known == {("jax", "cnn", 32): cost.flops(first.model) * images / 50}
    asked = cost.seconds([first], known, "cifar10", None)
    assert asked is not None and abs(asked - 50 - cost.START) < 1e-6
    assert cost.seconds(STUDIES["residual"].cases, known, "cifar10", None) is None
    assert len(cost.remaining([first, *others], {first.label: result}, ())) == 24
    assert cost.remaining([first, *others], {}, ["2-conv-7x7"])[0].group.startswith("2 conv; 7x7")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "it is not known how long"), (0.2, "about 1 s"), (600, "about 10 minutes"),
     (9000, "about 2.5 hours")],
)  # fmt: skip
def test_a_time_is_told_to_no_more_digits_than_are_known(seconds, words):
    assert in_words(seconds) == words
