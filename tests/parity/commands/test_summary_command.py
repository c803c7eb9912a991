"""`parity summary`: the table of every model, its width, its totals, and what is refused."""

import math
import re

import pytest

from jax_impl.errors import InputError
from jax_impl.models import registry
from jax_impl.models.geometry import summary
from parity.commands.summary import lines
from parity.program import Options, main
from parity.shell import cli


def told(capsys, *arguments: str) -> str:
    main(cli.parse(Options, ["summary", *arguments], prog="parity"))
    return capsys.readouterr().out


def row(text: str, path: str) -> list[str]:
    return next(line for line in text.splitlines() if line.startswith(f"{path} ")).split()


@pytest.mark.parametrize("name", registry.MODELS)
@pytest.mark.parametrize(("side", "batch"), [(32, 1), (224, 128)])
def test_every_models_table_has_80_columns_and_every_module(name, side, batch):
    options = {"image_size": side} if name == "simple_cnn" else {}
    found = summary(registry.create_spec(name, **options), (side, side))
    text = lines(found, batch)
    assert max(map(len, text)) <= 80
    first = [line.split()[0] for line in text if line]
    assert {module.path for module in found.modules} <= {*first}  # not one is broken or shortened


def test_a_table_and_its_totals(capsys):
    text = told(capsys, "resnet18:stem=cifar", "--batch-size", "4")
    assert text.startswith("resnet18:stem=cifar, 32x32 images, batches of 4\n")
    assert row(text, "conv1") == "conv1 conv 3x3 4x32x32x64 1,728 3.54 3 1".split()
    expected = "layer2.0.downsample.0 conv 1x1 4x16x16x128 8,192 4.19 11 2"
    assert row(text, "layer2.0.downsample.0") == expected.split()
    assert row(text, "layer4") == "layer4 stage 4x4x4x512 8,393,728 268.44 109 8".split()
    assert row(text, "avgpool") == "avgpool mean 4x512 - - all -".split()
    assert row(text, "fc") == "fc linear 4x10 5,130 0.01 all -".split()
    assert "parameters   11,173,962, and 9,600 running means and variances\n" in text
    assert "FLOPs        1,110.8 million an image, 4,443.4 million a batch, forward\n" in text
    found = summary(registry.parse("resnet18:stem=cifar"))
    held = sum(math.prod(m.shape) for m in found.modules if not m.holds)
    memory = re.search(r"memory +([\d.]+) MB of parameters, ([\d.]+) MB of activations", text)
    assert memory and float(memory[1]) == round(4 * 11_173_962 / 1e6, 1)
    assert float(memory[2]) == round(4 * 4 * held / 1e6, 1)


def test_images_of_another_size(capsys):
    text = told(capsys, "resnet50", "--image-size", "224")
    assert row(text, "layer4") == "layer4 stage 1x7x7x2048 14,964,736 1,618.48 427 32".split()
    assert "FLOPs        8,174.3 million an image, forward\n" in text
    small = told(capsys, "simple_cnn", "--image-size", "64")
    assert small.startswith("simple_cnn:image_size=64,64, 64x64 images, batches of 1\n")
    assert row(small, "fc1")[3] == f"{(64 * 16 * 16 + 1) * 512:,}"
    uneven = told(capsys, "simple_cnn:image_size=45,37:kernel_size=1:pool_size=4")
    assert row(uneven, "fc1")[-2] == "32"  # pooling cuts the rest
    assert row(told(capsys, "simple_cnn:image_size=45,37:kernel_size=1"), "fc1")[-2] == "44x36"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resnet19"], "no model named 'resnet19'"),
        (["resnet18:stm=cifar"], "perhaps you meant stem"),
        (["resnet18", "--image-size", "0"], "images of 0x0 pixels: give sides of 1 to 16384"),
        (["resnet18", "--image-size", "99999"], "give sides of 1 to 16384"),
        (["resnet18", "--batch-size", "0"], "--batch-size is 0: give 1 to 1048576"),
        (["simple_cnn", "--image-size", "1"], "no pixel is left of 1x1 images"),
        (["simple_cnn:image_size=48", "--image-size", "64"], "both say how large the images are"),
    ],
)
def test_what_cannot_be_told_is_refused(arguments, message, capsys):
    with pytest.raises(InputError, match=message) as refused:
        told(capsys, *arguments)
    assert "\n" not in str(refused.value) and capsys.readouterr().out == ""
