"""`parity` as a user calls it: output, files, exit status."""

import contextlib
import json
import signal
import subprocess
import sys

import numpy as np
import pytest

from jax_impl.data import datasets
from jax_impl.errors import InputError
from parity.commands import run as command
from parity.ladder.rungs import data as data_rung
from parity.program import main
from parity.shell import cli
from parity.shell.options import ListOptions, RunOptions


def parity(*arguments: str, **kwargs) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "parity", *arguments], capture_output=True, text=True, **kwargs
    )


@pytest.mark.quick
def test_a_run_writes_its_report_and_exits_with_0(tmp_path):
    out = tmp_path / "deep" / "report"
    rungs = "forward", "loss", "gradients", "batch_stats", "optimizer"
    done = parity(
        "run", "--models", "simple_cnn", "--rungs", "data", *rungs, "--data", "digits",
        "--out", str(out),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "data: digits, as asked" in done.stdout
    assert "PASSED: all 11 checks; 2 not compared" in done.stdout
    content = json.loads((out / "report.json").read_text())
    assert [(r["model"], r["rung"], r["dtype"]) for r in content["results"]] == [
        ("all", "data", "float64"),
        ("all", "data", "float32"),
        ("simple_cnn", "data", "float64"),
        *(("simple_cnn", rung, dtype) for rung in rungs for dtype in ("float64", "float32")),
    ]
    assert [module["name"] for module in content["results"][3]["modules"]] == [
        "conv1", "conv2", "fc1", "fc2", "outputs",
    ]  # fmt: skip
    assert content["data"]["name"] == "digits"
    assert content["environment"]["packages"]["jax"]
    assert (out / "report.md").exists() and (out / "report.html").exists()
    assert sorted(path.name for path in out.parent.iterdir()) == ["report"]


def test_a_failed_rung_exits_with_1(tmp_path, monkeypatch):
    normalize = datasets.normalize
    monkeypatch.setattr(
        data_rung, "normalize", lambda images, dtype: normalize(images, dtype) * 1.0000001
    )
    options = RunOptions(
        models=("simple_cnn",), rungs=("data",), data="digits", out=tmp_path / "out"
    )
    assert command.run(options) == 1
    content = json.loads((tmp_path / "out" / "report.json").read_text())
    failed = [result["model"] for result in content["results"] if not result["passed"]]
    assert failed == ["all", "all"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("run", "--modles", "simple_cnn"), "perhaps you meant --modes or --models"),
        (("run", "--models", "resnet19"), "resnet19"),
        (("run", "--rungs", "forwards"), "forwards"),
        (("run", "--seed", "one"), "one"),
        (("run", "--budget", "0"), "--budget is 0.0"),
        (("run", "--data", "digits", "--device", "gpu"), "cannot use a GPU here"),
        (("run", "--seed", "-1"), "--seed is -1: give 0 to 2^32 - 1"),
        (("run", "--steps", "0"), "--steps is 0: give 1 to 2147483647"),
        (("run", "--pair", "nothing"), "is not of the form MODULE:FUNCTION"),
        (("run", "--pair", "no_such_module:make"), "No module named 'no_such_module'"),
        (("walk",), "walk"),
    ],
)
def test_bad_input_gets_one_line_and_exits_with_2(arguments, message, tmp_path):
    done = parity(*arguments, cwd=tmp_path, env=environment(tmp_path))
    assert done.returncode == 2
    assert message in done.stderr and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "options, message",
    [
        ({"pair": "json:dumps"}, "--pair json:dumps: TypeError: dumps\\(\\) missing"),
        ({"pair": "time:time"}, "returns float, not a parity.Pair"),
        ({"pair": "mutants.pairs:mlp", "rungs": ("accuracy",)}, "nothing to compare"),
    ],
)
def test_a_pair_that_cannot_be_compared_is_bad_input(options, message, tmp_path):
    with pytest.raises(InputError, match=message) as told:
        command.run(RunOptions(**options, out=tmp_path / "out"))
    assert "\n" not in str(told.value) and list(tmp_path.iterdir()) == []


def environment(tmp_path) -> dict[str, str]:
    """That of a user who has nothing prepared, and runs elsewhere."""
    import os
    from pathlib import Path

    root = str(Path(__file__).resolve().parents[3])
    kept = {key: value for key, value in os.environ.items() if key != "CIFAR10_ARCHIVE"}
    path = os.pathsep.join((root, f"{root}/tests", os.environ.get("PYTHONPATH", "")))
    return kept | {"PYTHONPATH": path, "PARITY_DATA_DIR": str(tmp_path / "none")}


def test_an_existing_report_is_refused_before_the_work(tmp_path):
    done = parity("run", "--out", str(tmp_path))
    assert done.returncode == 2
    assert done.stderr == f"error: {tmp_path} exists: pass another --out, or remove it\n"


@pytest.mark.parametrize("command", ["run", "speed"])
def test_an_output_in_a_file_is_refused_before_the_work(command, tmp_path):
    (tmp_path / "file").touch()
    done = parity(command, "--data", "digits", "--out", str(tmp_path / "file" / "deep" / "out"))
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert f"{tmp_path / 'file'} is a file; pass another --out" in done.stderr


def test_the_list(capsys):
    assert main(ListOptions()) == 0
    output = capsys.readouterr().out
    assert "resnet152" in output and "batch_stats" in output


def test_without_pytorch_the_command_says_so(monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "torch" else find(name)
    )
    with pytest.raises(InputError, match=r"PyTorch is not installed: pip install .*\[torch\]"):
        main(RunOptions())


@pytest.mark.parametrize("what", ["images", "labels", "order"])
def test_the_data_rung_sees_one_wrong_value(what, monkeypatch):
    import torch_ref.data

    ours, theirs = datasets.load_digits(), torch_ref.data.load("digits")
    if what == "images":
        theirs[0].data[7, 5, 5, 1] ^= 1
    elif what == "labels":
        theirs[1].targets[3] = (theirs[1].targets[3] + 1) % 10
    else:
        make = data_rung.make_loader
        monkeypatch.setattr(
            data_rung,
            "make_loader",
            lambda dataset, size, order: make(dataset, size, order=np.roll(order, 1).tolist()),
        )
    assert not any(found.passed for found in data_rung.run(ours, theirs, 0))


def test_the_data_rung_on_cifar10(cifar10_dir):
    import torch_ref.data

    ours, theirs = datasets.load_cifar10(cifar10_dir), torch_ref.data.load("cifar10", cifar10_dir)
    results = list(data_rung.run(ours, theirs, 0))
    assert all(found.passed for found in results)
    assert results[0].detail.startswith("60000 images")


def test_a_reader_that_goes_away_leaves_the_report(tmp_path):
    command = [sys.executable, "-m", "parity", "run", "--models", "simple_cnn", "--rungs", "data"]
    command += ["--data", "digits", "--out", str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert process.wait() == 0
        assert process.stderr.read() == b""
    assert (tmp_path / "out" / "report.json").exists()


def test_a_path_in_the_place_of_a_module_is_told():
    with pytest.raises(InputError, match="a module's name, not a path: port:make_pair"):
        command.load_pair("./port.py:make_pair")


@pytest.fixture(params=[signal.default_int_handler, signal.SIG_IGN], ids=["told", "ignored"])
def on_interrupt(request):
    """What Ctrl-C does; a shell's job in the background is started with it ignored."""
    before = signal.signal(signal.SIGINT, request.param)
    yield request.param
    signal.signal(signal.SIGINT, before)


def test_an_interruption_of_an_import_is_answered_after_it(on_interrupt):
    done = []
    ignored = on_interrupt is signal.SIG_IGN
    told = contextlib.nullcontext() if ignored else pytest.raises(KeyboardInterrupt)
    with told, cli.held_interrupts():
        signal.raise_signal(signal.SIGINT)
        done.append("imported")
    assert done == ["imported"]
    assert signal.getsignal(signal.SIGINT) is on_interrupt
