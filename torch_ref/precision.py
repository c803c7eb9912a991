"""How precise a training's arithmetic is, and whether two runs are bit for bit the same."""

import os

import torch
from torch import nn

from torch_ref.errors import InputError

PRECISIONS = ("float32", "tf32", "bf16")


def set_precision(model: nn.Module, name: str, device: str) -> nn.Module:
    """Pins the precision of products on a GPU, and returns the module to train in place of `model`.

    Args:
        model: what is trained.
        name: "float32", in full; "tf32", products of float32 rounded to 10 bits; "bf16", autocast.
        device: PyTorch's name of the device that it is trained on.

    Raises:
        InputError: no such precision, or TF32 on a CPU, which has none.
    """
    if name not in PRECISIONS:
        raise InputError(f"no precision {name!r}: choose one of {', '.join(PRECISIONS)}")
    if name == "tf32" and device == "cpu":
        raise InputError("tf32: a CPU has none: choose float32 or bf16")
    allow_tf32(name == "tf32")
    return Autocast(model, device) if name == "bf16" else model


def allow_tf32(allowed: bool) -> None:
    """Whether float32 products and convolutions on a GPU may be computed in TF32."""
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


class Autocast(nn.Module):
    """`model` under `torch.autocast` in bfloat16; its outputs are float32."""

    def __init__(self, model: nn.Module, device: str):
        super().__init__()
        self.model, self.device_type = model, torch.device(device).type

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """The model's outputs in float32, computed under autocast."""
        with torch.autocast(self.device_type, torch.bfloat16):
            return self.model(inputs).float()


def be_deterministic() -> None:
    """Keeps PyTorch from kernels whose sums depend on the order in which threads finish.

    To be called before the first product on a GPU, when cuBLAS reads its part of it.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True)
