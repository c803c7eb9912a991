"""A study that is killed again and again; `make proof` kills."""

import json
import random
import signal
import time

import pytest

from hostile.processes import ended, start

KILLS = 12
STUDY = [
    *("study", "choose-cnn", "--data", "digits", "--epochs", "6", "--seeds", "2"),
    *("--only", "1-conv-3x3-4x4", "2-conv-3x3-4x4"),
]
SAME = "label", "epochs", "held_out_accuracy", "test_accuracy", "stopped", "command"


def trainings(out):
    """What they came to, but for the time they took."""
    found = json.loads((out / "study.json").read_text())["trainings"]
    for one in found:
        for row in one["rows"]:
            row.pop("seconds", None)
    return [{name: one[name] for name in (*SAME, "rows")} for one in found]


@pytest.mark.proof
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_training_is_lost_or_counted_twice(number, tmp_path):
    """The trainings are bit for bit those of the study that nothing happened to."""
    whole, out = tmp_path / "whole", tmp_path / "study"
    ended(start(*STUDY, "--out", str(whole)))
    rng, killed = random.Random(0), 0
    for _ in range(KILLS):
        process = start(*STUDY, "--out", str(out))
        time.sleep(rng.uniform(2, 14))
        process.send_signal(number)
        text = process.communicate(timeout=120)
        killed += process.returncode != 0
        if (out / "study.json").exists():  # whole at any time
            labels = [one["label"] for one in trainings(out)]
            assert len(labels) == len({*labels}) <= 4
        assert "Traceback" not in "".join(text)
        if number == signal.SIGTERM and process.returncode:
            assert process.returncode == 130
    ended(start(*STUDY, "--out", str(out)))
    assert killed >= 3
    assert trainings(out) == trainings(whole) and len(trainings(out)) == 4
