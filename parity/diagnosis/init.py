"""Initial weights that are distributed otherwise, which they are, and how."""

import math
from collections.abc import Iterable

import numpy as np
from torch import nn

from parity.diagnosis.common import owner_of, said
from parity.diagnosis.init_schemes import FITS, Scheme, fitting, schemes
from parity.ladder import two_samples
from parity.ladder.draws import Drawn, Draws
from parity.ladder.result import Diagnosis
from parity.ladder.rungs import init
from parity.pairs.pair import Pair

NAMED = 6
"""Modules of one cause that are named."""

GAINS = {
    math.sqrt(2): "the gain sqrt(2) too much",
    math.sqrt(0.5): "the gain sqrt(2) is missing",
    5 / 3: "tanh's gain 5/3 too much",
    0.6: "tanh's gain 5/3 is missing",
    math.sqrt(3): "sqrt(3): a bound for a deviation",
    math.sqrt(1 / 3): "1 / sqrt(3): a deviation for a bound",
}
"""What the ratio of the deviations may be."""


def find(pair: Pair) -> Diagnosis:
    """Every parameter that is distributed otherwise, by cause: as what it is drawn."""
    ours, theirs = init.samples(pair, 0)
    keys = {second: first for first, second in init.shared_keys(ours, theirs)}
    departing = _departing(ours, theirs)
    module = pair.make_torch()
    shapes = {name: drawn.first.shape for name, drawn in theirs.parameters.items()}
    causes: dict[str, str] = {}
    for name in ours.parameters:
        if name in keys:
            causes[name] = f"drawn with the key of {keys[name]}"
        elif name in departing:
            owner = module.get_submodule(name.rpartition(".")[0])
            known = schemes(owner, shapes[name], shapes.get(f"{_owner(name)}weight"))
            pairs = ours.parameters[name], theirs.parameters[name]
            causes[name] = cause(*pairs, known, owner)
    for name in keys.keys() - causes.keys():  # leaves of JAX that are in no parameter alone
        causes[name] = f"drawn with the key of {keys[name]}"
    if not causes:
        return said(None)
    first, order = next(iter(causes)), list(ours.parameters)
    before = order[order.index(first) - 1] if first in order[1:] else None
    known = {name: text for name, text in causes.items() if text}
    told = grouped(known)
    text = f"first departs: the initial {first}"
    if first in ours.parameters:
        text += f", {init.told(ours.parameters[first])} in JAX"
        text += f" and {init.told(theirs.parameters[first])} in PyTorch"
    text += f". Cause: {told}." if told else ""
    unknown = [name for name, cause in causes.items() if not cause]
    if unknown:
        text += f" No usual scheme has the distribution of {_listed(unknown)}."
    return Diagnosis(
        owner_of(first), None, owner_of(before) if before else None, None, told or None, text
    )


def _departing(ours: Draws, theirs: Draws) -> set[str]:
    found = {
        name: init.parameter_tests(drawn, theirs.parameters[name])
        for name, drawn in ours.parameters.items()
    }
    limit = 10 ** -init.limit(sum(map(len, found.values())))
    return {name for name, tests in found.items() if min(tests.values()) < limit}


def cause(ours: Drawn, theirs: Drawn, known: list[Scheme], module: nn.Module) -> str:
    """How one departing parameter is made in JAX, and how in PyTorch; "" if that is not known."""
    constant = _constants(ours, theirs, known, module)
    if constant:
        return constant
    if not np.isfinite(ours.values).all():
        return "not finite"
    if not ours.varies.any():
        return "the same values for every seed"
    if ours.structure and orthogonal(ours) != orthogonal(theirs):
        if orthogonal(ours):
            return "an orthogonal matrix, where PyTorch's entries are independent"
        return "its entries are independent, where PyTorch's is an orthogonal matrix"
    mine, other = ours.random.ravel(), theirs.random.ravel()
    ratio = _ratio(mine, other)
    if ours.structure and orthogonal(ours):
        return ratio
    usual = fitting(other, known, two_samples.dependence(theirs.random))
    found = [text for text in fitting(mine, known) if text not in usual]
    if not found:
        return _structure(ours, theirs) or ratio
    text = f"drawn as {found[0]}"
    if usual:
        text += f", where PyTorch's is drawn as {next(iter(usual))}"
    return f"{text}: {ratio}" if ratio else text


def _ratio(ours: np.ndarray, theirs: np.ndarray) -> str:
    """The ratio of the deviations of two samples of one distribution."""
    ratio = float(ours.std() / theirs.std())
    if two_samples.smirnov(ours / ratio, theirs) < FITS:
        return ""
    close = min(3 / math.sqrt(len(ours)), 0.05)
    if abs(ratio - 1) < close:
        return ""
    for value, gain in GAINS.items():
        if abs(ratio / value - 1) < close:
            return f"{value:.3g} times PyTorch's deviation ({gain})"
    return f"{ratio:.3g} times PyTorch's deviation"


def _constants(ours: Drawn, theirs: Drawn, known: list[Scheme], module: nn.Module) -> str:
    """What is constant on one side alone, or another constant."""
    fixed, loose = ~theirs.loose, theirs.loose
    mine = ~ours.loose
    if mine.all() and np.ptp(ours.first) and not fixed.any():
        here = fixed_of(ours.first)
        return "" if here == NUMBERS else f"{here}, where PyTorch's is {drawn_as(theirs, known)}"
    if mine.all() or fixed.all():
        there = fixed_of(theirs.first) if fixed.all() else drawn_as(theirs, known)
        here = fixed_of(ours.first) if mine.all() else drawn_as(ours, known)
        return f"{here}, where PyTorch's is {there}{_residual(ours, theirs)}"
    wrong = fixed & (ours.varies | (np.abs(ours.first - theirs.first) > init.EQUAL))
    wrong |= loose & mine
    if not wrong.any() or not (mine & wrong | fixed & wrong).any():
        return ""
    rows = np.flatnonzero(wrong.reshape(len(wrong), -1).any(1))
    where = f"{rows[0]}" if len(rows) == 1 else f"{rows[0]} to {rows[-1]}"
    what = ("row " if len(rows) == 1 else "rows ") if wrong.ndim > 1 else "values "
    here = fixed_of(ours.first[wrong]) if mine[wrong].all() else "drawn"
    there = fixed_of(theirs.first[wrong]) if fixed[wrong].all() else "drawn"
    return f"{what}{where}{_meaning(module, rows)} {here}, where PyTorch's are {there}"


def _meaning(module: nn.Module, rows: np.ndarray) -> str:
    """What rows of a weight, or values of a bias, are."""
    if isinstance(module, nn.Embedding) and list(rows) == [module.padding_idx]:
        return " (padding_idx)"
    hidden = getattr(module, "hidden_size", None)
    if isinstance(module, nn.LSTM | nn.LSTMCell) and hidden:
        gates = ("input", "forget", "cell", "output")
        chosen = {int(row) // hidden for row in rows}
        if len(chosen) == 1:
            return f" (the {gates[chosen.pop()]} gate)"
    return ""


def _residual(ours: Drawn, theirs: Drawn) -> str:
    """What a scale of zero is for."""
    if theirs.first.ndim != 1 or np.ptp(theirs.first) or np.ptp(ours.first) or ours.varies.any():
        return ""
    values = float(ours.first[0]), float(theirs.first[0])
    if values == (0.0, 1.0):
        return " (a block's last norm that starts at zero, or a scale of 1 + weight)"
    if values == (1.0, 0.0):
        return " (in PyTorch a block's last norm starts at zero, or the scale is 1 + weight)"
    return ""


NUMBERS = "fixed numbers"


def fixed_of(values: np.ndarray) -> str:
    """Constant values in words."""
    if not np.ptp(values):
        return f"{float(values.ravel()[0]) + 0.0:g} everywhere"
    if values.ndim == 2 and np.array_equal(values, np.eye(*values.shape)):
        return "the identity matrix"
    if values.ndim > 2 and set(np.unique(values)) == {0.0, 1.0}:
        return "a Dirac kernel"
    return NUMBERS


def drawn_as(drawn: Drawn, known: list[Scheme]) -> str:
    """The likeliest scheme, in words."""
    likely = fitting(drawn.random.ravel(), known)
    return f"drawn as {next(iter(likely))}" if likely else "drawn"


def _structure(ours: Drawn, theirs: Drawn) -> str:
    """How rows or columns lie otherwise to one another."""
    if not theirs.structure:
        return ""
    least = {
        kind: two_samples.distribution(ours.structure[kind], values)
        for kind, values in theirs.structure.items()
    }
    kind = min(least, key=least.__getitem__)
    if least[kind] > 1e-8:
        return ""
    if kind.startswith("norms"):
        return f"the {kind} differ among themselves otherwise than PyTorch's"
    mine, other = (math.sqrt((d.structure[kind] ** 2).mean()) for d in (ours, theirs))
    return f"correlated otherwise: the {kind} are {mine:.2g} in JAX, {other:.2g} in PyTorch"


def orthogonal(drawn: Drawn) -> bool:
    """Whether the rows, or where they are more than the columns those, are orthonormal."""
    rows, columns = len(drawn.first), drawn.first[0].size
    what = "rows" if rows <= columns else "columns"
    cosines = np.abs(drawn.structure[f"cosines of {what}"]).max()
    norms = np.abs(drawn.structure[f"norms of {what}"] - 1).max()
    return bool(cosines < 1e-3 and norms < 1e-3)


def grouped(causes: dict[str, str]) -> str:
    """Parameters of one cause and one kind together: "the biases of fc1, fc2: ..."."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name, text in causes.items():
        groups.setdefault((text, name.rpartition(".")[2]), []).append(name)
    told = []
    for (text, kind), names in groups.items():
        owners = [name.rpartition(".")[0] for name in names]
        plural = {"weight": "weights", "bias": "biases"}.get(kind, kind)
        if len(names) == 1:
            who = names[0]
        else:
            who = f"the {plural} of {_listed(owners)}"
        told.append(f"{who}: {text}")
    return "; ".join(told)


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _owner(name: str) -> str:
    owner = name.rpartition(".")[0]
    return f"{owner}." if owner else ""
