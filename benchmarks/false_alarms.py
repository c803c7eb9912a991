"""How often the suite fails a correct pair: those of tests/correct, by several seeds each.

    python benchmarks/false_alarms.py

Climbs the whole ladder of every pair and seed, writes false_alarms.json and false_alarms.md after
each, and goes on where an earlier run of the same commit and options was cut off. With ten steps of
training a pair takes some ten seconds.
"""

import dataclasses
import json
import multiprocessing
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "tests"))

from jax_impl.errors import InputError, one_line
from parity.shell import cli
from parity.shell.files import to_json, write_whole

ROOT = Path(__file__).resolve().parents[1]
CONFIDENCE = 0.95
FIELDS = "rung", "dtype", "measured", "tolerance", "unit", "detail"
TASKS = 20
"""After so many ladders a process is replaced: what they compiled stays in its memory."""


@dataclasses.dataclass(frozen=True)
class Options:
    """Climbs the ladder of every correct pair by several seeds."""

    pairs: tuple[str, ...] = ()
    """names of tests/correct's pairs; all by default"""
    seeds: int = 5
    """seeds of each pair, from 0"""
    steps: int = 10
    """training steps of the trajectory"""
    processes: int = 1
    """processes that climb ladders at the same time"""
    fresh: bool = False
    """forget what an earlier run of this commit has measured"""
    out: Path = ROOT / "benchmarks"
    """directory for false_alarms.json and false_alarms.md"""


def main(options: Options) -> int:
    """Returns 0 if no correct pair failed, 1 if one did."""
    from correct import PAIRS

    from parity.shell.environment import describe

    for name in ("seeds", "steps", "processes"):
        if getattr(options, name) < 1:
            raise InputError(f"--{name} is {getattr(options, name)}: give 1 or more")
    if unknown := [name for name in options.pairs if name not in PAIRS]:
        raise InputError(f"no pair named {unknown[0]}: choose of {', '.join(PAIRS)}")
    options.out.mkdir(parents=True, exist_ok=True)
    command = f"python benchmarks/false_alarms.py --seeds {options.seeds} --steps {options.steps}"
    environment = describe("cpu") | {"command": command}
    path = options.out / "false_alarms.json"
    rows = {} if options.fresh else kept(path, environment["commit"], options.steps)
    names = options.pairs or tuple(PAIRS)
    # Every pair by one seed before any by the next: a run that is cut off has seen them all.
    wanted = [(name, seed) for seed in range(options.seeds) for name in names]
    left = [(*key, options.steps) for key in wanted if key not in rows]
    for row in climbed(left, options.processes):
        row["commit"] = environment["commit"]
        rows[row["pair"], row["seed"]] = row
        print(line(row), flush=True)
        found = sorted(rows.values(), key=lambda r: (list(PAIRS).index(r["pair"]), r["seed"]))
        content = {"environment": environment, "summary": summarise(found), "runs": found}
        write_whole(path, (to_json(content, indent=2) + "\n").encode())
        text = to_markdown(environment, found)
        write_whole(options.out / "false_alarms.md", text.encode())
    found = [rows[key] for key in wanted]
    print(to_markdown(environment, found))
    return int(not all(row["passed"] for row in found))


def climbed(tasks: list[tuple[str, int, int]], processes: int) -> Iterator[dict[str, Any]]:
    """The records of (pair, seed, steps), as processes of their own finish them."""
    if tasks:
        spawned = multiprocessing.get_context("spawn")
        with spawned.Pool(processes, _prepared, maxtasksperchild=TASKS) as pool:
            yield from pool.imap_unordered(tried, tasks)


def _prepared() -> None:
    """The command alone answers Ctrl-C; small nets gain nothing by more threads."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)


def kept(path: Path, commit: str | None, steps: int) -> dict[tuple[str, int], dict[str, Any]]:
    """The runs of an earlier run of this commit, by pair and seed.

    Raises:
        InputError: the file is no such table.
    """
    if not path.exists():
        return {}
    try:
        rows = json.loads(path.read_text())["runs"]
        same = [row for row in rows if (row["commit"], row["steps"]) == (commit, steps)]
        return {(row["pair"], row["seed"]): row for row in same}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no table of false alarms: {one_line(error)}") from error


def tried(task: tuple[str, int, int]) -> dict[str, Any]:
    """The record of a pair and a seed: every rung that fails, and what is said of it."""
    from correct import PAIRS

    from parity.checking import climb_all

    name, seed, steps = task
    start = time.perf_counter()
    failing, silent, rungs, error = [], [], 0, None
    try:
        for result in climb_all(PAIRS[name](seed), seed=seed, steps=steps):
            rungs += 1
            place = {field: getattr(result, field) for field in FIELDS}
            if result.passed is None:
                silent.append(place)
            elif not result.passed:
                why = result.diagnosis.text if result.diagnosis is not None else None
                failing.append(place | {"diagnosis": why})
    except Exception as caught:  # whatever stops the ladder of a correct pair is a false alarm
        error = f"{type(caught).__name__}: {one_line(caught)}"
    return {
        "pair": name,
        "seed": seed,
        "steps": steps,
        "passed": not failing and error is None,
        "rungs": rungs,
        "failing": failing,
        "nothing_compared": silent,
        "error": error,
        "seconds": time.perf_counter() - start,
    }


def line(row: dict[str, Any]) -> str:
    """A run, for people."""
    return f"{row['pair']} seed {row['seed']}: {verdict(row)} ({row['seconds']:.1f} s)"


def verdict(row: dict[str, Any]) -> str:
    """What failed and why, in a line."""
    if row["error"] is not None:
        return row["error"]
    texts = [
        f"{r['rung']} {r['dtype']} {r['measured']:.3g}, at most {r['tolerance']:.3g} {r['unit']}"
        if r["measured"] is not None  # null in the file: infinite
        else f"{r['rung']} {r['dtype']}: {r['detail']}"
        for r in row["failing"]
    ]
    texts += [r["diagnosis"] for r in row["failing"] if r["diagnosis"]]
    alone = dict.fromkeys(r["rung"] for r in row["nothing_compared"])
    nothing = f", with nothing to compare in {', '.join(alone)}" if alone else ""
    return "; ".join(texts) or f"passed{nothing}"


def upper_limit(alarms: int, runs: int) -> float:
    """The rate that so few alarms exclude with 95 % confidence (Clopper and Pearson, one-sided).

    3 / runs where there is none, the rule of three.
    """
    import scipy.stats

    if not runs or alarms == runs:
        return 1.0
    if not alarms:
        return min(1.0, 3 / runs)
    return float(scipy.stats.beta.ppf(CONFIDENCE, alarms + 1, runs - alarms))


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """How many ladders failed, the rate, and its upper limit."""
    alarms = sum(not row["passed"] for row in rows)
    return {
        "runs": len(rows),
        "alarms": alarms,
        "rate": alarms / len(rows) if rows else None,
        "upper_limit": upper_limit(alarms, len(rows)),
        "confidence": CONFIDENCE,
    }


def to_markdown(environment: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """The rate, and a row a pair."""
    total = summarise(rows)
    rate = "" if total["rate"] is None else f": {100 * total['rate']:.2f} %"
    lines = [
        "# False alarms",
        "",
        f"**{total['alarms']} of {total['runs']} ladders of correct pairs fail{rate}; 95 % upper "
        f"limit {100 * total['upper_limit']:.2f} %**",
        "",
        f"- command: `{environment['command']}`",
        f"- commit: {environment['commit']}",
        f"- {environment['cpu']}, {environment['cores']} cores",
        "",
        "| pair | seeds | alarms | 95 % upper limit | seconds | first alarm |",
        "| --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for name in dict.fromkeys(row["pair"] for row in rows):
        runs = [row for row in rows if row["pair"] == name]
        failed = [row for row in runs if not row["passed"]]
        seconds = sum(row["seconds"] for row in runs) / len(runs)
        first = f"seed {failed[0]['seed']}: {verdict(failed[0])}" if failed else ""
        limit = 100 * upper_limit(len(failed), len(runs))
        lines.append(
            f"| {name} | {len(runs)} | {len(failed)} | {limit:.0f} % | {seconds:.1f} | "
            f"{first.replace('|', '/')} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    cli.run(main, Options)
