"""`parity evaluate`: right numbers from every kind of weights, in both frameworks."""

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from scipy import stats

from jax_impl.data.datasets import load_digits
from jax_impl.models.model import from_spec
from jax_impl.training.evaluate import make_evaluate, make_logits
from parity.commands import evaluate as evaluate_command
from parity.pairs import weight_source
from parity.report.evaluation import Evaluation, wilson
from parity.report.evaluation_pictures import pictures

FILES = ["confusion.png", "errors.png", "evaluation.json"]


def told(folder: Path) -> dict:
    return json.loads((folder / "evaluation.json").read_text())


def test_both_frameworks_tell_what_the_training_measured(trained, tmp_path, parity_command):
    found = {}
    for framework in ("jax", "torch"):
        out = tmp_path / framework
        status, output, errors = parity_command(
            "evaluate", trained, "--framework", framework, "--out", out
        )
        assert status == 0, errors
        lines = output.splitlines()
        assert all(len(line) <= 80 for line in lines if "/" not in line)
        found[framework] = told(out)
        assert sorted(path.name for path in out.iterdir()) == FILES
        assert f"accuracy: {100 * found[framework]['accuracy']:.2f} %, 95 % interval" in output
        for name in FILES[:2]:
            assert Image.open(out / name).size > (700, 300)
    ours, theirs = found["jax"], found["torch"]
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert ours["accuracy"] == theirs["accuracy"] == rows[-1]["test_accuracy"]
    assert 0.5 < ours["accuracy"] < 1 and ours["data"] == "digits"
    assert ours["confusion"] == theirs["confusion"] and sum(map(sum, ours["confusion"])) == 360
    assert math.isclose(ours["loss"], theirs["loss"], rel_tol=1e-5)
    sure, surer = ([error["probability"] for error in f["surest_errors"]] for f in (ours, theirs))
    assert len(sure) == 10 and np.allclose(sure, surer, rtol=1e-4)


def test_every_kind_of_weights_is_the_same(trained, tmp_path, parity_command):
    weights = trained / "weights.safetensors"
    state = safetensors.torch.load_file(weights)
    torch.save({"state_dict": state}, tmp_path / "w.pth")
    torch.save({k: v.double() for k, v in state.items()}, tmp_path / "w.pt")
    spec = weight_source.find(trained).spec
    assert parity_command("convert", weights, tmp_path / "orbax", "--model", spec)[0] == 0
    model, found = from_spec(spec), []
    for name, said in (
        (weights, None),
        (tmp_path / "orbax", None),
        (tmp_path / "w.pth", str(spec)),
        (tmp_path / "w.pt", str(spec)),
    ):
        source = weight_source.find(name, said)
        assert source.spec == spec and source.data is None
        found.append(jax.tree.leaves(weight_source.load(source, model)))
    for leaves in zip(*found, strict=True):
        assert all(leaf.dtype == np.float32 and (leaf == leaves[0]).all() for leaf in leaves)
    out, digits = tmp_path / "out", ("--data", "digits", "--batch-size", 77)
    assert parity_command("evaluate", tmp_path / "orbax", *digits, "--out", out)[0] == 0
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert told(out)["accuracy"] == rows[-1]["test_accuracy"]


def test_mirror_images_count_where_they_are_asked_for(trained, tmp_path, parity_command):
    out = tmp_path / "out"
    assert parity_command("evaluate", trained, "--mirror", "--out", out)[0] == 0
    source = weight_source.find(trained)
    model = from_spec(source.spec)
    variables, digits = weight_source.load(source, model), load_digits()
    expected = make_evaluate(model, mirror=True)(variables, digits.test)
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert told(out)["accuracy"] == expected != rows[-1]["test_accuracy"]
    run = tmp_path / "mirrored"
    shutil.copytree(trained, run)
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"mirror": True}))
    assert weight_source.find(run).mirror and not source.mirror
    images = digits.test.images[:5]
    plain = make_logits(model, 2)
    both = [plain(variables, x) for x in (images, images[:, :, ::-1])]
    assert np.allclose(make_logits(model, 2, True)(variables, images), sum(both) / 2, atol=1e-5)


def bad(kind: str, trained: Path, folder: Path) -> tuple[list[object], str]:
    """What is evaluated, and what must be told."""
    run, pth = folder / "run", folder / "w.pth"
    shutil.copytree(trained, run)
    state = safetensors.torch.load_file(run / "weights.safetensors")
    model = json.loads((run / "config.json").read_text())["model"]
    torch.save(state, pth)
    match kind:
        case "missing":
            return [folder / "none"], "there is no "
        case "a folder of something else":
            (folder / "empty").mkdir()
            return [folder / "empty"], "is a folder without weights"
        case "not finished":
            (run / "weights.safetensors").unlink()
            return [run], "go on with it by `parity train --resume"
        case "stopped":
            (run / "weights.safetensors").unlink()
            (run / "metrics.jsonl").write_text('{"epoch": 1, "step": 3, "loss": null}\n')
            return [run], "stopped at a loss that is no number"
        case "a config of something else":
            (run / "config.json").write_text("{}")
            return [run], "is no config.json of `parity train`"
        case "nothing says the model":
            return [pth], "does not say of which model its weights are: pass --model"
        case "another model than is said":
            return [run, "--model", "resnet20"], f"says that it holds {model}, not resnet20"
        case "another shape":
            return [pth, "--model", "simple_cnn"], "conv1.weight has shape (4, 3, 3, 3), not (32,"
        case "another number of classes":
            return [pth, "--model", f"{model}:num_classes=7"], "num_classes must be 10"
        case "a hundred classes":
            head = {"fc2.weight": torch.zeros(100, 16), "fc2.bias": torch.zeros(100)}
            torch.save(state | head, pth)
            return [pth, "--model", model], f"pass --model {model.split(':')[0]}:num_classes=N"
        case "nan":
            torch.save(state | {"fc2.bias": torch.full((10,), torch.nan)}, pth)
            return [pth, "--model", model], "NaN or infinite in fc2.bias"
        case "too large for float32":
            wide = {k: v.double() for k, v in state.items()}
            torch.save(wide | {"fc2.bias": torch.full((10,), 1e300, dtype=torch.double)}, pth)
            return [pth, "--model", model], "NaN or infinite in fc2.bias"
        case "no model of that name":
            return [pth, "--model", "simple_cn"], "no model named 'simple_cn'"
        case "taken":
            (folder / "taken").mkdir()
            return [run, "--out", folder / "taken"], "exists: pass another --out"
        case "no batch":
            return [run, "--batch-size", 0], "--batch-size is 0: give 1 to "
        case _:
            os.mkfifo(folder / "pipe")
            return [folder / "pipe"], "is neither a file nor a folder"


BAD = (
    "missing", "a folder of something else", "not finished", "stopped", "nan", "taken", "no batch",
    "a config of something else", "nothing says the model", "another model than is said", "a pipe",
    "another shape", "another number of classes", "a hundred classes", "too large for float32",
    "no model of that name",
)  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_evaluated_is_told_in_one_line(
    kind, trained, tmp_path, parity_command, monkeypatch
):
    arguments, message = bad(kind, trained, tmp_path)
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    status, output, errors = parity_command("evaluate", "--data", "digits", *arguments)
    assert (status, output) == (2, "")
    assert errors.startswith("error: ") and errors.count("\n") == 1 and message in errors
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("when", ["pictures", "whole_directory"])
def test_an_interruption_leaves_nothing(when, trained, tmp_path, parity_command, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluate_command, when, interrupted)
    status, _, errors = parity_command("evaluate", trained, "--out", tmp_path / "out")
    assert (status, errors) == (130, "interrupted\n") and not list(tmp_path.iterdir())


def test_jax_needs_no_pytorch(trained, tmp_path):
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from parity.commands.evaluate import run\n"
        "from parity.shell.use_options import EvaluateOptions\n"
        f"run(EvaluateOptions(Path({str(trained)!r}), out=Path({str(tmp_path / 'out')!r})))\n"
        "assert not {'torch', 'torchvision'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == FILES


PROBABILITIES = [[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.05, 0.9, 0.05], [0.2, 0.5, 0.3]]


def test_what_is_counted():
    labels = np.array([0, 2, 0, 1])
    found = Evaluation(("a", "b", "c"), labels, np.log(PROBABILITIES))
    assert found.right == 2 and found.accuracy == 0.5
    assert found.confusion.tolist() == [[1, 1, 0], [0, 1, 0], [0, 1, 0]]
    assert math.isclose(found.loss, -np.log([0.7, 0.3, 0.05, 0.5]).mean())
    assert [(e.image, e.true, e.predicted) for e in found.errors()] == [(2, 0, 1), (1, 2, 1)]
    assert math.isclose(found.errors()[0].probability, 0.9) and len(found.errors(1)) == 1
    assert [row["right"] for row in found.as_json()["classes"]] == [1, 1, 0]
    assert found.table()[2:] == [
        "a             1    1    0   50.0 %",
        "b             0    1    0  100.0 %",
        "c             0    1    0    0.0 %",
    ]


def test_logits_that_are_no_numbers_are_wrong_and_told():
    logs = np.log(PROBABILITIES)
    logs[0, 1] = np.nan
    found = Evaluation(("a", "b", "c"), np.array([0, 1, 1, 1]), logs)
    assert (found.right, found.without_class, found.confusion.sum()) == (3, 1, 3)
    assert "1 images are no numbers" in "\n".join(found.lines()) and not found.errors()


@pytest.mark.parametrize("right, of", [(0, 10), (10, 10), (7284, 10_000), (1, 3)])
def test_the_interval_is_wilsons(right, of):
    expected = stats.binomtest(right, of).proportion_ci(0.95, "wilson")
    assert np.allclose(wilson(right, of), expected, rtol=1e-12, atol=1e-15)


def test_pictures_take_any_names_and_no_error():
    """Letters that the font lacks would be warned of, which fails a test."""
    found = Evaluation(
        ("猫", "$x_1$ \\frac{", "c" * 60), np.array([0, 1]), np.log(np.eye(3)[:2] + 1e-9)
    )
    assert not found.errors()
    drawn = pictures(found, np.zeros((2, 32, 32, 3), np.uint8), "a " * 200)
    assert all(content.startswith(b"\x89PNG") for content in drawn.values())
