"""Every model on the numeric rungs, float64 and float32: how far each is from its bar, in a table.

    python benchmarks/rungs.py

Writes rungs.json and rungs.md beside this file. All models take more than an hour;
`--models resnet152` measures that one alone and keeps the rows of the others, each of which has its
own commit. Each model has a process of its own, for the wide ones need most of 24 GB.
"""

import dataclasses
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from jax_impl.errors import InputError
from jax_impl.models import registry
from parity.shell import cli
from parity.shell.files import to_json, write_whole
from parity.shell.recipes import chosen_model
from parity.speed.processes import WorkerFailed, started

ROOT = Path(__file__).resolve().parents[1]
FIELDS = "rung", "dtype", "passed", "measured", "tolerance", "unit", "detail"
DTYPES = "float64", "float32"


@dataclasses.dataclass(frozen=True)
class Options:
    """Measures every model on the numeric rungs."""

    models: tuple[str, ...] = tuple(registry.MODELS)
    """models to measure"""
    out: Path = ROOT / "benchmarks"
    """directory for rungs.json and rungs.md"""


def main(options: Options) -> int:
    """Returns 0 if every row of the table passed, 1 if not."""
    from parity.shell.environment import describe

    names = [str(chosen_model(name)) for name in options.models]
    options.out.mkdir(parents=True, exist_ok=True)
    environment = describe("cpu") | {"command": "python benchmarks/rungs.py"}
    rows = kept(options.out / "rungs.json")
    complete = True
    for name in names:
        try:
            # A new process for each model gives its memory back.
            with (
                tempfile.TemporaryDirectory() as files,
                started("rungs:RungsWorker", Path(files), "cpu") as worker,
            ):
                row = worker.ask("measure", None, name=name)
        except WorkerFailed as error:
            complete = False
            print(f"{name}: failed: {error}", file=sys.stderr)
            continue
        rows[name] = row | {"commit": environment["commit"]}
        print(line(rows[name]), flush=True)
        content = {"environment": environment, "models": ordered(rows)}
        text = to_markdown(environment, ordered(rows))
        write_whole(options.out / "rungs.json", (to_json(content, indent=2) + "\n").encode())
        write_whole(options.out / "rungs.md", text.encode())
    passed = all(rung["passed"] for row in rows.values() for rung in row["rungs"])
    return int(not (complete and passed))


def kept(path: Path) -> dict[str, dict[str, Any]]:
    """The rows of an earlier run, by model.

    Raises:
        InputError: the file is no such table.
    """
    if not path.exists():
        return {}
    try:
        return {row["model"]: row for row in json.loads(path.read_text())["models"]}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no table of this benchmark: move it away") from error


def ordered(rows: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """In the registry's order."""
    place = list(registry.MODELS).index
    return sorted(rows.values(), key=lambda row: (place(row["model"].split(":")[0]), row["model"]))


class RungsWorker:
    """The worker process of a model."""

    def measure(self, name: str) -> dict[str, Any]:
        """The model's row: 16 digits a batch, JAX by single operations, weights of seed 0."""
        from jax_impl.data import datasets
        from parity.ladder import numeric
        from parity.ladder.rungs import NUMERIC
        from parity.pairs.examples import shared_weights
        from parity.pairs.pair import Batch, create_pair
        from parity.shell.environment import pin_precision

        pin_precision()
        begun = time.perf_counter()
        digits = datasets.load_digits().train
        batches = [
            Batch(digits.images[start : start + 16], digits.labels[start : start + 16])
            for start in range(0, 64, 16)
        ]
        pair = create_pair(name)
        state = shared_weights(pair, 0)
        found = [
            {field: getattr(result, field) for field in FIELDS}
            for rung in NUMERIC
            for result in numeric.climb(rung, pair, state, batches, jit=False)
        ]
        return {"model": name, "rungs": found, "seconds": time.perf_counter() - begun}


def line(row: dict[str, Any]) -> str:
    """What the terminal shows of a model."""
    failed = [f"{r['rung']} {r['dtype']}: {r['detail']}" for r in row["rungs"] if not r["passed"]]
    verdict = "; ".join(["FAIL", *failed]) if failed else "ok"
    return f"{row['model']}: {verdict} ({row['seconds']:.0f} s)"


def to_markdown(environment: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """A row a model, a column a rung and precision."""
    passed = sum(all(rung["passed"] for rung in row["rungs"]) for row in rows)
    columns = list(dict.fromkeys((r["rung"], r["dtype"]) for row in rows for r in row["rungs"]))
    columns.sort(key=lambda column: DTYPES.index(column[1]))
    units = {r["dtype"]: r["unit"] for row in rows for r in row["rungs"]}
    heads = " | ".join(f"{rung}, {dtype}" for rung, dtype in columns)
    lines = [
        "# Every model on the numeric rungs",
        "",
        f"**{passed} of {len(rows)} models pass all of them**" + unmeasured(rows),
        "",
        "What was measured, of what is allowed: " + "; ".join(f"{k}: {v}" for k, v in units.items())
        + ". 16 handwritten digits a batch; JAX by single operations.",
        "",
        f"- command: `{environment['command']}`",
        f"- {environment['cpu']}, {environment['cores']} cores",
        "",
        f"| model | {heads} | s | commit |",
        "| --- |" + " ---: |" * (len(columns) + 1) + " --- |",
    ]  # fmt: skip
    for row in rows:
        cells = {(r["rung"], r["dtype"]): cell(r) for r in row["rungs"]}
        found = " | ".join(cells.get(column, "") for column in columns)
        lines.append(f"| `{row['model']}` | {found} | {row['seconds']:.0f} | {row['commit']} |")
    return "\n".join(lines) + "\n"


def unmeasured(rows: list[dict[str, Any]]) -> str:
    """The models that the table lacks."""
    lacking = sorted(set(registry.MODELS) - {row["model"].split(":")[0] for row in rows})
    return f"; not measured: {', '.join(lacking)}" if lacking else ""


def cell(rung: dict[str, Any]) -> str:
    """Measured and allowed; a failure stands out."""
    text = f"{rung['measured']:.2g} of {rung['tolerance']:.2g}"
    return text if rung["passed"] else f"**FAIL** {text}"


if __name__ == "__main__":
    cli.run(main, Options)
