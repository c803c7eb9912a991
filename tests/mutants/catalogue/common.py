"""What the planted bugs are made of."""

# pyright: reportArgumentType=false, reportIndexIssue=false

from collections.abc import Callable
from functools import partial
from typing import Any

from jax_impl.ops import convolution
from mutants import pairs
from mutants.runner import Mutant, Patch
from parity.pairs.pair import Pair

MUTANTS: list[Mutant] = []

basic = pairs.residual

bottleneck = partial(pairs.residual, "bottleneck")

grouped = partial(pairs.residual, "bottleneck", 2)

dilated = partial(pairs.residual, "bottleneck", 1, True)

small_stem = pairs.small_stem


def mutant(
    group: str, make: Callable[[], Pair], rung: str, module: str, cause: str, **options: Any
) -> Callable[[Patch], Patch]:
    """Adds a patch to the catalogue."""

    def add(patch: Patch) -> Patch:
        name = patch.__name__.replace("_", " ")
        MUTANTS.append(Mutant(name, group, make, rung, module, cause, patch, **options))
        return patch

    return add


def when(condition: Callable[[Any], bool], changed: Callable, cls: type, patch: Any) -> None:
    """Calls `changed(self, original, *args)` in the place of the modules that meet a condition."""
    original = cls.__call__

    def call(self, *args):
        return changed(self, original, *args) if condition(self) else original(self, *args)

    patch.setattr(cls, "__call__", call)


def always(_: Any) -> bool:
    return True


def conv_kernel(patch: Any, change: Callable, condition: Callable[[Any], bool] = always) -> None:
    """Changes the kernel (HWIO) that a convolution multiplies by."""
    convolve = convolution.conv2d

    def changed(images, kernel, *rest):
        return convolve(images, change(kernel) if condition(kernel) else kernel, *rest)

    patch.setattr(convolution, "conv2d", changed)
