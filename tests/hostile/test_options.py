"""Every option of every command, with values that nobody means: refused in one line, or right."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from PIL import Image

import torch_ref.models
from parity.program import EXAMPLES, Options, main
from parity.shell import (
    cli,
    look_options,
    options,
    study_options,
    train_options,
    use_options,
)

SMALL = "simple_cnn:channels=2,2:hidden=4"
VALUES = {
    "zero": "0",
    "minus one": "-1",
    "1e400": "1e400",
    "nan": "nan",
    "empty": "",
    "two folders up": "../..",
    "10^30": "1" + "0" * 30,
    "long": "x" * 5000,
    "control characters": "é世\u202e\x1b[31m\n\t",
    "a quarter": "0.25",
}
SEEDS = {"zero", "minus one"}
"""PyTorch takes negative ones; a comparison, whose NumPy does not, refuses them."""
PATHS = {*VALUES} - {"empty", "two folders up", "long"}
"""A name like another."""


@dataclasses.dataclass(frozen=True)
class Command:
    """A command that is quickly done, and the values of an option that it may take."""

    arguments: Sequence[str]
    takes: dict[str, set[str]]


COMMANDS: dict[str, tuple[Any, Command]] = {
    "train": (
        train_options.TrainOptions,
        Command(
            [
                *("--model", SMALL, "--data", "digits", "--epochs", "1", "--batch-size", "700"),
                "--keep-going",
            ],
            {
                "seed": SEEDS,
                "lr": {"a quarter", "10^30"},
                "weight_decay": {"zero", "a quarter", "10^30"},
                "label_smoothing": {"zero", "a quarter"},
                "clip_norm": {"a quarter", "10^30"},
                "warmup": {"zero", "a quarter"},
                "ema": {"zero", "a quarter"},
                "validation": {"zero"},
                "workers": {"zero"},
                "checkpoint_every": {"zero", "a quarter"},
                "out": PATHS,
            },
        ),
    ),
    "run": (
        options.RunOptions,
        Command(
            ["--models", SMALL, "--data", "digits", "--rungs", "data", "--dtypes", "float64"],
            {
                "seed": {"zero"},
                "budget": {"a quarter"},
                "out": PATHS,
            },
        ),
    ),
    "convert": (
        options.ConvertOptions,
        Command(
            ["there.pth", "made.safetensors", "--model", SMALL], {"seed": SEEDS, "output": PATHS}
        ),
    ),
    "evaluate": (
        use_options.EvaluateOptions,
        Command(["there.pth", "--model", SMALL, "--data", "digits"], {"out": PATHS}),
    ),
    "predict": (
        use_options.PredictOptions,
        Command(["there.pth", "there.png", "--model", SMALL], {}),
    ),
    "export": (
        use_options.ExportOptions,
        Command(["there.pth", "made", "--model", SMALL], {"output": PATHS}),
    ),
    "prepare": (options.PrepareOptions, Command([], {})),
    "list": (options.ListOptions, Command([], {})),
    "recipes": (options.RecipesOptions, Command([], {})),
    "summary": (look_options.SummaryOptions, Command(["simple_cnn"], {})),
    "compare": (look_options.CompareOptions, Command(["there"], {})),
    "speed plot": (look_options.SpeedPlotOptions, Command(["there"], {})),
    "speed compare": (look_options.SpeedCompareOptions, Command(["there", "there"], {})),
    "study": (
        study_options.StudyOptions,
        Command(
            ["choose-cnn", "--data", "digits", "--search", "1", "--dry-run"],
            {"minutes": {"a quarter"}, "out": PATHS},
        ),
    ),
    "speed": (
        options.SpeedOptions,
        Command(
            [
                *("--workloads", f"{SMALL}@2", "--variants", "eager", "--modes", "inference"),
                *("--rounds", "1", "--seconds", "0.01", "--no-roofline", "--data", "digits"),
            ],
            {
                "seed": {"zero"},
                "seconds": {"a quarter"},
                "compile_limit": {"a quarter"},
            },
        ),
    ),
}


POSITIONAL = {
    ("convert", "input"): 1,
    ("convert", "output"): 2,
    ("summary", "model"): 1,
    ("compare", "runs"): 1,
    ("speed plot", "files"): 1,
    ("speed compare", "before"): 1,
    ("speed compare", "after"): 2,
    ("study", "name"): 1,
    ("evaluate", "weights"): 1,
    ("predict", "weights"): 1,
    ("predict", "images"): 2,
    ("export", "weights"): 1,
    ("export", "output"): 2,
}
"""Where on the command line an option without a name stands."""

DONE = {
    ("train", "minus one"),
    ("run", "control characters"),
    ("convert", "zero"),
    ("evaluate", "control characters"),
    ("export", "minus one"),
    ("study", "a quarter"),
    ("study", "zero"),
}
"""Of what is taken, these are tried at once."""


def cases() -> list[Any]:
    """But for flags, which take no value, and for names that are free."""
    left = {"run": {"accept", "data_dir"}, "train": {"data_dir"}, "speed": {"data_dir", "out"}}
    left |= {"evaluate": {"data_dir"}, "study": {"data_dir"}}
    return [
        pytest.param(
            command,
            field.name,
            name,
            id=f"{command} {field.name} {name}",
            # Where the value is taken the command does its work, which takes seconds.
            marks=[pytest.mark.proof]
            if name in quick.takes.get(field.name, ()) and (command, name) not in DONE
            else [],
        )
        for command, (kind, quick) in COMMANDS.items()
        for field in dataclasses.fields(kind)
        if field.type is not bool and field.name not in left.get(command, ())
        for name in VALUES
    ]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Where a command is started: two folders up is not empty, and is the user's."""
    here = tmp_path / "mine" / "work" / "here"
    here.mkdir(parents=True)
    (tmp_path / "mine" / "kept").write_text("mine")
    monkeypatch.chdir(here)
    monkeypatch.delenv("CIFAR10_ARCHIVE", raising=False)
    monkeypatch.setenv("PARITY_DATA_DIR", str(tmp_path / "data"))
    torch.manual_seed(0)
    model = torch_ref.models.create_model("simple_cnn", channels=(2, 2), hidden=4)
    torch.save(model.state_dict(), "there.pth")
    Image.new("RGB", (8, 8)).save("there.png")
    return here


@pytest.mark.parametrize(("command", "field", "name"), cases())
def test_an_option_is_refused_in_one_line_or_does_what_it_says(
    command, field, name, folder, capfd, monkeypatch
):
    kind, quick = COMMANDS[command]
    arguments = [command, *quick.arguments]
    positional = POSITIONAL.get((command, field))
    if positional:
        arguments[positional] = VALUES[name]
    else:
        option = f"--{field.replace('_', '-')}"
        if option in arguments:
            del arguments[(at := arguments.index(option)) : at + 2]
        arguments += [option, VALUES[name]]
    monkeypatch.setattr("parity.shell.prepare.check_network", refuse)
    with pytest.raises(SystemExit) as stop:
        cli.run(main, Options, args=arguments, prog="parity", examples=EXAMPLES)
    output, errors = capfd.readouterr()
    if name in quick.takes.get(field, ()):
        busy = command == "speed" and "busy" in output
        assert stop.value.code == int(busy), errors
        return
    assert stop.value.code == cli.BAD_INPUT, f"{VALUES[name][:40]!r} was taken: {output[-300:]}"
    assert errors.startswith("error: ") and errors.count("\n") == 1 and len(errors) < 1500, errors
    assert errors[:-1].isprintable()
    assert (
        sorted(os.listdir(folder)) == ["there.png", "there.pth"]
        and (folder / "../../kept").read_text() == "mine"
    )


def refuse() -> None:
    from parity.shell.prepare import NoNetwork

    raise NoNetwork("CIFAR-10 cannot be downloaded: no network")


def test_every_command_is_swept():
    named = {part.__metadata__[0].name: part.__origin__ for part in get_args(Options)}
    assert {name: kind for name, (kind, _) in COMMANDS.items()} == named
