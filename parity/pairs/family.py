"""The models as a Markdown table: parameters, FLOPs, and the PyTorch twin of each."""

import dataclasses
import math

import jax
import torch
from torch.utils.flop_counter import FlopCounterMode

import torch_ref.models
from jax_impl.models import registry
from jax_impl.models.model import from_spec

HEADER = (
    "model", "parameters", "MFLOPs 32x32", "with stem=cifar", "MFLOPs 224x224", "PyTorch twin",
)  # fmt: skip
BLOCKS = {
    "cnn": "`torch_ref.models.SimpleCNN`",
    "plain": "`torchvision.models.ResNet` of `torch_ref.models.PlainBlock`",
    "option_a": "`torch_ref.models.CifarResNet`",
    "plain_cifar": "`torch_ref.models.CifarResNet`, `shortcut=False`",
    "preact_basic": "`torch_ref.models.PreActResNet`",
    "preact_bottleneck": "`torch_ref.models.PreActResNet`",
}


def table() -> str:
    """One row a model, all with 10 classes; a multiplication and an addition are two FLOPs."""
    rows = [HEADER, ("---", *["---:"] * 4, "---")]
    rows += [_row(registry.create_spec(name)) for name in registry.MODELS]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(spec: registry.Spec) -> tuple[str, ...]:
    shapes = from_spec(spec).shapes.params
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))
    small = ""
    if hasattr(spec.options, "stem"):
        small = _mflops(registry.create_spec(spec.name, stem="cifar"), 32)
    twin = BLOCKS.get(spec.entry.block, f"`torchvision.models.{spec.name}`")
    return f"`{spec.name}`", f"{count:,}", _mflops(spec, 32), small, _mflops(spec, 224), twin


def _mflops(spec: registry.Spec, size: int) -> str:
    return f"{forward_flops(spec, size) / 1e6:,.1f}"


def forward_flops(spec: registry.Spec, size: int) -> int:
    """PyTorch's count for the forward pass of one image of `size` x `size`.

    It counts convolutions and linear layers.
    """
    options = dataclasses.asdict(spec.options)
    if "image_size" in options:
        options["image_size"] = (size, size)
    with torch.device("meta"):  # shapes alone
        module = torch_ref.models.create_model(spec.name, **options).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            module(torch.zeros(1, 3, size, size))
    return counter.get_total_flops()
