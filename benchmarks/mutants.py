"""Planted bugs: which the ladder catches, at which rung, and what the diagnosis names.

    python benchmarks/mutants.py

Runs every mutant of tests/mutants, and writes mutants.json and mutants.md as it goes on.
"""

import dataclasses
import multiprocessing
import signal
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "tests"))

from jax_impl.errors import InputError
from parity.shell import cli
from parity.shell.files import to_json, write_whole

ROOT = Path(__file__).resolve().parents[1]


@dataclasses.dataclass(frozen=True)
class Options:
    """Runs every planted bug."""

    out: Path = ROOT / "benchmarks"
    """directory for mutants.json and mutants.md"""
    workers: int = 2
    """processes that climb ladders at the same time"""


def main(options: Options) -> int:
    """Returns 0 if every bug was caught at its rung, 1 if not."""
    from mutants import MUTANTS

    from parity.shell.environment import describe

    if options.workers < 1:
        raise InputError(f"--workers is {options.workers}: give 1 or more")
    options.out.mkdir(parents=True, exist_ok=True)
    environment = describe("cpu") | {"command": "python benchmarks/mutants.py"}
    rows, text = [], ""
    spawned = multiprocessing.get_context("spawn")
    # The command alone answers Ctrl-C, and leaving the block ends the workers.
    with spawned.Pool(options.workers, signal.signal, (signal.SIGINT, signal.SIG_IGN)) as pool:
        for row in pool.imap(tried, range(len(MUTANTS))):
            rows.append(row)
            print(f"{row['group']}: {row['name']}: {row['found_rung']}: {row['text']}", flush=True)
            content = {"environment": environment, "mutants": rows}
            write_whole(options.out / "mutants.json", (to_json(content, indent=2) + "\n").encode())
            text = to_markdown(environment, rows)
            write_whole(options.out / "mutants.md", text.encode())
    print(text)
    return int(not all(row["caught"] for row in rows))


def tried(index: int) -> dict[str, Any]:
    """The tally's row of the mutant of this index."""
    from mutants import MUTANTS, run

    mutant = MUTANTS[index]
    found = run(mutant)
    right = mutant.cause in (found.cause or "")
    return {
        "name": mutant.name,
        "group": mutant.group,
        "rung": mutant.rung,
        "found_rung": found.rung,
        "module": mutant.module,
        "found_module": found.module,
        "expected_cause": mutant.cause,
        "cause": found.cause if right else mutant.cause,
        "found_cause": found.cause,
        "right_cause": right,
        "caught": found.rung == mutant.rung and not found.crashed,
        "text": found.text,
    }


def to_markdown(environment: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """The tally, and a row a bug."""
    count = len(rows)
    modules = sum(row["module"] == row["found_module"] for row in rows)
    causes = sum(row["right_cause"] for row in rows)
    lines = [
        "# Planted bugs",
        "",
        f"**{sum(row['caught'] for row in rows)} of {count} caught at the right rung; module named "
        f"right {modules} of {count}, cause {causes} of {count}**",
        "",
        f"- command: `{environment['command']}`",
        f"- commit: {environment['commit']}",
        "",
        "| group | bug | rung | module | cause |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        rung = row["rung"] if row["caught"] else f"{row['found_rung']}, not {row['rung']}"
        module = row["found_module"] or "none"
        if row["module"] != row["found_module"]:
            module += f", not {row['module']}"
        cause = row["found_cause"] or "none"
        if not row["right_cause"]:
            cause += f" (not: {row['expected_cause']})"
        lines.append(f"| {row['group']} | {row['name']} | {rung} | {module} | {cause} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    cli.run(main, Options)
