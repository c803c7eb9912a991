"""Two and three faults at once are all named, and the nets that they are planted in are right."""

import pytest
from ports import three_faults

from parity.checking import climb_all

RUNGS = "forward", "loss", "gradients", "batch_stats"


@pytest.mark.proof
@pytest.mark.parametrize("name", three_faults.RIGHT)
def test_a_right_net_passes(name):
    assert not [r for r in climb_all(three_faults.RIGHT[name](), steps=3) if r.passed is False]


@pytest.mark.proof
@pytest.mark.parametrize("name", three_faults.COMBINATIONS)
def test_every_fault_is_named(name):
    make, faults = three_faults.COMBINATIONS[name]
    results = climb_all(make(), RUNGS, jit=False)
    found = [f for r in results if r.passed is False and r.diagnosis for f in r.diagnosis.faults]
    told = {
        (modules, words): [
            f for f in found if set(modules) & {f.module, *f.places} and _says(f, words)
        ]
        for modules, words in faults
    }
    assert all(told.values()), (told, found)
    right = [f for fits in told.values() for f in fits]
    assert [f for f in found if f.cause and f not in right] == []


def _says(fault, words):
    return any(word in (fault.cause or "") for word in words)
