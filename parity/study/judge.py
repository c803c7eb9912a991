"""What a study's trainings answer, in sentences that its numbers make. Imports no framework."""

import math
from collections.abc import Callable, Sequence

from parity.report.curves import FRAMEWORKS
from parity.study.description import Judgement, Study
from parity.study.groups import Group, Result, grouped, paired
from parity.study.statistics import Mean, equality, mean_of, prediction_p
from parity.study.studies import NOTEBOOKS

NOTEBOOK = {"simple_cnn, Adam 0.001": 0.7422}
"""The accuracy that the notebook itself printed, of one training."""


def answers(study: Study, results: Sequence[Result]) -> list[str]:
    """Sentences for a person; none where nothing is over yet."""
    names = [case.group for case in study.cases]
    groups = grouped(results, names)
    if not groups:
        return []
    found = _JUDGES[study.judgement](study, results, groups)
    missing = len({*names} - {group.name for group in groups})
    if found and missing:
        told = f"Of {len({*names})} kinds of training {missing} are missing from what follows."
        found = [told, *found]
    return found


def interval(mean: Mean | None, scale: float = 100, digits: int = 2, unit: str = " %") -> str:
    """A mean with its interval of 95 %, where there is more than one."""
    if mean is None:
        return "not measured"
    text = f"{scale * mean.mean:.{digits}f}{unit}"
    if math.isnan(mean.low):
        return f"{text} (one training)"
    ends = f"{scale * mean.low:.{digits}f} to {scale * mean.high:.{digits}f}"
    return f"{text} ({ends}, n = {mean.n})"


def named(group: Group, groups: Sequence[Group]) -> str:
    """With the framework, where there is more than one."""
    several = len({g.framework for g in groups}) > 1
    return f"{group.name} in {FRAMEWORKS[group.framework]}" if several else group.name


def _curves(study: Study, results: Sequence[Result], groups: Sequence[Group]) -> list[str]:
    tested = [(mean.mean, group) for group in groups if (mean := group.test())]
    if not tested:
        return []
    tested.sort(key=lambda pair: -pair[0])
    found = [
        f"{named(group, groups)}: test accuracy {interval(group.test())}, training accuracy "
        f"{interval(group.last('train_accuracy'))}."
        for _, group in tested
    ]
    return [f"The best of {len(tested)}: {found[0]}", *found[1:]]


def _pairs(study: Study, results: Sequence[Result], groups: Sequence[Group]) -> list[str]:
    found = []
    for case in {case.group: case for case in study.cases}.values():
        pairs = paired(results, case.group)
        margin = dict(study.margin)[case.group]
        differences = [
            a["test_accuracy"] - b["test_accuracy"]
            for _, a, b in pairs
            if None not in (a["test_accuracy"], b["test_accuracy"])
        ]
        if len(differences) < 2:
            found.append(f"{case.group}: {len(differences)} pairs of trainings, too few to judge.")
            continue
        told = equality(differences, margin)
        word = "the same" if told.equal else "not shown to be the same"
        found.append(
            f"{case.group}: the accuracies in JAX and PyTorch are {word} within "
            f"{100 * margin:.1f} points: JAX is {100 * told.mean:+.2f} points off, 90 % interval "
            f"{100 * told.low:+.2f} to {100 * told.high:+.2f}, p = {told.p:.2g}, n = {told.n}. A "
            f"pair deviates by {100 * told.deviation:.2f} points, of which {told.needed} would do."
        )
    for name, accuracy in NOTEBOOK.items():
        found += [
            _against(accuracy, group, groups)
            for group in groups
            if group.name == name and len(group.results) > 1 and group.test()
        ]
    return found


def _against(accuracy: float, group: Group, groups: Sequence[Group]) -> str:
    """Where the notebook's one training lies among ours."""
    ends = [r["test_accuracy"] for r in group.results if r["test_accuracy"] is not None]
    best = group.best()
    above = sum(end >= accuracy for end in ends)
    return (
        f"The notebook's own {100 * accuracy:.2f} % against {named(group, groups)}: mean "
        f"{interval(mean_of(ends))}, {above} of {len(ends)} at or above it, p = "
        f"{prediction_p(accuracy, ends):.2g}; at the best epoch {interval(best)}."
    )


def _grid(study: Study, results: Sequence[Result], groups: Sequence[Group]) -> list[str]:
    validated = [(mean.mean, g) for g in groups if g.first["point"] and (mean := _held_out(g))]
    if not validated:
        return []
    best = max(validated, key=lambda pair: pair[0])[1]
    found = [
        f"Chosen by its validation accuracy of {interval(_held_out(best))}: {best.name}, of "
        f"{best.first['parameters']:,} parameters; its test accuracy is {interval(best.test())}."
    ]
    for axis, values in study.axes:
        points = along(study, groups, axis)
        if len(points) > 1:
            each = "; ".join(f"{v} {interval(_held_out(points[v]))}" for v in values if v in points)
            found.append(f"By {axis}, with the notebook's choice of all else: {each}.")
    return found


def along(study: Study, groups: Sequence[Group], axis: str) -> dict[str, Group]:
    """The groups by their value on an axis, that are the notebook's on every other one."""
    return {
        point[axis]: group
        for group in groups
        if (point := dict(group.first["point"])) and point | {axis: NOTEBOOKS[axis]} == NOTEBOOKS
    }


def _held_out(group: Group) -> Mean | None:
    return group.last(f"{group.held_out}_accuracy")


def _gradients(study: Study, results: Sequence[Result], groups: Sequence[Group]) -> list[str]:
    losses = {(g.name, g.framework): mean for g in groups if (mean := g.last("loss"))}
    found = []
    for (name, framework), loss in losses.items():
        other = losses.get((name.replace("plain", "resnet"), framework))
        if not name.startswith("plain") or other is None:
            continue
        word = "above" if loss.mean > other.mean else "not above"
        found.append(
            f"The training loss of {name} at the end is {word} that of "
            f"{name.replace('plain', 'resnet')}: {interval(loss, 1, 3, '')} against "
            f"{interval(other, 1, 3, '')}."
        )
    for shallow, deep in (("plain20", "plain56"), ("resnet20", "resnet56"), ("plain18", "plain34"),
                          ("resnet18", "resnet34")):  # fmt: skip
        for framework in FRAMEWORKS:
            one, other = losses.get((shallow, framework)), losses.get((deep, framework))
            if one and other:
                word = "above" if other.mean > one.mean else "at or below"
                found.append(
                    f"Deeper: the training loss of {deep} is {word} that of {shallow}: "
                    f"{interval(other, 1, 3, '')} against {interval(one, 1, 3, '')}."
                )
    return found


_JUDGES: dict[Judgement, Callable[[Study, Sequence[Result], Sequence[Group]], list[str]]] = {
    "curves": _curves,
    "pairs": _pairs,
    "grid": _grid,
    "gradients": _gradients,
}
