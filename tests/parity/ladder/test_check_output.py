"""What pytest shows of a check that fails."""

import dataclasses
import re

import pytest
from mutants import pairs

from jax_impl.errors import InputError
from parity.checking import NotTheSame, check
from parity.pairs.pair import named_optimizer


@pytest.mark.parametrize(
    "rungs, error", [(["forward"], NotTheSame), (["forwards"], InputError), ([], InputError)]
)
def test_pytest_shows_nothing_of_this_projects_source(rungs, error):
    """Of a failed check, and of a pair that cannot be compared."""
    with pytest.raises(error) as caught:
        check(pairs.mlp(eps=1e-6), rungs, jit=False)
    shown = caught.traceback.filter(caught)
    assert [str(entry.path) for entry in shown] == [__file__]
    assert caught.value.__cause__ is None


GOOD = pairs.mlp()


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"pair": None}, "the pair is None: give a parity.Pair"),
        ({"pair": pairs.mlp}, "the pair is <function .*: call it"),
        ({"rungs": None}, "rungs has None: give names"),
        ({"rungs": 3}, "rungs has 3: give names"),
        ({"rungs": [3]}, "rungs has 3: give names"),
        ({"dtypes": 3}, "dtypes has 3: give names"),
        ({"accept": 3}, "accept has 3: give names"),
        ({"steps": "x"}, "steps is 'x': give a whole number of 1 or more"),
        ({"steps": None}, "steps is None: give a whole number"),
        ({"steps": 1.5}, "steps is 1.5: give a whole number"),
        ({"steps": True}, "steps is True: give a whole number"),
        ({"seed": "x"}, "seed is 'x': give 0 to"),
        ({"batches": 3}, "batches has a int: give a list of parity.Batch"),
        ({"batches": [1]}, "batches has a int: give a list of parity.Batch"),
    ],
)
def test_what_cannot_be_checked_is_told_in_a_line(given, why):
    with pytest.raises(InputError, match=why) as caught:
        check(**({"pair": GOOD} | given))
    shown = caught.traceback.filter(caught)
    assert [str(entry.path) for entry in shown] == [__file__]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"name": 3}, "a pair is named 3: give it a name, a text"),
        ({"jax_apply": None}, "jax_apply is None: give a function"),
        ({"torch_module": None}, "torch_module is None: give a function"),
        ({"to_flax": {}}, "to_flax is {}: give a function"),
        ({"init": 3}, "init is 3: give a function"),
        ({"outputs": "logits"}, "outputs is 'logits': give a function, or parity.Outputs"),
        ({"loss": 3}, "loss is 3: give a parity.Loss"),
        ({"optimizer": "adam"}, "optimizer is 'adam': give a parity.Optimizer"),
        ({"mode": True}, "mode is True: give the name of an argument"),
    ],
)
def test_a_pair_of_parts_that_are_none_is_refused(given, why):
    with pytest.raises(InputError, match=re.escape(why)):
        dataclasses.replace(GOOD, **given)


@pytest.mark.parametrize(("made", "what"), [(None, "nothing"), (3, "a int")])
def test_a_function_that_makes_no_module_is_told(made, what):
    pair = dataclasses.replace(GOOD, torch_module=lambda: made)
    with pytest.raises(InputError, match=f"torch_module gives {what}: return a torch.nn.Module"):
        check(pair, ["forward"])


def test_an_optimizers_option_that_it_has_not():
    with pytest.raises(InputError, match="the optimizer sgd: .*foo"):
        named_optimizer("sgd", 0.1, foo=2)
