"""What is measured of a training beside its own lines. Imports no framework."""

import json
from collections.abc import Sequence
from typing import Any

from jax_impl.errors import one_line
from parity.shell.run_directory import WEIGHTS
from parity.study.child import run_child
from parity.study.description import Study, Training
from parity.study.groups import Group
from parity.study.training import RUNS, Place

BEST = 2
"""Groups whose errors are looked at class by class."""


def extra(study: Study, training: Training, place: Place) -> dict[str, Any]:
    """Of one that is over and still has its checkpoints: the gradients, where they are asked for.

    A measurement that fails is told in its place: it costs no training.
    """
    if study.judgement != "gradients" or training.framework != "jax":
        return {}
    done = run_child("parity.study.gradients", str(place.run(training).absolute()))
    if done.returncode:
        said = done.stderr.strip().split("\n")[-1]
        return {"not_measured": f"gradients: {one_line(ValueError(said), 200)}"}
    return {"gradients": [json.loads(told) for told in done.stdout.splitlines()]}


def evaluated(study: Study, groups: Sequence[Group], place: Place) -> dict[str, Any]:
    """Per-class accuracies and confusion matrices of the best groups' first trainings, by label.

    Args:
        study: only of one that is judged by its curves.
        groups: of its trainings.
        place: where they ran; of one that ran elsewhere there are no weights, and nothing is told.
    """
    if study.judgement != "curves":
        return {}
    tested = [(mean.mean, i) for i, group in enumerate(groups) if (mean := group.test())]
    best = [groups[i].first["label"] for _, i in sorted(tested, reverse=True)[:BEST]]
    found = {label: _evaluation(place, label) for label in best}
    return {label: told for label, told in found.items() if told is not None}


def _evaluation(place: Place, label: str) -> dict[str, Any] | None:
    folder = place.folder.absolute()
    run, out = folder / RUNS / label, folder / f"evaluation-{label}"
    if not out.exists():
        if not (run / WEIGHTS).exists():
            return None
        given = [str(run), "--out", str(out)]
        given += [] if place.data_dir is None else ["--data-dir", str(place.data_dir)]
        run_child("parity", "evaluate", *given)
    try:
        told = json.loads((out / "evaluation.json").read_bytes())
        return {name: told[name] for name in ("classes", "confusion", "accuracy", "images")}
    except (OSError, ValueError, KeyError):
        return None
