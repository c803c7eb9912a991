"""What a summary says of a model against what the PyTorch twin does: shapes, weights, fields."""

import dataclasses
import functools
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import torch_ref.models
from jax_impl.errors import InputError
from jax_impl.models import registry
from jax_impl.models.geometry import Module, summary
from jax_impl.models.model import from_spec
from parity.pairs.family import forward_flops

ROOT = Path(__file__).resolve().parents[3]
MODELS = [
    *registry.MODELS,
    "resnet18:stem=cifar",
    "resnet34:width=16:num_classes=100",
    "resnet50:replace_stride_with_dilation=false,true,true",
    "resnet50:stem=cifar:width=8:replace_stride_with_dilation=true,false,true",
    "resnext50_32x4d:replace_stride_with_dilation=true,true,true",
    "preact_resnet18:stem=cifar",
    "preact_resnet50:stem=cifar",
    "plain34:stem=cifar",
    "simple_cnn:channels=8,16,24:kernel_size=5:hidden=64:image_size=45,37",
    "simple_cnn:channels=4,4:kernel_size=4:pool_size=3:image_size=64",
    "simple_cnn:channels=4:kernel_size=1:pool_size=1:image_size=9",
    "simple_cnn:channels=4,6,8:pool_after=2:hidden=9:image_size=20,17",
    "simple_cnn:channels=4,6:pool_after=none:global_average=true:hidden=9",
]
DEEP = (
    "resnet101", "resnet152", "resnext101", "wide_resnet", "resnext50_32x4d:",
    "resnet44", "resnet56", "resnet110", "plain32", "plain44", "plain56", "plain110",
)  # fmt: skip
FEW = [
    pytest.param(text, marks=pytest.mark.proof) if text.startswith(DEEP) else text
    for text in MODELS
]


def twin_of(spec: registry.Spec) -> nn.Module:
    """Without weights: shapes alone."""
    with torch.device("meta"):
        return torch_ref.models.create_model(spec.name, **dataclasses.asdict(spec.options)).eval()


def outputs(module: nn.Module, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """What each module gives, by its path."""
    found: dict[str, torch.Tensor] = {}
    for path, part in module.named_modules():
        part.register_forward_hook(lambda _m, _i, output, p=path: found.__setitem__(p, output))
    with torch.no_grad():
        module(images)
    return found


def size_of(spec: registry.Spec) -> tuple[int, int]:
    """Odd and unequal sides, where the model has none of its own."""
    return getattr(spec.options, "image_size", (75, 50))


@functools.cache
def measured(text: str) -> tuple[nn.Module, dict[str, tuple[int, ...]]]:
    """The twin without weights, and the shape (h, w, c) or (c,) that each module gives."""
    spec = registry.parse(text)
    twin, (h, w) = twin_of(spec), size_of(spec)
    found = outputs(twin, torch.zeros(1, 3, h, w, device="meta"))
    return twin, {path: (*y.shape[2:], y.shape[1]) for path, y in found.items()}


@pytest.mark.parametrize("text", FEW)
def test_modules_shapes_and_weights_are_the_twins(text):
    spec = registry.parse(text)
    told = summary(spec, size_of(spec))
    twin, shapes = measured(text)
    modules = dict(twin.named_modules())
    rows = {module.path: module for module in told.modules}
    assert len(rows) == len(told.modules)
    weighty = {path for path, module in rows.items() if module.parameters}
    assert weighty == {p for p in shapes if p and [*modules[p].parameters()]}
    for path in weighty:
        row, module = rows[path], modules[path]
        assert row.shape == shapes[path], path
        assert row.parameters == sum(p.numel() for p in module.parameters()), path
        assert row.statistics == sum(b.numel() for b in module.buffers() if b.ndim), path
        assert row.holds == bool([*module.children()]), path
    for path, module in modules.items():  # the weightless ones, but for stems without a maximum
        if isinstance(module, nn.MaxPool2d) and path in rows:
            assert rows[path].shape == shapes[path]
    assert rows.get("maxpool") is None or isinstance(modules["maxpool"], nn.MaxPool2d)
    assert told.parameters == sum(p.numel() for p in twin.parameters())
    assert told.statistics == sum(b.numel() for b in twin.buffers() if b.ndim)
    leaves = [module.shape for module in told.modules if not module.holds]
    assert told.activations == sum(math.prod(shape) for shape in leaves)


@pytest.mark.parametrize("text", [text for text in FEW if ":" in str(text)])
def test_the_flops_are_those_of_the_table(text):
    spec = registry.parse(text)
    side = max(size_of(spec))
    if isinstance(spec.options, registry.CNNOptions):
        spec = registry.create_spec(spec.name, **vars(spec.options) | {"image_size": side})
    assert summary(spec, (side, side)).flops == forward_flops(spec, side)


def test_the_table_of_models_says_the_same():
    found = 0
    for line in (ROOT / "docs" / "models.md").read_text().splitlines():
        name, *cells = [cell.strip(" `") for cell in line.strip("|").split("|")]
        if name not in registry.MODELS or "MFLOPs" in line:
            continue
        for cell, size, stem in zip(cells[1:], (32, 32, 224), (None, "cifar", None), strict=False):
            options: dict[str, Any] = {"stem": stem} if stem else {}
            if name == "simple_cnn":
                options["image_size"] = size
            if cell:
                told = summary(registry.create_spec(name, **options), (size, size))
                assert f"{told.flops / 1e6:,.1f}" == cell, (name, size, stem)
                assert stem or size == 224 or f"{told.parameters:,}" == cells[0]
                found += 1
    small = [name for name, entry in registry.MODELS.items() if not hasattr(entry.options, "stem")]
    assert found == 3 * len(registry.MODELS) - len(small)  # those have no other stem


def test_the_modules_are_those_of_flax():
    for name in ("simple_cnn", "resnet20", "resnet50", "preact_resnet18", "plain18"):
        spec = registry.create_spec(name)
        layers = {".".join(path) for path in from_spec(spec).layers}
        rows = [module for module in summary(spec).modules if not module.holds]
        assert layers == {module.path for module in rows if module.parameters}


def dependence(text: str, size: tuple[int, int]) -> dict[str, torch.Tensor]:
    """For every module of one channel's net, the derivatives of its output by every pixel.

    All weights are 1, so that no path cancels another; biases and normalisations are left out, and
    the mean stands for the maximum, whose gradient is of one pixel. The net is then linear on
    images that are not negative, and its outputs for the images of one bright pixel each are its
    derivatives: [pixels, 1, h, w].
    """

    def replaced(module: nn.Module) -> nn.Module:
        for name, part in module.named_children():
            setattr(module, name, replaced(part))
        if hasattr(module, "border"):
            module.border = 0  # type: ignore
        given: Any = module
        match module:
            case nn.Conv2d():
                options = given.kernel_size, given.stride, given.padding, given.dilation
                made = nn.Conv2d(1, 1, *options, bias=False, dtype=torch.float64)
                nn.init.ones_(made.weight)
                return made
            case nn.BatchNorm2d():
                return nn.Identity()
            case nn.MaxPool2d():
                return nn.AvgPool2d(given.kernel_size, given.stride, given.padding)
            case nn.Linear():
                return Flat()
        return module

    pixels = math.prod(size)
    images = torch.eye(pixels, dtype=torch.float64).reshape(pixels, 1, *size)
    return outputs(replaced(twin_of(registry.parse(text))), images)


class Flat(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sum(1, keepdim=True)


def rows_of(text: str, size: tuple[int, int] | None) -> dict[str, Module]:
    return {module.path: module for module in summary(registry.parse(text), size).modules}


@pytest.mark.parametrize("text", [text for text in FEW if "simple_cnn" not in str(text)])
def test_fields_and_strides_are_those_of_the_gradients(text):
    """On images one pixel wide, tall enough for two neighbours whose fields no border cuts."""
    maps = [m for m in rows_of(text, None).values() if m.stride is not None]
    tall = max(m.field[0] for m in maps) + 4 * max(m.stride or 0 for m in maps)
    found, checked = dependence(text, (tall, 1)), 0
    for path, module in rows_of(text, (tall, 1)).items():
        if path not in found or module.stride is None:
            continue
        seen = found[path][:, 0, :, 0] != 0
        middle = seen.shape[1] // 2
        first, after = (seen[:, i].nonzero().flatten() for i in (middle, middle + 1))
        assert first.min() > 0 and after.max() < tall - 1, "a border cuts it"
        assert first.max() - first.min() + 1 == module.field[0] == module.field[1], path
        assert after.min() - first.min() == module.stride, path
        checked += 1
    assert checked == len([p for p in rows_of(text, None) if p in found]) - 2 + (
        "avgpool" not in found
    )


@pytest.mark.parametrize(
    ("channels", "kernel", "pool", "size"),
    [("2,2", 3, 2, "32"), ("2,2,2", 5, 2, "45,37"), ("2,2", 4, 3, "40"), ("2", 1, 2, "9,10")],
)
def test_the_small_cnns_fields_are_those_of_the_gradients(channels, kernel, pool, size):
    """Its linear layers see what is left of the image, which pooling may cut."""
    text = f"simple_cnn:channels={channels}:kernel_size={kernel}:pool_size={pool}:image_size={size}"
    spec = registry.parse(text)
    height, width = size_of(spec)
    found, rows = dependence(text, (height, width)), rows_of(text, None)
    for path, module in rows.items():
        if not path.startswith("conv"):
            continue
        seen = found[path][:, 0].reshape(height, width, *found[path].shape[2:]) != 0
        middle = seen[:, :, seen.shape[2] // 2, seen.shape[3] // 2]
        whole = [pixels.nonzero().flatten() for pixels in (middle.any(1), middle.any(0))]
        if all(axis.min() > 0 for axis in whole) and middle[-1].sum() == middle[:, -1].sum() == 0:
            sizes = tuple(int(axis.max() - axis.min()) + 1 for axis in whole)
            assert sizes == module.field, path
    seen = (found["fc1"].reshape(height, width, -1) != 0).any(2)
    sides = tuple(
        int(p.nonzero().max() - p.nonzero().min()) + 1 for p in (seen.any(1), seen.any(0))
    )
    assert rows["fc1"].field == rows["fc2"].field == sides


@pytest.mark.parametrize(
    ("text", "size", "told"),
    [
        ("resnet18", (0, 5), "images of 0x5 pixels: give sides of 1 to 16384"),
        ("resnet18", (16385, 5), "images of 16385x5 pixels"),
        ("simple_cnn", (33, 33), "simple_cnn is made for images of 32x32, not 33x33"),
    ],
)
def test_what_cannot_be_told_of(text, size, told):
    with pytest.raises(InputError, match=told):
        summary(registry.parse(text), size)


def test_no_framework_is_imported():
    code = (
        "import sys; from jax_impl.models import geometry, registry\n"
        "for name in registry.MODELS: geometry.summary(registry.create_spec(name))\n"
        "assert not {'jax', 'torch', 'flax', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
