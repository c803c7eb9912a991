"""What a planted bug is, and what a right answer to it is."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import parity
from planted.nets import STYLES

WHOLE = frozenset({"the outputs", "", "the net"})
"""Names of the net itself."""
LOSS, INPUTS, OPTIMIZER, STEP = (
    frozenset({f"the {name}"}) for name in ("loss", "inputs", "optimizer", "training step")
)
Words = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Fault:
    """One fault: PyTorch's names of where it may be said to be, and the words that say what it is.

    `causes` are alternatives; of one of them every word must be in the told cause, in any case of
    letters.
    """

    modules: frozenset[str]
    causes: tuple[Words, ...]

    def is_told_by(self, cause: str | None) -> bool:
        text = (cause or "").lower()
        return any(all(word in text for word in words) for words in self.causes)


@dataclasses.dataclass(frozen=True)
class Bug:
    """A faulty pair of one of the nets, and what a person would want to be told of it.

    `rungs` are those where it may first be caught. `batches` are given in the place of the pair's
    examples, `steps` are of training. `dtype` is the precision in which it shows. With `strict`
    the ladder is asked to count float32 inside of float64 as a fault.
    """

    name: str
    net: str
    style: str
    make: Callable[[], parity.Pair]
    rungs: frozenset[str]
    faults: tuple[Fault, ...]
    batches: Callable[[], list[Any]] | None = None
    steps: int = 6
    dtype: str = "float64"
    strict: bool = False

    @property
    def modules(self) -> frozenset[str]:
        return frozenset().union(*(fault.modules for fault in self.faults))

    @property
    def causes(self) -> tuple[tuple[Words, ...], ...]:
        """For each fault its alternatives."""
        return tuple(fault.causes for fault in self.faults)


def fault(modules: str | Iterable[str], *causes: str) -> Fault:
    """`modules` a name, several apart by spaces, or a set; words of a cause apart by " & "."""
    named = modules.split() if isinstance(modules, str) else modules
    return Fault(frozenset(named), tuple(tuple(c.lower().split(" & ")) for c in causes))


def inside(blocks: str, *names: str) -> frozenset[str]:
    """Modules of blocks, and the blocks: `inside("block1 block2", "attn")`."""
    return frozenset(
        name for b in blocks.split() for name in (b, *(f"{b}.{inner}" for inner in names))
    )


def bug(
    name: str, net: str, make: Callable[[], parity.Pair], rungs: str, *faults: Fault, **given: Any
) -> Bug:
    """`rungs` are apart by spaces."""
    return Bug(name, net, STYLES[net], make, frozenset(rungs.split()), faults, **given)
