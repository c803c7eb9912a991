"""Every training is done by one worker, and by another where that one is no more."""

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap

import optuna
import pytest
from optuna.trial import TrialState

from jax_impl.errors import InputError
from parity.study import database
from parity.study.studies import STUDIES
from parity.study.trials import Trials

ABOUT = {"study": "choose-cnn", "data": "digits"}
LABELS = ["one-jax-0", "two-jax-0", "three-jax-0"]


def open_trials(folder, about=ABOUT, storage=None):
    return Trials(folder, storage, "choose-cnn", about)


def over(label, accuracy=0.5):
    return {"label": label, "held_out_accuracy": accuracy, "rows": [], "seconds": 1.0}


@pytest.fixture
def trials(tmp_path):
    opened = open_trials(tmp_path)
    yield opened
    opened.close()


def claimed(trials, labels=LABELS):
    found = trials.claim(labels)
    assert found is not None
    return found


def test_each_is_claimed_once_and_in_order(tmp_path, trials):
    other = open_trials(tmp_path)
    taken = [claimed(worker)[0] for worker in (trials, other, trials)]
    assert taken == LABELS and trials.claim(LABELS) is None and other.claim(LABELS) is None
    assert sorted(trials.running()) == sorted(LABELS)
    other.close()


def test_what_is_over_stays_so(tmp_path, trials):
    label, trial = claimed(trials)
    trials.finish(trial, over(label, 0.75))
    other = open_trials(tmp_path)
    assert other.results() == {label: over(label, 0.75)}
    assert claimed(other)[0] == "two-jax-0"
    other.close()


def test_only_what_is_asked_for_is_claimed(trials):
    claimed(trials)
    assert claimed(trials, ["three-jax-0"])[0] == "three-jax-0"
    assert trials.claim(["three-jax-0"]) is None


def test_what_failed_is_told_and_tried_again_by_another_worker(tmp_path, trials):
    label, trial = claimed(trials)
    trials.fail(trial, label, "no memory")
    assert trials.failures() == {label: "no memory"}
    assert [claimed(trials)[0] for _ in range(2)] == LABELS[1:] and trials.claim(LABELS) is None
    other = open_trials(tmp_path)
    again, trial = claimed(other)
    assert again == label
    other.finish(trial, over(label))
    assert trials.failures() == {}
    other.close()


def test_what_is_left_is_anybodys(trials):
    label, trial = claimed(trials)
    trials.leave(trial)
    assert trials.failures() == {} and sorted(claimed(trials)[0] for _ in range(3)) == sorted(
        LABELS
    )


def test_of_a_worker_that_was_killed_the_next_has_it_at_once(tmp_path):
    """Whatever it was doing then, for the system lets go of its lock."""
    code = f"""
        import sys, time
        from pathlib import Path
        from parity.study.trials import Trials
        trials = Trials(Path({str(tmp_path)!r}), None, "choose-cnn", {ABOUT!r})
        print(trials.claim({LABELS!r})[0], flush=True)
        time.sleep(60)
    """
    worker = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True
    )
    assert worker.stdout is not None and worker.stdout.readline().strip() == LABELS[0]
    trials = open_trials(tmp_path)
    assert claimed(trials)[0] == LABELS[1]  # it lives
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    worker.stdout.close()
    assert claimed(trials)[0] == LABELS[0]
    assert len([*(tmp_path / "workers").iterdir()]) == 1
    trials.close()


def test_two_workers_that_queued_one_training_do_it_once(tmp_path, trials):
    """As happens where both found it missing at the same time."""
    for _ in range(2):
        trials._study.enqueue_trial({"training": "one-jax-0"})
    label, trial = claimed(trials, ["one-jax-0"])
    other = open_trials(tmp_path)
    assert other.claim(["one-jax-0"]) is None
    trials.finish(trial, over(label))
    assert other.claim(["one-jax-0"]) is None and len(other.results()) == 1
    other.close()


def test_a_training_that_others_gave_up_counts_all_the_same(tmp_path, trials):
    """As that of a machine that slept for longer than the others waited."""
    label, trial = claimed(trials)
    trials._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
    trials.finish(trial, over(label))
    assert {*trials.results()} == {label}
    other, trial = claimed(trials)
    trials._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
    trials.leave(trial)
    trials.fail(trial, other, "no memory")


def test_results_from_elsewhere_are_added_once(tmp_path, trials):
    for _ in range(2):
        trials.add([over("one-jax-0"), over("two-jax-0")])
    assert {*trials.results()} == {"one-jax-0", "two-jax-0"} and len(trials.all()) == 2
    assert claimed(trials)[0] == "three-jax-0"


def test_another_study_is_refused(tmp_path, trials):
    with pytest.raises(InputError, match="its data is digits, not cifar10; pass another --out"):
        open_trials(tmp_path, ABOUT | {"data": "cifar10"})


def test_rates_are_kept(tmp_path, trials):
    trials.note_rates({("jax", "cnn", 32): 1e9})
    other = open_trials(tmp_path)
    assert other.rates() == {("jax", "cnn", 32): 1e9}
    other.close()


@pytest.mark.parametrize(
    ("storage", "why"),
    [("sqlite:////nowhere/at/all.db", "unable to open"), ("nonsense", "Could not parse|parse")],
)
def test_a_database_that_cannot_be_used_is_told_in_one_line(storage, why, tmp_path):
    with pytest.raises(InputError, match=why) as told:
        open_trials(tmp_path, storage=storage)
    assert "\n" not in str(told.value) and storage in str(told.value)


def test_a_file_that_is_no_database(tmp_path):
    (tmp_path / "study.db").write_text("this is no database, and is long enough to be looked at")
    with pytest.raises(InputError, match=r"study\.db as a study's database"):
        open_trials(tmp_path)


def nets():
    return STUDIES["choose-cnn"].cases


def test_a_search_reaches_any_number_and_no_training_twice(trials):
    """TPE suggests for itself after its first ten."""
    labels = []
    for _ in range(30):
        found = trials.search(nets(), 30)
        assert found is not None
        labels.append(found[0].label)
        trials.finish(found[1], over(found[0].label, 0.01 * (len(labels) % 7)))
    assert len({*labels}) == 30 and trials.search(nets(), 30) is None
    assert trials.search(nets(), 31) is not None


def test_two_searches_suggest_different_nets(tmp_path):
    """As does a search that is gone on with."""
    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        trials = Trials(tmp_path / name, None, "choose-cnn", ABOUT, optuna.samplers.TPESampler())
        chosen = [trials.search(nets(), 8) for _ in range(8)]
        found.append([training.label for training, _ in filter(None, chosen)])
        trials.close()
    assert len(found[0]) == 8 and found[0] != found[1]


def test_a_search_goes_on_with_what_was_begun(trials):
    begun = trials.search(nets(), 3)
    trials.leave(begun[1])
    again = trials.search(nets(), 3)
    assert again[0] == begun[0] and trials.running() == [begun[0].label]


def test_what_failed_in_a_search_is_tried_again_by_the_next_process(tmp_path):
    trials = open_trials(tmp_path)
    found = trials.search(nets(), 1)
    assert found is not None
    training, trial = found
    trials.fail(trial, training.label, "killed")
    assert trials.search(nets(), 1) is None  # not by the same one
    trials.close()
    other = open_trials(tmp_path)
    again = other.search(nets(), 1)
    assert again is not None and again[0].label == training.label
    other.finish(again[1], over(training.label))
    assert other.search(nets(), 1) is None and not other.failures()
    other.close()


@pytest.mark.parametrize("name", ["a?b=c", "100%20", "{x}", "a#b", "two words", "\n", "ü"])
def test_a_folder_of_any_name_has_its_own_database(name, tmp_path):
    folder = tmp_path / name
    folder.mkdir()
    opened = open_trials(folder)
    label, trial = claimed(opened)
    opened.finish(trial, over(label))
    opened.close()
    assert sorted(path.name for path in folder.iterdir()) == ["study.db", "workers"]
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_processes_that_begin_at_the_same_moment_all_work(tmp_path):
    code = f"""
        import sys
        from pathlib import Path
        from parity.study.trials import Trials
        print("ready", flush=True)
        sys.stdin.readline()
        Trials(Path({str(tmp_path)!r}), None, "choose-cnn", {ABOUT!r}).close()
    """
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", textwrap.dedent(code)]
    workers = [
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(4)
    ]
    assert {worker.stdout and worker.stdout.readline() for worker in workers} == {"ready\n"}
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    told = [worker.communicate() for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * 4, told


def test_files_that_are_no_workers_stay(tmp_path):
    (tmp_path / "workers").mkdir()
    (tmp_path / "workers" / "mine.py").write_text("of value")
    opened = open_trials(tmp_path)
    claimed(opened)
    opened.close()
    assert (tmp_path / "workers" / "mine.py").read_text() == "of value"


def test_a_password_is_never_shown(tmp_path):
    with pytest.raises(InputError, match=r"postgresql://me:\*\*\*@127") as told:
        open_trials(tmp_path, storage="postgresql://me:secret@127.0.0.1:1/x")
    assert "secret" not in str(told.value)


def test_a_database_that_cannot_be_written_is_told_without_its_statements(tmp_path, monkeypatch):
    class Full:
        def __init__(self, *arguments, **others):
            raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(database.sqlite3, "connect", Full)
    with pytest.raises(InputError, match="database or disk is full; pass another --out$") as told:
        open_trials(tmp_path)
    assert "SQL" not in str(told.value) and not [*tmp_path.iterdir()]
