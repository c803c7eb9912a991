"""Which changes of PyTorch's calls, one or several at once, make a number what JAX has."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from parity.diagnosis.sites import Change, Site, observed
from parity.diagnosis.suspects import Call, backward_suspects, suspects
from parity.pairs.budget import Budget

DEPTH = 3
"""So many faults are looked for at once."""
BEAM = 8
"""So many of the best are gone on with."""
PROMISING = 0.3
"""Of the error at the start: two changes that leave less may be two of three."""

Error = Callable[[tuple[Change, ...]], float]
"""How far PyTorch, with these changes, is from JAX, relative."""


class Found(NamedTuple):
    """Changes and the error that they leave."""

    error: float
    changes: tuple[Change, ...]


def list_suspects(
    run: Callable[[], object], sites: Iterable[Site] | None, backward: bool = False
) -> list[Change]:
    """The suspects of the calls at `sites` (or of all), in the order of the calls.

    Args:
        run: calls the model.
        sites: those that are wanted; None for all.
        backward: the backward suspects.
    """
    wanted = None if sites is None else set(sites)
    found: list[Change] = []

    def listen(site: Site, call: Call) -> None:
        if wanted is not None and site not in wanted:
            return
        seen: dict[str, int] = {}
        for text, _ in backward_suspects(call) if backward else suspects(call):
            number = seen.get(text, 0)
            seen[text] = number + 1
            found.append(Change(text, call.name, frozenset({site}), number, backward))

    with observed(listen):
        run()
    return found


ONE_PLACE = "is stopped", "of this ", "is multiplied by"
"""In the text of a backward suspect: a fault that is made in one place."""


def everywhere(changes: Sequence[Change]) -> list[Change]:
    """One change for all sites of one function that share a suspect, where there are several."""
    sites: dict[tuple[str, str, int, bool], set[Site]] = {}
    for change in changes:
        key = change.text, change.function, change.variant, change.backward
        sites.setdefault(key, set()).update(change.sites or ())
    return [
        Change(text, function, frozenset(at), variant, backward)
        for (text, function, variant, backward), at in sites.items()
        if len(at) > 1 and not any(part in text for part in ONE_PLACE)
    ]


def search(
    error: Error,
    candidates: Sequence[Change],
    start: float,
    same: float,
    budget: Budget,
    accept: Callable[[tuple[Change, ...]], bool] = lambda changes: True,
    depth: int = DEPTH,
) -> Found | None:
    """The fewest changes that leave an error of at most `same`, and that `accept` takes.

    First each change alone; then, from those that come nearest (a right one of several mostly takes
    its part of the error away), each with another, to `depth`.
    """
    if not start > same:
        return None
    level: list[Found] = [Found(start, ())]
    for count in range(1, depth + 1):
        tried: list[Found] = []
        for base in level:
            for change in candidates:
                if not budget.left:
                    return None
                if _clashes(change, base.changes):
                    continue
                changes = (*base.changes, change)
                left = error(changes)
                if left <= same and accept(changes):
                    return Found(left, changes)
                if left < float("inf"):
                    tried.append(Found(left, changes))
        level = sorted(tried, key=lambda found: found.error)[:BEAM]
        if count > 1:
            level = [found for found in level if found.error < PROMISING * start]
        if not level:
            return None
    return None


def _clashes(change: Change, others: tuple[Change, ...]) -> bool:
    """Whether the same suspect is among the others, or one of the same kind at the same place."""
    for other in others:
        shared = bool((change.sites or frozenset()) & (other.sites or frozenset()))
        if shared and _kind(change.text) == _kind(other.text):
            return True
    return False


def _kind(text: str) -> str:
    """A suspect's text without its numbers."""
    return "".join(letter for letter in text if not letter.isdigit() and letter not in ".-e+")
