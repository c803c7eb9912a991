"""Files that storage, tools or attackers have changed: read rightly, or refused in one line."""

import pytest

from hostile.formats import FORMATS
from hostile.processes import lines_of

GROUPS = (
    ("tar", "packed", "pickle", "prepared"),
    ("zip", "inside of zip", "legacy", "safetensors", "orbax"),
)
"""The formats, those of data and those of weights: a process loads what reads them."""


def check(names: tuple[str, ...], count: int, seed: int, seconds: int) -> None:
    """So many changes of each format end well."""
    arguments = str(count), str(seed), *names
    lines = lines_of("hostile.mutations", *arguments, seconds=seconds)
    assert tuple(line["format"] for line in lines) == names
    for line in lines:
        assert sum(line["tally"].values()) >= count, line
        assert line["tally"]["refused"] > count / 10, line


def test_every_format_is_in_a_group():
    assert sorted(sum(GROUPS, ())) == sorted(FORMATS)


@pytest.mark.parametrize("names", GROUPS, ids=["data", "weights"])
def test_500_changes(names):
    check(names, 500, seed=0, seconds=600)


@pytest.mark.proof
@pytest.mark.parametrize("name", FORMATS)
def test_20_000_changes(name):
    check((name,), 20_000, seed=1, seconds=7200)
