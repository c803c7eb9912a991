"""Faults that take several changes at once, none of which comes nearer by itself."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from parity.diagnosis.sites import Change
from parity.diagnosis.suspects import Call, Thunk
from parity.diagnosis.suspects.parts import A_HALF, EVERY_SECOND


class Compound(NamedTuple):
    """A cause, and the beginnings of the suspects that make it.

    `cuts` are made only in modules in which something is joined: other modules cut for other ends.
    """

    text: str
    cuts: tuple[str, ...]
    joins: tuple[str, ...]
    others: tuple[str, ...]


# Su et al. 2021 turn channels 2 i and 2 i + 1 together; many models channels i and i + d / 2.
COMPOUNDS = (
    Compound(
        "the rotary embedding turns pairs of channels side by side (interleaved), and not halves",
        ("the parts are interleaved: each", EVERY_SECOND),
        ("the parts are interleaved",),
        ("it is repeated and not tiled",),
    ),
    Compound(
        "the rotary embedding turns halves of the channels, and not pairs side by side",
        (A_HALF,),
        ("the parts are joined along axis -2",),
        ("it is tiled and not repeated",),
    ),
)


def compounds(listed: Sequence[Change]) -> Iterator[Change]:
    """The compounds of which `listed` has the parts."""
    for text, cuts, joins, others in COMPOUNDS:
        joining = [c for c in listed if c.text.startswith(joins) and not c.text.startswith(cuts)]
        owners = {site.module for change in joining for site in change.sites or ()}
        cutting = [
            change
            for change in listed
            if change.text.startswith(cuts) and {s.module for s in change.sites or ()} <= owners
        ]
        if not joining or not cutting:
            continue
        parts = [*joining, *cutting, *(c for c in listed if c.text.startswith(others))]
        sites = frozenset(site for change in parts for site in change.sites or ())
        yield Change(text, "several", sites, make=_of_any(tuple(parts)))


def _of_any(parts: tuple[Change, ...]) -> Callable[[Call], Thunk | None]:
    """What makes of a call what the part for its function does."""
    by_function = {change.function: change for change in parts}

    def make(call: Call) -> Thunk | None:
        change = by_function.get(call.name)
        return None if change is None else change.of(call)

    return make
