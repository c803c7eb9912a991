"""How what the suite tells of a planted bug is judged."""

import dataclasses
from types import SimpleNamespace

import pytest

from planted import BUGS, runner
from planted.runner import Told, judged

TWO = next(bug for bug in BUGS if bug.name == "gelu by tanh, and Flax's default eps")
BOTH = [Told("block1.act", "gelu by tanh"), Told("norm", "eps is 1e-06")]


@pytest.mark.parametrize(
    "told, right",
    [
        (BOTH, (True, True, False)),
        (BOTH[:1], (False, False, False)),
        ([Told("block1.act", "EPS is 1e-06"), Told("norm", "Tanh")], (True, True, False)),
        ([*BOTH, Told("head", "the stride is 2")], (True, True, True)),
        ([Told("block1.act", None), Told("norm", None)], (True, False, False)),
        ([], (False, False, False)),
    ],
)
def test_every_fault_must_be_told(told, right):
    assert judged(TWO.faults, told) == right


def result(rung, passed, detail="", diagnosis=None):
    return SimpleNamespace(rung=rung, passed=passed, detail=detail, diagnosis=diagnosis)


def climbed(monkeypatch, *results):
    monkeypatch.setattr(runner, "climb_all", lambda *_, **__: iter(results))
    return runner.run(TWO)


def test_the_faults_of_every_diagnosis_are_judged_together(monkeypatch):
    old = SimpleNamespace(module="block1.act", cause="tanh", text="one")
    new = SimpleNamespace(faults=(SimpleNamespace(module="norm", cause="eps"),), text="two")
    found = climbed(
        monkeypatch,
        result("data", None),
        result("forward", False, diagnosis=old),
        result("loss", False, diagnosis=new),
    )
    assert found[:6] == (
        True,
        True,
        True,
        False,
        "forward",
        (("block1.act", "tanh"), ("norm", "eps")),
    )
    assert found.text == "one | two"


@pytest.mark.parametrize(
    "results",
    [
        [result("forward", True), result("loss", False)],
        [result("forward", False, runner.CANNOT_RUN + "no shape")],
        [result("forward", True)],
    ],
)
def test_another_rung_and_a_crash_catch_nothing(monkeypatch, results):
    assert not climbed(monkeypatch, *results).caught


def test_an_error_of_the_suite_is_an_outcome(monkeypatch):
    def raising():
        raise ValueError("no\nshape")

    found = runner.run(dataclasses.replace(TWO, make=raising))
    assert not found.caught and found.text == "raised ValueError: no shape"
