"""`parity compare`: runs of both frameworks, whole, begun, stopped, older, damaged, and none."""

import dataclasses
import io
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from jax_impl.errors import InputError, NotFinite
from parity.program import EXAMPLES, Options, main
from parity.report import curves
from parity.report.columns import columns
from parity.report.runs import NAME, short_names, unique_names
from parity.shell import cli, data_choice
from parity.shell.chosen import chosen_training
from parity.shell.earlier import SETTINGS
from parity.shell.recipes import RECIPES
from parity.shell.run_directory import RunDirectory, config_of
from parity.shell.train_options import TrainOptions


def config(recipe: Any = "resnet20_short", **changes: Any) -> dict[str, Any]:
    base = dataclasses.asdict(RECIPES[recipe or "notebook_cnn"].recipe)
    settings = {name: getattr(TrainOptions(), name) for name in SETTINGS}
    return {**base, **settings, "recipe": recipe, "model": "resnet20", **changes}


def rows(epochs: int, over: bool = True, key: str = "test_accuracy") -> list[dict[str, Any]]:
    found = [
        {"epoch": e, "step": 9 * e, "loss": 2 / e, "train_accuracy": 1 - 1 / (e + 1),
         key: 0.5 + 0.1 * (e % 3), "lr": 0.1, "seconds": 10.5}
        for e in range(1, epochs + 1)
    ]  # fmt: skip
    return [*found, {"epoch": epochs, "test_accuracy": 0.75}] if over else found


def write(path: Path, told: Any, lines: list[dict[str, Any]]) -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(told))
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def compare(*arguments: Any) -> int | None:
    given = ["compare", *map(str, arguments)]
    return main(cli.parse(Options, given, prog="parity", examples=EXAMPLES))


def told(capsys, *arguments: Any) -> list[str]:
    """What is printed; nothing is drawn."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("parity.commands.compare.draw", lambda runs, path: None)
        compare(*arguments, "--plot", "made.png")
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 80 for line in lines), lines
    assert lines[-1] == "curves: made.png"
    return lines


def cells(lines: list[str], name: str) -> list[str]:
    return next(line for line in lines if line.startswith(f"{name} ")).split()


def state(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below a folder, with its time and content."""
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in sorted(folder.rglob("*"))
    }


def test_two_runs_of_both_frameworks(here, capsys):
    write(here / "ours", config(epochs=4), rows(4))
    write(here / "theirs", config(epochs=4, framework="torch", lr=0.5), rows(4))
    lines = told(capsys, "ours", "theirs")
    assert lines[0] == "2 trainings of resnet20, recipe resnet20_short"
    assert lines[2].split() == ["run", "in", "options", "epochs", "loss", "best", "last", "s"]
    assert cells(lines, "ours") == "ours JAX lr 0.2 4 0.5000 75.00 75.00 42.0".split()
    assert cells(lines, "theirs") == "theirs PyTorch lr 0.5 4 0.5000 75.00 75.00 42.0".split()
    assert any("accuracy in % of the test images" in line for line in lines)


def test_what_a_run_directory_writes_is_read(here, capsys):
    options = TrainOptions(recipe="resnet20_short", epochs=12, seed=7, data="digits", lr=0.3)
    spec, recipe = chosen_training(options)
    for framework in ("jax", "torch"):
        with RunDirectory(here / framework, str(spec), framework) as directory:
            choice = data_choice.Choice("digits", "as asked")
            directory.config(config_of(options, spec, recipe, choice, framework, "cpu"))
            for row in rows(2, over=framework == "jax"):
                directory.metrics(**row)
            if framework == "torch":
                directory.stopped(NotFinite(math.nan, 3, 21), 0.3, 0)
    lines = told(capsys, "jax", "torch")
    assert lines[0] == "2 trainings of resnet20, recipe resnet20_short"
    assert cells(lines, "jax") == "jax JAX 12 1.0000 75.00 75.00 21.0".split()
    assert cells(lines, "torch") == "torch PyTorch 2 of 12 NaN 70.00 70.00 21.0".split()
    assert "torch stopped after epoch 2 of 12: the loss was infinite or NaN" in lines


@pytest.mark.proof
def test_runs_of_the_command_itself(here, capsys):
    small = ["train", "--model", "simple_cnn:channels=2,2:hidden=8", "--data", "digits"]
    small += ["--batch-size", "300", "--device", "cpu", "--checkpoint-every", "0"]
    for name, more in {
        "ours": ["--epochs", "2", "--validation", "137"],
        "theirs": ["--epochs", "1", "--framework", "torch", "--lr", "0.01"],
    }.items():
        assert main(cli.parse(Options, [*small, *more, "--out", name], prog="parity")) == 0
    capsys.readouterr()
    before = state(here)
    text = "\n".join(lines := told(capsys, "ours", "theirs"))
    assert lines[0] == "2 trainings of simple_cnn:channels=2,2:hidden=8"
    last = json.loads((here / "ours" / "metrics.jsonl").read_text().splitlines()[-2])
    assert cells(lines, "ours")[3:5] == ["2", f"{last['loss']:.4f}"]
    assert f"{100 * last['validation_accuracy']:.2f}" in cells(lines, "ours")
    assert "lr 0.001, validation 137" in text and "lr 0.01, validation 0" in text
    assert "random" not in text and "batch" not in text and state(here) == before


def test_a_run_that_is_not_over_says_where_it_is(here, capsys):
    write(here / "whole", config(epochs=12), rows(12))
    write(here / "begun", config(epochs=12), rows(3, over=False))
    lines = told(capsys, "whole", "begun")
    assert cells(lines, "begun")[1:] == "3 of 12 0.6667 70.00 50.00 31.5".split()
    assert "begun is not over: epoch 3 of 12" in lines
    assert not any(line.startswith("whole is not") for line in lines)


def test_a_loss_that_was_no_number_is_told(here, capsys):
    stop = {"epoch": 3, "step": 21, "loss": None}
    write(here / "stopped", config(epochs=12), [*rows(2, over=False), stop])
    gone_on = rows(3)
    gone_on[1]["loss"] = None
    write(here / "kept", config(epochs=3), gone_on)
    lines = told(capsys, "stopped", "kept")
    assert cells(lines, "stopped")[1:5] == ["2", "of", "12", "NaN"]
    assert "stopped stopped after epoch 2 of 12: the loss was infinite or NaN" in lines
    assert "kept: 1 of 3 losses infinite or NaN" in lines


def test_validation_is_not_taken_for_the_test(here, capsys):
    write(here / "val", config(epochs=2, validation=500), rows(2, key="validation_accuracy"))
    write(here / "test", config(epochs=2), rows(2))
    lines = told(capsys, "val", "test")
    assert cells(lines, "val")[1:] == "val. validation 500 2 1.0000 70.00 70.00 75.00 21.0".split()
    assert cells(lines, "test")[1:] == "test validation 0 2 1.0000 75.00 75.00 75.00 21.0".split()
    alone = told(capsys, "val")
    assert any("accuracy in % of the validation images" in line for line in alone)
    assert cells(alone, "val")[-2:] == ["75.00", "21.0"]


def test_an_older_run_has_the_defaults_of_what_it_did_not_know(here, capsys):
    old = {k: v for k, v in config(epochs=3).items() if k not in ("ema", "accumulate", "mirror")}
    write(here / "old", old, [{"epoch": 3, "loss": 0.5}, {"epoch": 3, "test_accuracy": 0.7}])
    write(here / "new", config(epochs=3), rows(3))
    lines = told(capsys, "old", "new")
    assert lines[2].split() == ["run", "epochs", "loss", "best", "last", "s"]
    assert cells(lines, "old") == "old 3 0.5000 70.00 70.00 -".split()


def test_recipes_that_differ_are_named_with_what_departs_from_them(here, capsys):
    write(here / "he", config("resnet20_he", epochs=2), rows(2))
    write(here / "short", config(epochs=2, lr=0.05), rows(2))
    write(here / "free", config(None, epochs=2), rows(2))
    text = "\n".join(told(capsys, "he", "short", "free"))
    assert "resnet20_he\n" in text and "resnet20_short, lr 0.05\n" in text
    assert "no recipe, batch size 32, optimizer adam, lr 0.001\n" in text


def test_names_tell_runs_apart(here, capsys):
    for place in ("a/run", "b/run", "b/c/run", "other"):
        write(here / place, config(epochs=1), rows(1))
    lines = told(capsys, "a/run", "b/run", "b/c/run", "other", "b/../a/run")
    assert lines[0] == "b/../a/run is a/run again: taken once"
    assert [cells(lines, name)[0] for name in ("a/run", "b/run", "c/run", "other")]
    assert "4 trainings of resnet20 in JAX, recipe resnet20_short" in lines
    assert unique_names([Path("/x"), Path("/y/x"), Path("/y/y/x")]) == ["/x", "/y/x", "y/y/x"]
    long = [f"{'x' * 100}{middle}{'y' * 100}" for middle in "abc"]
    assert len({*short_names(long)}) == 3 and len(short_names(long)[0]) <= NAME
    assert short_names(["a\nb", "a\\nb"]) == ["a\\nb", "a\\nb (2)"]


@pytest.mark.parametrize("count", [1, 6, 7, 30])
def test_any_number_of_runs_is_drawn(count, here, monkeypatch):
    drawn: list[curves.Run] = []
    figure = curves.figure
    monkeypatch.setattr(curves, "figure", lambda runs: drawn.extend(runs) or figure(runs))
    names = [f"run-{i}" for i in range(count)]
    for i, name in enumerate(names):
        write(here / name, config(epochs=5, seed=i), rows(5))
    compare(*names, "--plot", "made.png")
    assert [run.name for run in drawn] == names
    assert all(bool(run.curve("train_accuracy")) == (count <= 6) for run in drawn)
    assert all(len(run.curve("loss")) == 5 for run in drawn)
    image = Image.open(io.BytesIO((here / "made.png").read_bytes()))
    assert image.size[0] == 1500


def test_runs_are_only_read_and_no_picture_is_replaced(here, capsys):
    write(here / "one", config(epochs=2), rows(2))
    before = state(here)
    compare("one", "--plot", "new/made.svg")
    made = (here / "new" / "made.svg").read_bytes()
    assert {k: v for k, v in state(here).items() if "new" not in k} == before
    with pytest.raises(InputError, match="made.svg exists: pass another --plot, or remove it"):
        compare("one", "--plot", "new/made.svg")
    os.symlink("nowhere", "link.png")
    with pytest.raises(InputError, match="link.png exists"):
        compare("one", "--plot", "link.png")
    assert (here / "new" / "made.svg").read_bytes() == made
    capsys.readouterr()
    compare("one")
    (picture,) = (here / "runs").iterdir()
    assert f"curves: runs/{picture.name}" in capsys.readouterr().out
    assert picture.name.startswith("compare-") and picture.suffix == ".png"


GOOD = '{"epoch": 1, "loss": 2.0, "test_accuracy": 0.5, "seconds": 1.0}\n'
DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no folder": (lambda run: os.rename(run, run.parent / "x"), "run is not there: give a run"),
    "a file": (
        lambda run: [os.rename(run, run.parent / "x"), run.write_text("x")],
        "run is no folder: give a run directory",
    ),
    "no config": (lambda run: (run / "config.json").unlink(), "run has no config.json: give a run"),
    "no metrics": (
        lambda run: (run / "metrics.jsonl").unlink(),
        "run has no metrics.jsonl: its first epoch is not over; leave that run out",
    ),
    "config is a folder": (
        lambda run: [(run / "config.json").unlink(), (run / "config.json").mkdir()],
        "cannot read run/config.json: Is a directory; leave it out",
    ),
    **{
        f"config {text[:12]}": (
            lambda run, t=text: (run / "config.json").write_bytes(t),
            f"run/config.json is {what}",
        )
        for text, what in [
            (b"", "damaged (Expecting value"),
            (b"{", "damaged"),
            (b"\xff\xfe", "damaged"),
            (b"[" * 100_000, "damaged (it is too deep): restore it, or leave that run out"),
            (b"[1]", "no config.json of `parity train`: see it is no object; leave"),
            (b"{}", "no config.json of `parity train`: see model and framework and epochs"),
            (
                json.dumps(config(framework="caffe")).encode(),
                "no config.json of `parity train`: se",
            ),
            (
                json.dumps(config(epochs=2.5)).encode(),
                "no config.json of `parity train`: see epoch",
            ),
            (json.dumps(config(epochs=0)).encode(), "no config.json of `parity train`: see epochs"),
        ]
    },
    **{
        f"line {text[-30:]}": (
            lambda run, t=text: (run / "metrics.jsonl").write_text(GOOD + t),
            f"run/metrics.jsonl, line 2: {what}",
        )
        for text, what in [
            ('{"epoch": 2, "loss": 1.', "Expecting"),
            (
                '{"epoch": 2, "loss": NaN}',
                "NaN is no JSON; `parity train` writes null for it: mend",
            ),
            ('{"epoch": 2, "loss": -Infinity}', "-Infinity is no JSON"),
            ('{"epoch": 2, "loss": 1' + "0" * 400 + "}", "loss is too large"),
            ('{"epoch": 2, "loss": 1' + "0" * 5000 + "}", "Exceeds the limit"),
            ('{"epoch": 2, "loss": true}', "loss is no number"),
            ('{"epoch": 2, "loss": "1"}', "loss is no number"),
            ('{"epoch": 2, "test_accuracy": 75.0}', "test_accuracy is 75, not within 0 and 1"),
            ('{"epoch": 2, "seconds": -1}', "seconds is -1"),
            ('{"epoch": 2.0}', "epoch is no whole number from 1"),
            ('{"loss": 2.0}', "epoch is no whole number from 1"),
            ("[1]", "it is no object"),
            ("[" * 100_000, "it is too deep"),
        ]
    },
    "not text": (
        lambda run: (run / "metrics.jsonl").write_bytes(GOOD.encode() * 2 + b'{"\xff": 1}'),
        "run/metrics.jsonl, line 3: 'utf-8' codec",
    ),
    "empty": (
        lambda run: (run / "metrics.jsonl").write_text("\n"),
        "run/metrics.jsonl is empty: its first epoch is not over; leave that run out",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_what_is_no_run_is_told_in_one_line(name, here, capfd):
    change, line = DAMAGE[name]
    write(here / "good", config(), rows(1))
    write(here / "run", config(), rows(1))
    change(here / "run")
    before = state(here)
    arguments = ["compare", "good", "run", "--plot", "made.png"]
    with pytest.raises(SystemExit) as stop:
        cli.run(main, Options, args=arguments, prog="parity")
    output, errors = capfd.readouterr()
    assert stop.value.code == cli.BAD_INPUT and output == "" and state(here) == before
    assert errors.startswith(f"error: {line}") and errors.count("\n") == 1, errors
    assert len(errors) < 400 and errors[:-1].isprintable()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--plot", "made.png"], "no run is given: name the run directories of `parity train`"),
        (["run", "--plot", "made.pdf"], "made.pdf is no name of a picture: give a .png or .svg"),
        (
            ["run", "--plot", "run/config.json/x.png"],
            "run/config.json is a file; pass another --pl",
        ),
    ],
)
def test_what_cannot_be_done_is_told_first(arguments, told, here):
    write(here / "run", config(), rows(1))
    before = state(here)
    with pytest.raises((InputError, SystemExit), match=told):
        compare(*arguments)
    assert state(here) == before


def test_it_needs_no_framework(here):
    write(here / "run", config(), rows(2))
    code = (
        "import sys\n"
        "from parity.commands import compare, summary\n"
        "from parity.program import main\n"
        "from parity.shell.look_options import CompareOptions, Path\n"
        "main(CompareOptions((Path('run'),)))\n"
        "assert not {'jax', 'torch', 'flax'} & set(sys.modules)"
    )
    root = Path(__file__).resolve().parents[3]
    subprocess.run(
        [sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": str(root)}
    )


def test_a_table_keeps_to_its_width():
    header, row = ("name", "words", "7"), ("n" * 30, "some words " * 10, "123456")
    lines = columns(header, [row, ("a", "b", "1")], {"name", "words"}, 40, below=["x y " * 20, ""])
    assert all(len(line) <= 40 for line in lines)
    assert "".join(line[:8].strip() for line in lines).count("n") >= 8
    text = " ".join(lines).replace(" ", "")
    assert text.count("somewords") + text.count("some") >= 10 and text.count("xy") == 20
    assert lines[-1].split() == ["a", "b", "1"]
