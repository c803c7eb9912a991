"""`parity convert`: files between the frameworks, bit for bit, and bad ones refused."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy
import safetensors.torch
import torch

import torch_ref.models
from jax_impl.errors import InputError
from jax_impl.training import checkpoint
from parity.commands.convert import run
from parity.shell.options import ConvertOptions

MODEL = "resnet20"


def state_of(dtype: torch.dtype = torch.float32, **options) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    state = torch_ref.models.create_model(MODEL, **options).state_dict()
    return {
        name: value.to(dtype) if value.is_floating_point() else torch.tensor(5)
        for name, value in state.items()
    }


def convert(source: Path, target: Path, **options) -> None:
    run(ConvertOptions(source, target, **{"model": MODEL, **options}))


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(
        ours[name].dtype == value.dtype and torch.equal(ours[name], value)
        for name, value in theirs.items()
    )


@pytest.mark.quick
@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str
)
def test_every_kind_of_file_keeps_every_bit(dtype, tmp_path):
    """.pth -> .safetensors -> Orbax -> .pt, in each dtype."""
    state = state_of(dtype)
    torch.save(state, tmp_path / "a.pth")
    convert(tmp_path / "a.pth", tmp_path / "b.safetensors")
    assert same(safetensors.torch.load_file(tmp_path / "b.safetensors"), state)
    convert(tmp_path / "b.safetensors", tmp_path / "c")
    convert(tmp_path / "c", tmp_path / "d.pt")
    assert same(torch.load(tmp_path / "d.pt"), state)
    twin = torch_ref.models.create_model(MODEL).to(dtype)
    twin.load_state_dict(torch.load(tmp_path / "d.pt"), strict=True)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["a.pth", "b.safetensors", "c", "d.pt"]


def test_safetensors_say_what_they_hold(tmp_path):
    torch.save(state_of(num_classes=7), tmp_path / "a.pth")
    convert(tmp_path / "a.pth", tmp_path / "b.safetensors", model=f"{MODEL}:num_classes=7")
    with safetensors.safe_open(tmp_path / "b.safetensors", "numpy") as file:
        metadata = dict(file.metadata())
        assert len(json.loads(metadata.pop("sha256"))) == 116
        assert metadata == {
            "format": "pt",
            "format_version": "1",
            "model": "resnet20:num_classes=7",
            "num_classes": "7",
        }
    assert (tmp_path / "b.safetensors").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("name", ["state_dict", "model_state_dict", "model"])
def test_the_weights_in_a_training_checkpoint_are_found(name, tmp_path):
    torch.save({"epoch": 3, name: state_of(), "optimizer": {"lr": 0.1}}, tmp_path / "a.pth")
    convert(tmp_path / "a.pth", tmp_path / "b.pt")
    assert same(torch.load(tmp_path / "b.pt"), state_of())


def test_a_file_of_the_old_format_is_read(tmp_path):
    torch.save(state_of(), tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    convert(tmp_path / "a.pth", tmp_path / "b.pt")
    assert same(torch.load(tmp_path / "b.pt"), state_of())


def test_a_head_can_be_dropped(tmp_path):
    torch.save(state_of(num_classes=7), tmp_path / "a.pth")
    convert(tmp_path / "a.pth", tmp_path / "b.pt", drop_head=True)
    found, state = torch.load(tmp_path / "b.pt"), state_of(num_classes=7)
    assert found["fc.weight"].shape == (10, 64)
    assert all(torch.equal(found[key], state[key]) for key in state if not key.startswith("fc."))


class Code:
    """What a pickle that runs code holds."""

    def __reduce__(self):
        return (print, ("run",))


def damaged(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def bad_file(kind: str, folder: Path) -> Path:
    """A file that `kind` names."""
    pth, tensors, state = folder / "bad.pth", folder / "bad.safetensors", state_of()
    if kind == "missing":
        return pth
    if kind in ("truncated safetensors", "foreign metadata"):
        metadata = {"model": "resnet32"} if kind == "foreign metadata" else None
        safetensors.torch.save_file(state, tensors, metadata)
        if metadata is None:
            damaged(tensors)
        return tensors
    if kind == "garbage":
        tensors.write_bytes(b"not a weight in sight" * 9)
        return tensors
    if kind in ("empty folder", "another model's folder"):
        if kind == "empty folder":
            (folder / "bad").mkdir()
        else:
            torch.save(torch_ref.models.create_model("resnet32").state_dict(), pth)
            convert(pth, folder / "bad", model="resnet32")
            (folder / "bad" / "_CHECKPOINT_METADATA").unlink()  # which says so
        return folder / "bad"
    content = {
        "truncated": state,
        "code": state | {"extra": Code()},
        "another model": torch_ref.models.create_model("resnet32").state_dict(),
        "another head": state_of(num_classes=7),
        "transposed": state | {"fc.weight": state["fc.weight"].T.contiguous()},
        "nan": state | {"fc.bias": torch.full((10,), float("nan"))},
        "not a dict": [1, 2],
        "not tensors": {"epoch": 3, "note": "hello"},
    }[kind]
    torch.save(content, pth)
    if kind == "truncated":
        damaged(pth)
    return pth


BAD = {
    "missing": ["there is no "],
    "truncated": ["is cut off or damaged"],
    "truncated safetensors": ["cannot read "],
    "garbage": ["cannot read "],
    "foreign metadata": ["says that it holds resnet32, not resnet20: pass --model resnet32"],
    "empty folder": ["is no Orbax checkpoint"],
    "another model's folder": [
        "unexpected batch_stats/layer1/3/bn1/mean, ", "params/layer3/4/conv2/kernel",
    ],
    "code": ["holds the code", "which is not run: save model.state_dict() alone"],
    "another model": ["unexpected layer1.3.conv1.weight, ", "layer3.4.bn2.num_batches_tracked"],
    "another head": [
        "fc.bias has shape (7,), not (10,)", "fc.weight has shape (7, 64), not (10, 64)",
        "pass --model resnet20:num_classes=N, or --drop-head",
    ],
    "transposed": ["fc.weight has shape (64, 10), not (10, 64)"],
    "nan": ["NaN or infinite in fc.bias: pass --allow-nan"],
    "not a dict": ["holds a list, not a state_dict"],
    "not tensors": ["not tensors are epoch, note"],
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_explained_in_one_line(kind, tmp_path, capsys):
    path = bad_file(kind, tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError) as error:
        convert(path, tmp_path / "out.safetensors")
    assert "\n" not in str(error.value)
    for part in BAD[kind]:
        assert part in str(error.value)
    assert sorted(tmp_path.rglob("*")) == before
    assert "run" not in capsys.readouterr().out.split()


def test_nan_can_be_allowed(tmp_path):
    convert(bad_file("nan", tmp_path), tmp_path / "out.pt", allow_nan=True)
    assert torch.load(tmp_path / "out.pt")["fc.bias"].isnan().all()


def test_an_output_is_replaced_only_when_asked(tmp_path):
    torch.save(state_of(), tmp_path / "a.pth")
    for name in ("out.pt", "folder"):
        out = tmp_path / name
        convert(tmp_path / "a.pth", out)
        with pytest.raises(InputError, match="exists: pass --overwrite"):
            convert(tmp_path / "a.pth", out)
        convert(tmp_path / "a.pth", out, overwrite=True)
    with pytest.raises(InputError, match="both the input and the output"):
        convert(tmp_path / "a.pth", tmp_path / "a.pth", overwrite=True)
    with pytest.raises(InputError, match="cannot write"):
        convert(tmp_path / "a.pth", tmp_path / "none" / "out.pt")
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["a.pth", "b.pt"], "--model"),
        (["a.pth", "b.pt", "--modle", MODEL], "Unrecognized options: --modle"),
        (["a.pth", "b.pt", "--model", "resnet19"], "no model named 'resnet19'"),
        (["a.pth", "b.pt", "--model", MODEL], "there is no a.pth"),
    ],
)
def test_the_script_exits_with_2(arguments, message, tmp_path):
    script = Path("scripts/convert_weights.py").resolve()
    done = subprocess.run(
        [sys.executable, str(script), *arguments], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_without_torch_safetensors_and_orbax_convert(tmp_path):
    arrays = {name: value.numpy() for name, value in state_of().items()}
    safetensors.numpy.save_file(arrays, tmp_path / "a.safetensors")
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from pathlib import Path\n"
        "from parity.commands.convert import run\n"
        "from parity.shell.options import ConvertOptions\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "run(ConvertOptions(folder / 'a.safetensors', folder / 'b', model='resnet20'))\n"
        "run(ConvertOptions(folder / 'b', folder / 'c.safetensors', model='resnet20'))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    found = safetensors.numpy.load_file(tmp_path / "c.safetensors")
    assert all(np.array_equal(found[name], value) for name, value in arrays.items())


def test_an_interruption_leaves_nothing(tmp_path, monkeypatch):
    torch.save(state_of(), tmp_path / "a.pth")
    for library, function, name in (
        (checkpoint.ocp.Checkpointer, "save", "b"),
        (safetensors.numpy, "save_file", "b.safetensors"),
        (torch, "save", "b.pth"),
    ):
        write = getattr(library, function)

        def interrupted(*arguments, write=write, **options):
            write(*arguments, **options)
            raise KeyboardInterrupt

        monkeypatch.setattr(library, function, interrupted)
        with pytest.raises(KeyboardInterrupt):
            convert(tmp_path / "a.pth", tmp_path / name)
        assert [path.name for path in tmp_path.iterdir()] == ["a.pth"]
