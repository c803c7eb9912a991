"""Changes of what a loss is given: other rows, positions, classes, masks."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from parity.diagnosis.losses.calls import LossCall
from parity.diagnosis.losses.elementwise import NOT_SHIFTED, cut_of
from parity.diagnosis.losses.trials import Before
from parity.pairs.trees import filled, leaves

OF_OUTPUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "a softmax is applied to the outputs": lambda x: x.softmax(min(1, x.ndim - 1)),
    "a softmax is applied to the outputs, over the last axis": lambda x: x.softmax(-1),
    "a log-softmax is applied to the outputs": lambda x: x.log_softmax(-1),
    "a sigmoid is applied to the outputs": torch.sigmoid,
    "a tanh is applied to the outputs": torch.tanh,
    "a relu is applied to the outputs": torch.relu,
    "the exponential of the outputs is taken": torch.exp,
    "the logarithm of the outputs is taken": torch.log,
    "the sign of the outputs is wrong": torch.neg,
}

TWICE = "the labels are shifted by one position twice"


def befores(outputs: Any, labels: Any, calls: Sequence[LossCall]) -> Iterator[Before]:
    """Every suspect of the labels and the outputs, one leaf at a time."""
    for path, leaf in leaves(labels).items():
        if isinstance(leaf, torch.Tensor):
            of = f" {path}" if path else ""
            for text, function in _of_labels(leaf):
                yield Before(text.format(of=of), _changing(path, function, in_labels=True))
    yield from _positions(outputs, labels, calls)
    floats = {
        p: x for p, x in leaves(outputs).items() if torch.is_tensor(x) and x.is_floating_point()
    }
    for path in floats:
        for text, function in OF_OUTPUTS.items():
            of = f" {path}" if path else ""
            yield Before(
                text.replace("the outputs", f"the outputs{of}"),
                _changing(path, function, in_labels=False),
            )
    for a in floats:
        for b in floats:
            if a < b and floats[a].shape == floats[b].shape:
                yield Before(f"the outputs {a} and {b} are exchanged", _exchanging(a, b))


def _changing(path: str, function: Callable, in_labels: bool) -> Callable:
    def change(outputs: Any, labels: Any) -> tuple[Any, Any]:
        tree = labels if in_labels else outputs
        changed = filled(tree, {path: function(leaves(tree)[path])})
        return (outputs, changed) if in_labels else (changed, labels)

    return change


def _exchanging(a: str, b: str) -> Callable:
    def change(outputs: Any, labels: Any) -> tuple[Any, Any]:
        found = leaves(outputs)
        return filled(outputs, {a: found[b], b: found[a]}), labels

    return change


def _of_labels(leaf: torch.Tensor) -> Iterator[tuple[str, Callable]]:
    if leaf.numel() > 1 and bool(((leaf == 0) | (leaf == 1)).all()):
        yield "the mask{of} is not used: what it leaves out is counted", torch.ones_like
        yield "the mask{of} is inverted", lambda x: x.logical_not().to(x.dtype)
        if leaf.dtype != torch.bool:
            yield "the labels{of} are -1 and 1 and not 0 and 1", lambda x: 2 * x - 1
            if leaf.is_floating_point():
                yield "the labels{of} are not made -1 and 1", lambda x: (x + 1) / 2
    if leaf.is_floating_point():
        yield "the sign of the labels{of} is wrong", torch.neg
        if bool((leaf.abs() == 1).all()):
            yield "the labels{of} are 0 and 1 and not -1 and 1", lambda x: (x + 1) / 2
    elif leaf.dtype != torch.bool:
        yield "the labels{of} are shifted by one class", lambda x: x + 1
        yield "the labels{of} are shifted by one class", lambda x: x - 1
    if leaf.ndim and len(leaf) > 1:
        yield "the labels{of} belong to other rows", lambda x: x.roll(1, 0)
        yield "the labels{of} belong to other rows", lambda x: x.roll(-1, 0)
    if leaf.ndim == 3:
        yield "the labels{of} have height and width exchanged", lambda x: x.mT


def _positions(outputs: Any, labels: Any, calls: Sequence[LossCall]) -> Iterator[Before]:
    """Outputs of all positions but the last with the labels of all but the first."""
    lengths = {x.shape[1] for x in leaves(labels).values() if torch.is_tensor(x) and x.ndim == 2}
    if not lengths:
        return
    shifted = any(c.name == "__getitem__" and cut_of(c.args[1]) is not None for c in calls)

    def cut(tree: Any, part: slice) -> Any:
        return filled(
            tree,
            {
                path: leaf[:, part]
                for path, leaf in leaves(tree).items()
                if torch.is_tensor(leaf) and leaf.ndim > 1 and leaf.shape[1] in lengths
            },
        )

    text = TWICE if shifted else NOT_SHIFTED.replace("not ", "")
    first, last = slice(1, None), slice(None, -1)
    yield Before(text, lambda x, y: (cut(x, last), cut(y, first)))
    yield Before(f"{text}, in the wrong direction", lambda x, y: (cut(x, first), cut(y, last)))
    for shift in (1, -1):
        yield Before(
            "the labels are rolled by one position",
            lambda x, y, shift=shift: (
                x,
                filled(y, {p: v.roll(shift, 1) for p, v in leaves(y).items() if v.ndim > 1}),
            ),
        )
