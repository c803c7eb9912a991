"""Weights of one shape that a converter exchanges: of two modules beside each other, or of one."""

import itertools
from collections.abc import Collection, Iterator

from torch import nn

from parity.diagnosis.sites import Change, Exchange, Site

MOST = 40
"""Exchanges that are tried."""


def exchanges(model: nn.Module, sites: Collection[Site]) -> Iterator[Change]:
    """Those of modules that make calls at `sites`: at all of their places first, then at each.

    Recurrent modules hold their weights a second time, and are left out.
    """
    found: dict[str, dict[tuple[Exchange, ...], None]] = {}
    modules = dict(model.named_modules())
    for owner in dict.fromkeys(site.module for site in sites if site.module):
        parent, dot, local = owner.rpartition(".")
        for name, other in modules[parent].named_children():
            shapes = _shapes(other)
            if name != local and shapes and shapes == _shapes(modules[owner]):
                one, two = sorted((local, name))
                pairs = tuple(
                    Exchange(*(f"{parent}{dot}{module}.{leaf}" for module in (one, two)))
                    for leaf in shapes
                )
                text = f"the weights of {one} and {two} are exchanged"
                found.setdefault(text, {})[pairs] = None
        own = _shapes(modules[owner]) if not list(modules[owner].children()) else {}
        for one, two in itertools.combinations(own, 2):
            if own[one] == own[two]:
                pair = Exchange(f"{owner}.{one}", f"{owner}.{two}")
                found.setdefault(f"{one} and {two} are exchanged", {})[(pair,)] = None
    for text, places in itertools.islice(found.items(), MOST):
        whole = tuple(pair for pairs in places for pair in pairs)
        for pairs in dict.fromkeys((whole, *places)):
            owners = {name.rpartition(".")[0] for pair in pairs for name in pair}
            at = frozenset(site for site in sites if site.module in owners)
            yield Change(text, "", at, make=lambda call: None, exchanged=pairs)


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    if any(isinstance(inner, nn.RNNBase) for inner in module.modules()):
        return {}
    named = itertools.chain(module.named_parameters(), module.named_buffers())
    return {name: tuple(value.shape) for name, value in named if value.ndim}
