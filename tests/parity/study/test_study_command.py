"""`parity study` from its options to its folder, with nets that are quickly trained."""

import dataclasses
import json
import os
from pathlib import Path

import pytest
from study_support import TINY, made_up, told

import parity.commands.study as command
from jax_impl.errors import InputError
from parity.shell.study_options import StudyOptions
from parity.study import cost, report, session, training, worker
from parity.study.studies import STUDIES
from parity.study.trials import Trials


@pytest.fixture
def tiny(monkeypatch):
    """`choose-cnn` is a study of two nets, and how fast they are is known."""
    monkeypatch.setattr(command, "STUDIES", {"choose-cnn": TINY})
    monkeypatch.setattr(cost, "probe", lambda training: 1e9)


def options(out, **others):
    return StudyOptions("choose-cnn", data="digits", epochs=1, out=out, **others)


def read(out):
    return json.loads((out / report.JSON).read_text())


def test_a_study_is_done_and_then_there_is_nothing_to_do(tiny, tmp_path, capsys, monkeypatch):
    out = tmp_path / "study"
    assert command.run(options(out)) == 0
    said = capsys.readouterr().out
    assert "2 trainings, 0 of them over; 2 to do now" in said and "2 of 2 trainings are" in said
    first = read(out)
    assert [one["group"] for one in first["trainings"]] == ["2 channels", "3 channels"]
    for one in first["trainings"]:
        assert one["rows"][0]["loss"] > 0 and 0 < one["test_accuracy"] < 1 and one["seconds"] > 0
        run = out / "runs" / one["label"]
        assert (run / "weights.safetensors").exists() and not (run / "checkpoints").exists()
    assert {*first["evaluated"]} == {one["label"] for one in first["trainings"]}

    def begin(*arguments):
        raise AssertionError("it is over")

    monkeypatch.setattr(training, "begin", begin)
    assert command.run(options(out)) == 0
    again = read(out)
    assert again["trainings"] == first["trainings"]
    # Without its database too: what study.json has is over.
    os.unlink(out / "study.db")
    assert command.run(options(out)) == 0 and read(out)["trainings"] == first["trainings"]


def test_the_seeds_of_a_net_are_trained_at_once(tiny, tmp_path, monkeypatch):
    begin, begun = training.begin, []

    def noted(trainings, place):
        begun.append([one.label for one in trainings])
        return begin(trainings, place)

    monkeypatch.setattr(training, "begin", noted)
    out = tmp_path / "study"
    assert command.run(options(out, seeds=2, at_once=2)) == 0
    assert begun == [[f"{channels}-channels-jax-{seed}" for seed in (0, 1)] for channels in (2, 3)]
    found = read(out)["trainings"]
    assert [(one["seed"], one["at_once"]) for one in found] == [(0, 2), (0, 2), (1, 2), (1, 2)]
    assert len({one["rows"][0]["loss"] for one in found}) == 4


def test_a_training_that_fails_costs_no_other(tiny, tmp_path, capsys, monkeypatch):
    bad = dataclasses.replace(
        TINY.cases[0], recipe="notebook_resnet", options=(("clip-norm", "0"),)
    )
    study = dataclasses.replace(TINY, cases=(bad, TINY.cases[1]))
    monkeypatch.setattr(command, "STUDIES", {"choose-cnn": study})
    out = tmp_path / "study"
    assert command.run(options(out)) == 1
    said = capsys.readouterr().out
    assert "FAILED: 2-channels-jax-0: exit status 2: --clip-norm is 0" in said
    assert [one["group"] for one in read(out)["trainings"]] == ["3 channels"]
    assert read(out)["failed"].keys() == {"2-channels-jax-0"}


def test_a_loss_that_is_no_number_is_a_result(tiny, tmp_path, monkeypatch):
    wild = dataclasses.replace(TINY.cases[0], options=(("lr", "1e30"),))
    study = dataclasses.replace(TINY, cases=(wild,))
    monkeypatch.setattr(command, "STUDIES", {"choose-cnn": study})
    out = tmp_path / "study"
    assert command.run(options(out)) == 0
    (result,) = read(out)["trainings"]
    assert result["stopped"] and result["test_accuracy"] is None


def test_a_dry_run_makes_nothing(tiny, tmp_path, capsys):
    out = tmp_path / "study"
    assert command.run(options(out, dry_run=True)) == 0
    assert "2 to do now, about" in capsys.readouterr().out and not out.exists()


def test_what_is_done_elsewhere_is_not_done_again(tiny, tmp_path, capsys):
    out = tmp_path / "study"
    out.mkdir()
    results = made_up(TINY, lambda training: 0.5)
    whole = told(TINY, results) | {"kind": "grid", "epochs": 1}
    (out / report.JSON).write_text(json.dumps(whole))
    assert command.run(options(out)) == 0
    assert "2 trainings, 2 of them over; 0 to do now" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"seeds": 0}, "--seeds is 0: give 1 to"),
        ({"workers": 65}, "--workers is 65: give 1 to 64"),
        ({"minutes": -1.0}, "--minutes is -1.0: give a number above 0"),
        ({"minutes": float("nan")}, "--minutes is nan"),
        ({"only": ("resnet",)}, "--only resnet: of no training's name; there are 1 conv; 3x3"),
        ({"seeds": 3_000_000}, "--seeds is 3000000: give 1 to 10000"),
        ({"at_once": 0}, "--at-once is 0: give 1 to 1000"),
        ({"search": 3, "at_once": 2}, "--at-once: a search gives up single trainings"),
        ({"storage": "nonsense"}, "--storage nonsense: no address of a database"),
        ({"storage": "sqlite:////nowhere/x.db"}, "cannot use sqlite:////nowhere/x.db as a study"),
        ({"search": 3, "seeds": 2}, "--seeds: a search chooses its trainings; leave it out"),
        ({"search": 3, "only": ("a",)}, "--only: a search chooses"),
        ({"search": 3, "framework": "both"}, "--framework both: a search is in one"),
    ],
)
def test_an_option_that_makes_no_sense(given, message, tmp_path):
    with pytest.raises(InputError) as error:
        command.run(options(tmp_path / "study", **given))
    assert str(error.value).startswith(message) and not (tmp_path / "study").exists()


def test_only_a_grid_is_searched(tmp_path):
    for name in {*STUDIES} - {"choose-cnn"}:
        with pytest.raises(InputError, match="has no axes to search"):
            command.run(StudyOptions(name, search=3, data="digits", out=tmp_path))  # pyright: ignore


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "mine").write_text("of value")
    with pytest.raises(InputError, match="holds no study, and is not empty: pass another --out"):
        command.run(options(tmp_path))
    with pytest.raises(InputError, match="mine is a file: give a folder"):
        command.run(options(tmp_path / "mine"))
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    (tmp_path / "other" / "workers").mkdir(parents=True)
    (tmp_path / "other" / "workers" / "mine.py").touch()
    with pytest.raises(InputError, match="holds no study, and is not empty"):
        command.run(options(tmp_path / "other"))
    (tmp_path / "nothing").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match="nothing is a link to nothing: give a folder"):
        command.run(options(tmp_path / "nothing"))


def test_a_part_says_whether_there_is_more_of_it(tiny, tmp_path, capsys):
    out = tmp_path / "study"
    for _ in range(2):  # by the group's name, as tables and messages have it
        assert command.run(options(out, only=("2 channels",))) == 0
        assert capsys.readouterr().out.endswith("\n1 of 2 trainings are over\n")
    assert command.run(options(out, minutes=1e-9)) == 0
    assert "1 of 2 trainings are over; go on by: parity study" in capsys.readouterr().out


def test_a_search_of_fewer_than_there_are_counts_them(tiny, tmp_path, capsys, monkeypatch):
    study = dataclasses.replace(TINY, axes=(("channels", ("2", "3")),))
    monkeypatch.setattr(command, "STUDIES", {"choose-cnn": study})
    out = tmp_path / "study"
    assert command.run(options(out, search=3)) == 0
    assert "3 of 3 trainings are over" in capsys.readouterr().out
    assert command.run(options(out, search=2)) == 0
    assert capsys.readouterr().out.endswith("\n3 of 3 trainings are over\n")
    assert read(out)["planned"] == 3


@pytest.mark.parametrize("where", ["tell_plan", "_told"])
def test_an_interrupt_at_any_time_says_how_to_go_on(where, tiny, tmp_path, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt("by SIGTERM")

    monkeypatch.setattr(session, where, interrupt)
    out = tmp_path / "study"
    with pytest.raises(KeyboardInterrupt) as stop:
        command.run(options(out, minutes=1e-9))
    given = "parity study choose-cnn --epochs 1 --minutes 1e-09 --data digits --out"
    assert str(stop.value) == f"by SIGTERM; go on by: {given} {out}"


def test_a_folder_whose_name_is_like_an_option(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command.run(options(Path("-y"), only=("2 channels",))) == 0
    assert read(Path("-y"))["trainings"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("held_out_accuracy", "high"),
        ("rows", 5),
        ("rows", [{"epoch": "x"}]),
        ("rows", [3]),
        ("seed", None),
    ],
)
def test_a_damaged_result_is_refused_before_it_is_anywhere(name, value, tiny, tmp_path):
    out = tmp_path / "study"
    out.mkdir()
    whole = told(TINY, made_up(TINY, lambda training: 0.5)) | {"kind": "grid", "epochs": 1}
    for damaged in (value, ...):
        if damaged is ...:
            del whole["trainings"][0][name]
        else:
            whole["trainings"][0][name] = damaged
        (out / report.JSON).write_text(json.dumps(whole))
        with pytest.raises(InputError, match="is no study.json"):
            command.run(options(out))
    trials = Trials(out, None, "choose-cnn", {})
    assert not trials.results()
    trials.close()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no study.json"),
        ("[]", "is no study.json"),
        ('{"trainings": [{"label": 3}]}', "is no study.json"),
        ('{"trainings": [], "study": "residual"}', "its study is residual, not choose-cnn"),
        (
            '{"trainings": [], "study": "choose-cnn", "data": "cifar10", "epochs": 1, '
            '"kind": "grid"}',
            "its data is cifar10, not digits",
        ),
    ],
)
def test_a_study_json_that_is_not_this_studys(text, message, tmp_path):
    (tmp_path / report.JSON).write_text(text)
    with pytest.raises(InputError, match=message):
        command.run(options(tmp_path))
    assert (tmp_path / report.JSON).read_text() == text


def test_a_search_gives_up_what_promises_nothing(tmp_path, monkeypatch):
    """A child of its own writes the lines of a training that gets worse than all before it."""

    class Trial:
        def __init__(self):
            self.told = []

        def report(self, value, step):
            self.told.append((step, value))

        def should_prune(self):
            return len(self.told) >= 2

    trial, ended = Trial(), []
    child = type("Child", (), {"poll": lambda self: None})()
    one = worker.Active([(TINY.cases[0], trial)], child, alive=float("inf"))  # pyright: ignore
    rows = [{"epoch": e, "loss": 1.0, "test_accuracy": 0.1 * e, "seconds": 1.0} for e in (1, 2)]
    found = type("Found", (), {"accuracies": [row["test_accuracy"] for row in rows]})()
    monkeypatch.setattr(training, "told", lambda *arguments: found)
    monkeypatch.setattr(training, "end", ended.append)
    work = worker.Work(None, None, None, None, prune=True)  # pyright: ignore
    assert worker._watched(work, one, stopping=False)
    assert trial.told == [(1, 0.1), (2, 0.2)] and one.pruned and ended == [child]
    worker._watched(work, one, stopping=False)
    assert len(trial.told) == 2


def test_a_damaged_study_json_beside_its_database_can_be_removed(tiny, tmp_path):
    out = tmp_path / "study"
    assert command.run(options(out, only=("2 channels",))) == 0
    whole = (out / report.JSON).read_text()
    (out / report.JSON).write_text(whole[:300])
    with pytest.raises(InputError, match="remove it, and what study.db has is kept, or pass"):
        command.run(options(out))
    (out / report.JSON).unlink()
    assert command.run(options(out, only=("2 channels",))) == 0
    assert read(out)["trainings"] == json.loads(whole)["trainings"]


def test_weights_are_never_removed(tiny, tmp_path, capsys):
    """Of a run whose lines are torn, so that it does not say that it is over."""
    out = tmp_path / "study"
    run = out / "runs" / "2-channels-jax-0"
    run.mkdir(parents=True)
    (out / "workers").mkdir()
    (run / "metrics.jsonl").write_text('{"epoch": 1, "lo')
    (run / "weights.safetensors").write_text("of value")
    assert command.run(options(out, only=("2 channels",))) == 1
    why = "2-channels-jax-0 has weights, and no metrics.jsonl that is whole: move it away"
    assert why in capsys.readouterr().out
    assert (run / "weights.safetensors").read_text() == "of value"


def test_a_command_keeps_what_it_was_given():
    given = StudyOptions("choose-cnn", only=("-jax-0",), out=Path("-y"))
    assert session._command(given) == "parity study choose-cnn --only=-jax-0 --out ./-y"


def test_the_command_that_goes_on_is_the_one_that_was_given():
    given = StudyOptions("choose-cnn", seeds=2, only=("a b", "c"), data="digits", minutes=3.0)
    text = "parity study choose-cnn --seeds 2 --only 'a b' c --minutes 3.0 --data digits"
    assert session._command(given) == text
