"""What a study.json holds, checked as it is read. Imports no framework."""

import json
from pathlib import Path
from typing import Any

from jax_impl.errors import InputError, one_line, shown

DATABASE = "study.db"
"""In the same folder, with the same results."""
NUMBER = int, float
NOTHING = type(None)
FIELDS: dict[str, Any] = {
    **dict.fromkeys(("label", "group", "model", "recipe", "framework", "data", "held_out"), str),
    **dict.fromkeys(("seed", "epochs", "parameters", "flops", "field"), NUMBER),
    **dict.fromkeys(("held_out_accuracy", "test_accuracy", "seconds"), (*NUMBER, NOTHING)),
    **dict.fromkeys(("options", "point"), dict),
    "stopped": bool,
    "rows": list,
    "command": str,
}
"""Of a training in study.json: what is read of it again."""


def read_study(path: Path) -> dict[str, Any]:
    """What a study.json holds.

    Raises:
        InputError: it is none.
    """
    try:
        told = json.loads(path.read_bytes())
        for result in told["trainings"]:
            _check_result(result)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        why = one_line(error, 120)
        advice = "pass another --out"
        if (path.parent / DATABASE).exists():
            advice = f"remove it, and what {DATABASE} has is kept, or {advice}"
        raise InputError(f"{path} is no study.json ({why}): {advice}") from error
    return told


def _check_result(result: Any) -> None:
    """Raises TypeError, KeyError or ValueError for what no training has come to."""
    for name, kind in FIELDS.items():
        if not isinstance(result[name], kind):
            raise ValueError(f"{name} of a training is {shown(json.dumps(result[name]), 40)}")
    for row in result["rows"]:
        if not all(isinstance(value, (*NUMBER, NOTHING)) for value in row.values()):
            raise ValueError(f"a row of {shown(result['label'])} holds more than numbers")
        if not isinstance(row["epoch"], int):
            raise ValueError(f"a row of {shown(result['label'])} has no epoch")
    if any(not isinstance(entry, dict) for entry in result.get("gradients", [])):
        raise ValueError(f"gradients of {shown(result['label'])} are none")
