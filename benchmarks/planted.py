"""Bugs planted in models that are not this project's: which the suite catches and explains.

    python benchmarks/planted.py
    python benchmarks/planted.py --only vit "gelu by tanh"

Climbs the ladder of the bugs of tests/planted and of the correct pairs that they are planted in.
planted.json is written as it goes on: the outcome of each, the tallies, command, commit, hardware.
"""

import dataclasses
import multiprocessing
import shlex
import signal
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "tests"))

from jax_impl.errors import InputError
from parity.shell import cli
from parity.shell.files import to_json, write_whole

ROOT = Path(__file__).resolve().parents[1]
TASKS = 10
"""After so many ladders a process is replaced: what they compiled stays in its memory."""
JUDGED = "caught", "right_module", "right_cause", "wrong_cause"


@dataclasses.dataclass(frozen=True)
class Options:
    """Climbs the ladder of every bug planted in a model that is not this project's."""

    only: tuple[str, ...] = ()
    """names of nets or styles, or parts of bugs' names; by default all"""
    out: Path = ROOT / "benchmarks"
    """directory for planted.json"""
    workers: int = 2
    """processes that climb ladders at the same time"""
    correct: bool = True
    """also climb the ladders of the correct pairs: what fails there is a false alarm"""


def main(options: Options) -> int:
    """Returns 0 if every bug was caught and no correct pair was refused, 1 if not."""
    from planted import BUGS, NETS

    from parity.shell.environment import describe

    if options.workers < 1:
        raise InputError(f"--workers is {options.workers}: give 1 or more")
    numbers = [number for number, bug in enumerate(BUGS) if chosen(bug, options.only)]
    nets = [name for name in NETS if options.correct and named(name, options.only)]
    if not numbers and not nets:
        raise InputError(f"no net, style or bug is named like {', '.join(options.only)}")
    options.out.mkdir(parents=True, exist_ok=True)
    command = shlex.join(["python", "benchmarks/planted.py", *sys.argv[1:]])
    environment = describe("cpu") | {"command": command}
    rows: list[dict[str, Any]] = []
    correct: list[dict[str, Any]] = []
    content: dict[str, Any] = {}
    spawned = multiprocessing.get_context("spawn")
    # The command alone answers Ctrl-C, and leaving the block ends the workers.
    ignored = signal.SIGINT, signal.SIG_IGN
    with spawned.Pool(options.workers, signal.signal, ignored, maxtasksperchild=TASKS) as pool:
        for done in pool.imap(worked, [*numbers, *nets]):
            (rows if "rungs" in done else correct).append(done)
            content = {
                "environment": environment,
                "finished": len(rows) + len(correct) == len(numbers) + len(nets),
                "tally": tally(rows),
                "tally_by_style": by(rows, "style"),
                "tally_by_net": by(rows, "net"),
                "false_alarms": sum(not row["passed"] for row in correct),
                "bugs": rows,
                "correct": correct,
            }
            write_whole(options.out / "planted.json", (to_json(content, indent=2) + "\n").encode())
            print(line(done), flush=True)
    print(table(content))
    return int(not all(row["caught"] for row in rows) or content["false_alarms"] > 0)


def named(net: str, only: tuple[str, ...]) -> bool:
    return not only or net in only


def chosen(bug: Any, only: tuple[str, ...]) -> bool:
    return named(bug.net, only) or bug.style in only or any(part in bug.name for part in only)


def worked(which: int | str) -> dict[str, Any]:
    """The row of the bug of this number, or of the correct pair of this name."""
    import torch

    torch.set_num_threads(1)
    return tried(which) if isinstance(which, int) else climbed(which)


def tried(number: int) -> dict[str, Any]:
    from planted import BUGS
    from planted.runner import run

    bug = BUGS[number]
    found = run(bug)
    return {
        "name": bug.name,
        "net": bug.net,
        "style": bug.style,
        "rungs": sorted(bug.rungs),
        "found_rung": found.rung,
        "faults": [
            {"modules": sorted(f.modules), "causes": [" & ".join(words) for words in f.causes]}
            for f in bug.faults
        ],
        "told": [told._asdict() for told in found.told],
        **{name: getattr(found, name) for name in JUDGED},
        "text": found.text,
        "seconds": round(found.seconds, 2),
    }


def climbed(name: str) -> dict[str, Any]:
    """What failed of a correct pair."""
    from planted import NETS

    from parity.checking import climb_all

    began, failed = time.perf_counter(), []
    try:
        for found in climb_all(NETS[name](), steps=6, jit=False):
            if found.passed is not None and not found.passed:
                failed.append(f"{found.rung} {found.dtype}: {found.detail}")
    except Exception as error:  # whatever a correct pair raises in the suite is an outcome
        failed.append(f"raised {type(error).__name__}: {' '.join(str(error).split())[:300]}")
    seconds = round(time.perf_counter() - began, 2)
    return {"name": name, "passed": not failed, "failed": failed, "seconds": seconds}


def tally(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """How many were caught, and of how many the module, the cause and a wrong cause were told."""
    several = [row for row in rows if len(row["faults"]) > 1]
    return {
        "bugs": len(rows),
        **{name: sum(row[name] for row in rows) for name in JUDGED},
        "several_faults": len(several),
        "several_faults_right_cause": sum(row["right_cause"] for row in several),
    }


def by(rows: list[dict[str, Any]], key: str) -> dict[str, dict[str, Any]]:
    values = dict.fromkeys(row[key] for row in rows)
    return {value: tally([row for row in rows if row[key] == value]) for value in values}


def line(row: dict[str, Any]) -> str:
    if "rungs" not in row:
        told = "passed" if row["passed"] else "FAILED: " + "; ".join(row["failed"])
        return f"{row['name']}, correct: {told} ({row['seconds']} s)"
    marks = "".join(
        letter if row[name] else "-" for letter, name in zip("CMR!", JUDGED, strict=True)
    )
    return f"{marks} {row['net']}: {row['name']}: {row['found_rung']}: {row['text']}"


def table(content: dict[str, Any]) -> str:
    """A row a net, and one of all."""
    head = ("", "bugs", "caught", "module right", "cause right", "wrong cause told")
    groups = {**content["tally_by_style"], **content["tally_by_net"], "all": content["tally"]}
    body = [(name, t["bugs"], *(t[key] for key in JUDGED)) for name, t in groups.items()]
    texts = [tuple(map(str, row)) for row in (head, *body)]
    widths = [max(len(row[i]) for row in texts) for i in range(len(head))]
    lines = ["  ".join(t.ljust(w) for t, w in zip(row, widths, strict=True)) for row in texts]
    several = content["tally"]
    lines.append(
        f"several faults at once: all causes right for {several['several_faults_right_cause']} of "
        f"{several['several_faults']}"
    )
    count = len(content["correct"])
    lines.append(f"correct pairs refused: {content['false_alarms']} of {count}")
    return "\n".join(lines)


if __name__ == "__main__":
    cli.run(main, Options)
