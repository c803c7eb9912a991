"""Every planted bug is caught, at the right rung and not by a crash; module and cause are named."""

import json
from pathlib import Path

import pytest
from mutants import MUTANTS, Mutant, pairs, run

TALLY = Path(__file__).resolve().parents[3] / "benchmarks" / "mutants.json"
KNOWN = {row["name"]: row for row in json.loads(TALLY.read_text())["mutants"]}
"""What the committed tally says of each: the diagnosis must not get worse."""


QUICK = pairs.cnn, pairs.mlp
"""The others, of residual nets, compile longer, and but for these few are run by `make proof`."""
RESIDUAL = "no shortcut", "convolutions in tf32"


def marks(mutant: Mutant) -> list[pytest.MarkDecorator]:
    return [] if mutant.make in QUICK or mutant.name in RESIDUAL else [pytest.mark.proof]


@pytest.mark.parametrize(
    "mutant",
    [pytest.param(mutant, id=mutant.name, marks=marks(mutant)) for mutant in MUTANTS],
)
def test_a_planted_bug_is_caught(mutant):
    found = run(mutant)
    assert found.rung == mutant.rung, found.text
    assert not found.crashed, found.text
    known = KNOWN[mutant.name]
    if known["module"] == known["found_module"]:
        assert found.module == mutant.module, found.text
    if known["expected_cause"] in (known["found_cause"] or ""):
        assert mutant.cause in (found.cause or ""), found.text


def test_the_tally_has_every_mutant_and_meets_the_bars():
    assert set(KNOWN) == {mutant.name for mutant in MUTANTS}
    assert len(KNOWN) >= 48
    rows = list(KNOWN.values())
    assert all(row["caught"] for row in rows)
    assert sum(row["module"] == row["found_module"] for row in rows) >= 0.9 * len(rows)
    assert sum(row["right_cause"] for row in rows) >= 0.8 * len(rows)
