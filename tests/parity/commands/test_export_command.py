"""`parity export`: a file that JAX alone runs, and that computes what the model does."""

import re
import subprocess
import sys

import jax
import numpy as np
import pytest
import safetensors.torch
import torch

from jax_impl.data.datasets import load_digits
from jax_impl.models.model import create_model, from_spec
from jax_impl.models.registry import parse
from jax_impl.ops.platform import on_cpu, tracing_for
from jax_impl.training.evaluate import make_logits
from jax_impl.training.export import exported
from parity.commands import export as export_command
from parity.pairs.weight_source import find, load

ALONE = """
import sys
import numpy as np
from jax import export

program = export.deserialize(bytearray(open(sys.argv[1], "rb").read()))
assert program.platforms == ("cpu", "cuda", "tpu")
for name in sys.argv[2:]:
    np.save(name + ".logits.npy", np.asarray(program.call(np.load(name))))
loaded = {name.split(".")[0] for name in sys.modules}
assert not loaded & {"jax_impl", "parity", "flax", "torch", "orbax"}, loaded
"""


def test_the_file_needs_nothing_but_jax(trained, tmp_path, parity_command):
    out = tmp_path / "m.jaxexport"
    status, output, errors = parity_command("export", trained, out)
    assert status == 0, errors
    assert "uint8 images [batch, 32, 32, 3] -> float32 logits [batch, 10]" in output
    assert out.stat().st_mode & 0o777 == 0o644
    images, names = load_digits().test.images, []
    for count in (3, 70):
        names.append(str(tmp_path / f"{count}.npy"))
        np.save(names[-1], images[:count])
    script = tmp_path / "alone.py"
    script.write_text(ALONE)
    subprocess.run([sys.executable, str(script), str(out), *names], check=True, cwd=tmp_path)
    source = find(trained)
    model = from_spec(source.spec)
    expected = make_logits(model)(load(source, model), images[:70])
    for count, name in zip((3, 70), names, strict=True):
        logits = np.load(name + ".logits.npy")
        assert logits.dtype == np.float32 and logits.shape == (count, 10)
        assert np.abs(logits - expected[:count]).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize(
    "name",
    [
        "simple_cnn:channels=16,16,8,8:hidden=8:image_size=16",
        "simple_cnn:channels=4:kernel_size=5:hidden=8:image_size=2,3",
        pytest.param("resnet18:width=4", marks=pytest.mark.proof),
        pytest.param("resnet20", marks=pytest.mark.proof),
        pytest.param("resnext50_32x4d:width=4", marks=pytest.mark.proof),
    ],
)
def test_models_of_any_kind_are_exported(name):
    """Also where a CPU would choose by the batch's size, and where taps meet padding alone."""
    spec = parse(name)
    model = from_spec(spec)
    variables, size = model.init(0), getattr(spec.options, "image_size", (32, 32))
    program = jax.export.deserialize(exported(model, variables, size).serialize())
    images = np.random.default_rng(0).integers(0, 256, (65, *size, 3), np.uint8)
    expected = make_logits(model, 65)(variables, images)
    for count in (1, 65):
        found = np.asarray(program.call(images[:count]))
        assert np.abs(found - expected[:count]).max() <= 1e-5 * np.abs(expected).max()


def test_products_are_in_full_on_every_platform():
    model = create_model("simple_cnn", channels=(2,), hidden=2)
    text = exported(model, model.init(0), (32, 32)).mlir_module()
    products = re.findall(r"stablehlo\.(?:convolution|dot_general).*", text)
    # Of the convolution and two linear layers, on each platform where they differ.
    assert len(products) >= 3 and all(line.count("HIGHEST") == 2 for line in products)


def test_a_resnet_is_traced_with_a_batch_of_any_size():
    model = from_spec(parse("resnet18:width=4"))
    program = exported(model, model.init(0), (32, 32))
    assert str(program.in_avals[0].shape[0]) == str(program.out_avals[0].shape[0]) == "batch"


def test_what_is_traced_for_several_platforms_is_not_a_cpus():
    before = on_cpu()
    with tracing_for(("cpu", "tpu")):
        assert not on_cpu()
        with tracing_for(("cpu",)):
            assert on_cpu()
        assert not on_cpu()
    assert on_cpu() == before


@pytest.mark.parametrize(
    "place, message",
    [
        ("there", "exists: name another file, or remove it"),
        ("link", "exists: name another file, or remove it"),
        ("folder", "exists: name another file, or remove it"),
        ("none/out", "there is no folder"),
        ("there/out", "there is no folder"),
        ("orbax/out", "is inside of the checkpoint"),
        ("x" * 300, "cannot write "),
    ],
)
def test_a_place_that_is_taken_is_left_alone(place, message, trained, tmp_path, parity_command):
    (tmp_path / "there").write_text("mine")
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "folder").mkdir()
    source, model = trained, find(trained).spec
    if place.startswith("orbax"):
        source = tmp_path / "orbax"
        weights = trained / "weights.safetensors"
        assert parity_command("convert", weights, source, "--model", model)[0] == 0
    before = sorted(tmp_path.rglob("*"))
    status, output, errors = parity_command("export", source, tmp_path / place)
    assert (status, output) == (2, "") and errors.count("\n") == 1 and message in errors
    assert sorted(tmp_path.rglob("*")) == before and (tmp_path / "there").read_text() == "mine"


def test_bad_weights_and_an_interruption_leave_nothing(
    trained, tmp_path, parity_command, monkeypatch
):
    source, model = find(trained), find(trained).spec
    state = safetensors.torch.load_file(source.path)
    torch.save(state | {"fc2.bias": torch.full((10,), torch.inf)}, tmp_path / "w.pth")
    out = tmp_path / "out"
    for more, message in (
        (["--model", model], "NaN or infinite in fc2.bias"),
        (["--model", "simple_cnn"], "conv1.weight has shape"),
        ([], "pass --model"),
    ):
        status, output, errors = parity_command("export", tmp_path / "w.pth", out, *more)
        assert (status, output) == (2, "") and errors.count("\n") == 1 and message in errors

    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(export_command, "exported", interrupted)
    assert parity_command("export", trained, out)[0] == 130
    assert [path.name for path in tmp_path.iterdir()] == ["w.pth"]
