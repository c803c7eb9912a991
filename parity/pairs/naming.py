"""Which JAX module is which of PyTorch's, told by the weights that the converter gives it.

A port may call its modules as it likes (`ConvBlock_0`, `layers.3`): what holds the same entries of
the state_dict is the same module, whatever its name.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

Entries = frozenset[str]
Path = tuple[str, ...]

WRAPPERS = "value", "raw_value"
"""What NNX's paths may end with after the name of the leaf."""


def names_by_weights(
    leaves: Sequence[tuple[Path, Collection[str]]],
    modules: Iterable[str],
    aliases: Mapping[str, str],
) -> dict[str, str]:
    """PyTorch's name of each JAX module that has another one.

    Args:
        leaves: of the variables, the path and the entries of the state_dict that it holds.
        modules: PyTorch's.
        aliases: the other names of tied entries, each to the one that `leaves` have.
    """
    held = {entry for _, entries in leaves for entry in entries}
    owned = _owned(held, aliases)
    theirs = {name: owned[0].get(name, frozenset()) for name in modules}
    found = _named(_holders(leaves, 1), theirs, owned[1])  # without Linen's collections
    return found | _named(_holders(leaves, 0), theirs, owned[1])


def _owned(held: set[str], aliases: Mapping[str, str]) -> tuple[dict[str, Entries], set[str]]:
    """The entries in each of PyTorch's modules, and the modules that have some of their own."""
    names = {name: name for name in held}
    names |= {name: first for name, first in aliases.items() if first in held}
    inside, direct = {}, set()
    for name, first in names.items():
        path = name.split(".")[:-1]
        direct.add(".".join(path))
        for end in range(1, len(path) + 1):
            inside.setdefault(".".join(path[:end]), set()).add(first)
    return {name: frozenset(entries) for name, entries in inside.items()}, direct


def _holders(
    leaves: Sequence[tuple[Path, Collection[str]]], skipped: int
) -> tuple[dict[str, Entries], set[str]]:
    """The same of JAX's, without the first `skipped` parts of their paths."""
    inside, direct = {}, set()
    for path, entries in leaves:
        path = path[skipped:-1] if path and path[-1] not in WRAPPERS else path[skipped:-2]
        direct.add(".".join(path))
        for end in range(1, len(path) + 1):
            inside.setdefault(".".join(path[:end]), set()).update(entries)
    return {name: frozenset(entries) for name, entries in inside.items()}, direct


def _named(
    ours: tuple[dict[str, Entries], set[str]], theirs: Mapping[str, Entries], direct: set[str]
) -> dict[str, str]:
    """One that has a weight of its own is one that has; of several that fit none is chosen."""
    holders, own = ours
    exact = set(theirs.values())
    kept = {
        name
        for name, entries in holders.items()
        if entries & theirs.get(name, frozenset())
        and (entries == theirs[name] or entries not in exact)  # else it is called as another one
    }
    found, chosen = {}, {}
    for name, entries in holders.items():
        fits = [each for each, owned in theirs.items() if entries and owned == entries]
        if name in own:
            fits = [each for each in fits if each in direct]
        if name not in kept and len(fits) == 1 and fits[0] not in kept:
            chosen.setdefault((fits[0], name in own), []).append(name)
    for (theirs_, owns), names in chosen.items():
        if len(names) == 1 and (owns or (theirs_, True) not in chosen):
            found[names[0]] = theirs_
    for name, entries in holders.items():
        if name not in kept and name not in found and entries and theirs.get(name):
            found[name] = f"JAX's {name}"  # another module, which happens to be called so
    return found
