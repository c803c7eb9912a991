"""What a loss that is a multiple of the other one tells."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from parity.diagnosis.losses.calls import LossCall
from parity.pairs.trees import leaves

NUMBERS = {
    2.0: "the factor 0.5 is missing",
    0.5: "there is a factor 0.5 in JAX alone",
    -1.0: "the sign is wrong",
    1 / math.log(2): "the logarithm is to the base 2",
    1 / math.log(10): "the logarithm is to the base 10",
    math.log(2): "PyTorch's logarithm is to the base 2, JAX's natural",
}


def meaning(
    factor: float, outputs: Any, labels: Any, examples: int, calls: Sequence[LossCall]
) -> str | None:
    """What JAX's loss being `factor` times PyTorch's means, where one of its numbers tells."""
    texts = [text for number, text in NUMBERS.items() if _near(factor, number)]
    for call in calls:
        if call.name == "smooth_l1_loss" and _near(factor, call.given["beta"]):
            texts.insert(0, "it is the Huber loss: beta times the smooth L1 loss")
        if call.name == "huber_loss" and _near(factor, 1 / call.given["delta"]):
            texts.insert(0, "it is the smooth L1 loss: the Huber loss divided by delta")
    sizes: dict[float, list[str]] = {}
    for name, size in counts(outputs, labels, examples, calls):
        if size > 1 and name not in sizes.setdefault(size, []):
            sizes[size].append(name)
    for size, names in sizes.items():
        of = " or ".join(f"the {size:g} {name}" for name in names)
        if _near(factor, size):
            texts.append(f"the loss is summed over {of} and not averaged")
        if _near(factor, 1 / size):
            too = "averaged over the classes too" if "classes" in names else "averaged"
            texts.append(f"the loss is {too}: divided by {of}")
    kept = _kept(labels, calls)
    for count, every in kept:
        if 0 < count < every and _near(factor, count / every):
            texts.append(
                f"the {every - count} ignored labels are counted in the divisor: {every} and not "
                f"{count}"
            )
        if 0 < count < every and _near(factor, every / count):
            texts.append(
                f"the {every - count} ignored labels are not counted in the divisor: {count} and "
                f"not {every}"
            )
        if count and _near(factor, count / examples) and count != examples:
            texts.append("the loss is summed and divided by the number of examples")
    if not texts:
        return None
    return f"{', or '.join(dict.fromkeys(texts))} ({factor:.6g} times PyTorch's)"


def _near(factor: float, number: float) -> bool:
    return bool(number) and abs(factor / number - 1) < 1e-8


def counts(
    outputs: Any, labels: Any, examples: int, calls: Sequence[LossCall]
) -> Iterator[tuple[str, int]]:
    """(of what, how many) of what a loss may be divided by."""
    yield "examples", examples
    found = [x for x in leaves(labels).values() if isinstance(x, torch.Tensor)]
    classes = any(not x.is_floating_point() for x in found)
    shapes = [x.shape for x in leaves(outputs).values() if isinstance(x, torch.Tensor)]
    for x in found:
        if x.is_floating_point() and x.shape in shapes:
            continue
        yield "labels of an example", x.numel() // max(examples, 1)
        if x.numel() != examples:
            yield "labels", x.numel()
    for x in leaves(outputs).values():
        if isinstance(x, torch.Tensor) and x.ndim > 1:
            if classes:
                yield "classes", x.shape[1]
                yield "classes", x.shape[-1]
            yield "numbers of an output", x.numel() // max(examples, 1)
            yield "numbers of all outputs", x.numel()
    for count, _ in _kept(labels, calls):
        yield "labels that count", count


def _kept(labels: Any, calls: Sequence[LossCall]) -> list[tuple[int, int]]:
    """(labels that count, labels) of every mask and of every call with ignored labels."""
    found = []
    for leaf in leaves(labels).values():
        mask = isinstance(leaf, torch.Tensor) and bool(((leaf == 0) | (leaf == 1)).all())
        if mask:
            found.append((int(leaf.sum()), leaf.numel()))
    for call in calls:
        if call.name in ("cross_entropy", "nll_loss"):
            y = call.given["target"]
            if not y.is_floating_point():
                found.append((int((y != call.given["ignore_index"]).sum()), y.numel()))
    return found
