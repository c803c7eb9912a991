"""Work that is killed, failed, interrupted or out of space at each of its steps in turn."""

import pytest

from hostile.processes import lines_of
from hostile.subjects import SUBJECTS

GROUPS = ("pth", "safetensors", "report", "run", "written"), ("orbax",), ("prepared",)


def test_every_subject_is_in_a_group():
    assert sorted(sum(GROUPS, ())) == sorted(SUBJECTS)


@pytest.mark.parametrize("names", GROUPS, ids=["files", "orbax", "prepared"])
def test_the_old_or_the_new_is_whole(names):
    if "prepared" in names:
        pytest.importorskip("tensorflow_datasets")
    lines = lines_of("hostile.steps", *names, seconds=600)
    assert tuple(line["subject"] for line in lines) == names
    assert all(line["stops"] > 15 for line in lines)
