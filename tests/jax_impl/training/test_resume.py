"""Checkpoints of a training: what is kept, what is damaged, what fails in the background."""

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jax_impl.errors import InputError
from jax_impl.models.model import create_model
from jax_impl.training import build
from jax_impl.training.resume import Checkpoints, Restored, newest
from jax_impl.training.state import TrainState, create_state

OPTIMIZER = build.optimizer("adam", 1e-3, ema=0.9, accumulate=2)


def state_of(width: int = 4, seed: int = 0, optimizer=OPTIMIZER) -> TrainState:
    model = create_model("simple_cnn", channels=(width, width), hidden=100)
    return create_state(model.init(seed), optimizer)


def filled(folder: Path, steps=(100, 200, 300), keep: int = 3) -> Path:
    saved = Checkpoints(folder, keep)
    for step in steps:
        saved.save(step, state_of(seed=step), {"step": step, "random": "abc", "rows": [{"a": 0.1}]})
    saved.close()
    assert saved.failure() is None
    return folder


@pytest.fixture(scope="module")
def three(tmp_path_factory) -> Path:
    return filled(tmp_path_factory.mktemp("three") / "checkpoints")


def restored(folder: Path, log=lambda line: None, check=lambda told: None) -> Restored:
    return newest(folder, state_of(), check, log)


def assert_is(found: Restored, step: int) -> None:
    assert found.step == step
    for ours, kept in zip(*map(jax.tree.leaves, (state_of(seed=step), found.state)), strict=True):
        assert ours.dtype == kept.dtype and np.array_equal(ours, kept)
    assert found.progress == {"step": step, "random": "abc", "rows": [{"a": 0.1}]}


def test_the_newest_comes_back_bit_for_bit(three):
    assert_is(restored(three), 300)


def test_the_last_and_the_best_are_kept(tmp_path):
    saved = Checkpoints(tmp_path / "made", 2)
    for step, accuracy in ((1, 0.3), (2, 0.9), (3, None), (4, 0.5), (5, None), (6, 0.8)):
        saved.save(step, {"a": np.arange(3)}, {"step": step}, accuracy)
    saved.close()
    assert sorted(os.listdir(tmp_path / "made")) == ["2", "5", "6"]
    again = Checkpoints(tmp_path / "made", 2)  # as a training that goes on
    again.save(7, {"a": np.arange(3)}, {"step": 7}, 0.85)
    again.close()
    assert sorted(os.listdir(tmp_path / "made")) == ["2", "6", "7"]


def test_what_was_saved_is_what_the_state_was_then(tmp_path):
    """The next step may write into the arrays while they are being saved."""
    saved, array = Checkpoints(tmp_path / "made", 1), np.zeros(1 << 20, np.float32)
    saved.save(1, {"a": array}, {"step": 1})
    array[:] = 1
    saved.close()
    assert not newest(tmp_path / "made", {"a": array}, lambda _: None, print).state["a"].any()


def largest(place: Path) -> Path:
    files = [path for path in (place / "state").rglob("*") if path.is_file()]
    return max(files, key=lambda path: path.stat().st_size)


def flip(path: Path, at: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(at * (len(content) - 1))] ^= 1
    path.write_bytes(content)


def noted(place: Path, **changes) -> None:
    path = place / "progress" / "metadata"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def exchange(place: Path, part: str) -> None:
    """A part of the checkpoint before, in the place of this one's."""
    shutil.rmtree(place / part)
    shutil.copytree(place.with_name("200") / part, place / part)


DAMAGE = {
    "a bit in the first third": lambda place: flip(largest(place), 0.3),
    "a bit in the middle": lambda place: flip(largest(place), 0.5),
    "a bit at the end": lambda place: flip(largest(place), 0.999),
    "half of the tensors": lambda place: os.truncate(largest(place), 1000),
    "tensors empty": lambda place: os.truncate(largest(place), 0),
    "tensors missing": lambda place: largest(place).unlink(),
    "no tensors at all": lambda place: shutil.rmtree(place / "state"),
    "a bit in the manifest": lambda place: flip(place / "state" / "manifest.ocdbt", 0.5),
    "no manifest": lambda place: (place / "state" / "manifest.ocdbt").unlink(),
    "a bit in the list": lambda place: flip(place / "state" / "_METADATA", 0.4),
    "no list": lambda place: (place / "state" / "_METADATA").unlink(),
    "an empty list": lambda place: (place / "state" / "_METADATA").write_text(""),
    "no progress": lambda place: shutil.rmtree(place / "progress"),
    "progress empty": lambda place: (place / "progress" / "metadata").write_text(""),
    "progress cut": lambda place: os.truncate(place / "progress" / "metadata", 90),
    "progress a list": lambda place: (place / "progress" / "metadata").write_text("[1]"),
    "progress of null": lambda place: (place / "progress" / "metadata").write_text("null"),
    "progress deep": lambda place: (place / "progress" / "metadata").write_text("[" * 100_000),
    "progress not UTF-8": lambda place: (place / "progress" / "metadata").write_bytes(b"\xff{}"),
    "another random state": lambda place: noted(place, random="abd"),
    "another step": lambda place: noted(place, step=301),
    "rows left out": lambda place: noted(place, rows=[]),
    "a checksum left out": lambda place: noted(place, tensors={}),
    "no checksum": lambda place: noted(place, sha256=None),
    "the tensors of before": lambda place: exchange(place, "state"),
    "the progress of before": lambda place: exchange(place, "progress"),
    "metrics that are none": lambda place: [
        (place / "metrics").mkdir(),
        (place / "metrics" / "metrics").write_text("{"),
    ],
    "an empty folder": lambda place: [shutil.rmtree(place), place.mkdir()],
    "a file": lambda place: [shutil.rmtree(place), place.write_text("x")],
    "a copy of the one before": lambda place: [
        shutil.rmtree(place),
        shutil.copytree(place.with_name("200"), place),
    ],
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_one_is_told_and_an_older_one_taken(name, three, tmp_path):
    folder, lines = tmp_path / "checkpoints", []
    shutil.copytree(three, folder)
    DAMAGE[name](folder / "300")
    found = restored(folder, lines.append)
    if found.step == 300 and name.startswith("a bit"):  # of what is never read
        assert_is(found, 300)
        return
    assert_is(found, 200)
    assert len(lines) == 1 and lines[0].startswith(f"{folder / '300'} is of no use: ")
    assert "\n" not in lines[0] and len(lines[0]) < 1000
    assert sorted(os.listdir(folder)) == ["100", "200", "damaged-300"]
    again = Checkpoints(folder, 2)  # the steps come to 300 once more
    again.save(300, state_of(seed=300), {"step": 300, "random": "abc", "rows": [{"a": 0.1}]}, 0.5)
    again.close()
    assert again.failure() is None
    assert_is(restored(folder), 300)


def test_older_ones_that_are_damaged_are_put_aside_too(three, tmp_path):
    folder = tmp_path / "checkpoints"
    shutil.copytree(three, folder)
    (folder / "100" / "metrics").mkdir()
    (folder / "100" / "metrics" / "metrics").write_text("{")
    (folder / "mine").mkdir()
    assert_is(restored(folder), 300)
    assert sorted(os.listdir(folder)) == ["200", "300", "damaged-100", "mine"]


@pytest.mark.parametrize(
    "other",
    [{"width": 8}, {"optimizer": build.optimizer("sgd", 1e-3)}],
    ids=["model", "optimizer"],
)
def test_those_of_another_model_or_optimizer_are_not_taken(other, three, tmp_path):
    shutil.copytree(three, tmp_path / "checkpoints")
    with pytest.raises(InputError, match="holds no whole checkpoint .*300 is of no use") as told:
        newest(tmp_path / "checkpoints", state_of(**other), lambda _: None, lambda _: None)
    assert "\n" not in str(told.value)


def test_those_of_another_training_are_not_taken(three, tmp_path):
    def check(told):
        if told["step"] != 100:
            raise InputError("it is of another training")

    shutil.copytree(three, tmp_path / "checkpoints")
    assert_is(restored(tmp_path / "checkpoints", check=check), 100)


@pytest.mark.parametrize("made", [True, False], ids=["empty", "missing"])
def test_nothing_to_go_on_from_is_told(made, tmp_path):
    folder = tmp_path / "checkpoints"
    if made:
        folder.mkdir()
    with pytest.raises(InputError, match="holds no whole checkpoint|cannot read"):
        restored(folder)


def test_a_checkpoint_that_cannot_be_written_costs_none(tmp_path):
    """A file may be no larger than the limit: as on a full disk, after `save` has returned."""
    code = (
        "import resource, sys\n"
        "from test_resume import Checkpoints, Path, state_of\n"
        "saved = Checkpoints(Path(sys.argv[1]), 1)\n"
        "for step, most in ((1, -1), (2, 20_000), (3, 20_000), (4, -1)):\n"
        "    limits = most, resource.getrlimit(resource.RLIMIT_FSIZE)[1]\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, limits)\n"
        "    progress = {'step': step, 'random': 'abc', 'rows': [{'a': 0.1}]}\n"
        "    saved.save(step, state_of(seed=step), progress)\n"
        "    saved.wait()\n"
        "    print(step, saved.failure())\n"
        "    if step < int(sys.argv[2]): continue\n"
        "    break\n"
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == -1
    for last, left in ((3, 1), (4, 4)):
        folder = tmp_path / str(last)
        done = subprocess.run(
            [sys.executable, "-c", code, str(folder), str(last)],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        lines = done.stdout.splitlines()
        assert done.returncode == 0 and lines[0] == "1 None", done.stderr
        assert all("None" not in line for line in lines[1:3]), lines
        assert os.listdir(folder) == [str(left)]
        assert_is(restored(folder), left)
