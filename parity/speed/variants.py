"""The ways to run a task: the one registry of them. Imports no framework.

A variant is data: its `maker`, MODULE:FUNCTION, is imported by its worker alone, called with a
`runner.Setup` that holds its `settings`, and returns a `runner.Runner`. To add one, add an entry.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from jax_impl.errors import InputError
from parity.shell.options import ModeName
from parity.speed.workloads import Task

FrameworkName = Literal["JAX", "PyTorch"]
JAX_MAKER = "parity.speed.jax_side:make_jax_variant"
TORCH_MAKER = "parity.speed.torch_side:make_torch_variant"


@dataclasses.dataclass(frozen=True)
class Variant:
    """One way of writing a task in one framework.

    Args:
        settings: what its maker reads.
        ablation: it lacks a part of what its framework's others have, to show what that is worth,
            and is no candidate for the framework's best.
    """

    framework: FrameworkName
    name: str
    maker: str
    settings: Mapping[str, Any]
    modes: tuple[ModeName, ...] = ("train", "inference")
    needs_gpu: bool = False
    ablation: bool = False

    def __str__(self) -> str:
        return f"{self.framework} {self.name}"

    def unavailable(self, task: Task, gpu: bool) -> str | None:
        """Why it cannot be run here; None if it can."""
        if self.needs_gpu and not gpu:
            return "needs a GPU"
        if task.precision == "tf32" and not gpu:
            return "TF32 needs a GPU"
        return None


def _jax(
    name: str,
    needs_gpu: bool = False,
    ablation: bool = False,
    modes: Any = None,
    **settings: Any,
) -> Variant:
    return Variant(
        "JAX",
        name,
        JAX_MAKER,
        settings,
        modes=modes or ("train", "inference"),
        needs_gpu=needs_gpu,
        ablation=ablation,
    )


def _torch(name: str, needs_gpu: bool = False, modes: Any = None, **settings: Any) -> Variant:
    return Variant(
        "PyTorch",
        name,
        TORCH_MAKER,
        settings,
        modes=modes or ("train", "inference"),
        needs_gpu=needs_gpu,
    )


_TRAIN, _INFERENCE = ("train",), ("inference",)

VARIANTS: tuple[Variant, ...] = (
    _jax("jit"),
    _jax("scan", scan=True),
    # What each lowering is worth.
    _jax("im2col", ablation=True, scan=True, lowering="im2col"),
    _jax("stock", ablation=True, scan=True, lowering="stock"),
    _jax("stock_jit", ablation=True, lowering="stock"),
    _jax("every_weight", ablation=True, modes=_TRAIN, scan=True, every_weight=True),
    # What being the same bit for bit costs.
    _jax("deterministic", needs_gpu=True, ablation=True, scan=True, deterministic=True),
    _torch("eager"),
    _torch("channels_last", channels_last=True),
    _torch("fused", modes=_TRAIN, fused=True),
    _torch("fused_channels_last", modes=_TRAIN, fused=True, channels_last=True),
    _torch("compile", fused=True, compile="default"),
    _torch("compile_channels_last", fused=True, compile="default", channels_last=True),
    _torch("compile_freezing", modes=_INFERENCE, compile="default", freezing=True),
    # Its CUDA graphs are all that this mode adds.
    _torch("reduce_overhead", needs_gpu=True, fused=True, compile="reduce-overhead"),
    _torch("max_autotune", fused=True, compile="max-autotune"),
    _torch("cuda_graph", needs_gpu=True, fused=True, cuda_graph=True),
    _torch(
        "cuda_graph_channels_last",
        needs_gpu=True,
        fused=True,
        cuda_graph=True,
        channels_last=True,
    ),
)


def chosen_variants(names: Sequence[str], variants: Sequence[Variant]) -> list[Variant]:
    """The variants of these names, in the registry's order; "all" is every one.

    Raises:
        InputError: a name that no variant has, or none at all.
    """
    known = [variant.name for variant in variants]
    for name in names:
        if name != "all" and name not in known:
            raise InputError(f"no variant named {name!r}: choose all, or of {', '.join(known)}")
    if not names:
        raise InputError(f"--variants needs a name: all, or of {', '.join(known)}")
    return [variant for variant in variants if "all" in names or variant.name in names]
