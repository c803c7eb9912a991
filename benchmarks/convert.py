"""Converting resnet152's weights: seconds and peak memory of the whole command, each direction.

    python benchmarks/convert.py

Each direction runs `--repeats` times as a process of its own. Importing the frameworks takes a
good part of that memory whatever is converted, so converting resnet20's 1 MB stands beside it.
Writes convert.json and convert.md beside this file.
"""

import dataclasses
import os
import statistics
import subprocess
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

ROOT = Path(__file__).resolve().parents[1]
DIRECTIONS = ("a.pth", "b.safetensors"), ("b.safetensors", "c"), ("c", "d.pth")
SECONDS_BAR, MEMORY_BAR = 10.0, 4.0
MAKE = (
    "import sys, torch; from parity.pairs.pair import create_pair;"
    "torch.save(create_pair(sys.argv[1]).make_torch().state_dict(), sys.argv[2])"
)


@dataclasses.dataclass(frozen=True)
class Options:
    """Measures the conversion of a deep net's weights."""

    model: str = "resnet152:num_classes=1000"
    """whose weights"""

    repeats: int = 3
    """of each direction"""

    out: Path = ROOT / "benchmarks"
    """directory for convert.json and convert.md"""


def main(options: Options) -> None:
    """Measures, prints and writes."""
    if options.repeats < 1:
        raise InputError(f"--repeats is {options.repeats}: give 1 or more")
    registry.parse(options.model)
    options.out.mkdir(parents=True, exist_ok=True)
    rows = _measure(options.model, options.repeats)
    base = {row["direction"]: row["peak_mb"] for row in _measure("resnet20", 1)}
    rows = [row | {"small_model_peak_mb": base[row["direction"]]} for row in rows]
    # Only now: a child's peak counts what its parent held when it was forked.
    from parity.shell.environment import describe

    environment = describe("cpu") | {"command": "python benchmarks/convert.py"}
    content = {"environment": environment, "rows": rows}
    write_whole(options.out / "convert.json", (to_json(content, indent=2) + "\n").encode())
    text = to_markdown(environment, options.model, rows)
    write_whole(options.out / "convert.md", text.encode())
    print(text)


def _measure(model: str, repeats: int) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as name:
        folder, rows = Path(name), []
        _run([sys.executable, "-c", MAKE, model, str(folder / DIRECTIONS[0][0])])
        size = (folder / DIRECTIONS[0][0]).stat().st_size / 1e6
        for source, target in DIRECTIONS:
            script = [sys.executable, str(ROOT / "scripts" / "convert_weights.py"), "--overwrite"]
            command = [*script, str(folder / source), str(folder / target), "--model", model]
            samples = [_run(command) for _ in range(repeats)]
            rows.append(
                {
                    "direction": f"{_kind(source)} to {_kind(target)}",
                    "weights_mb": size,
                    "seconds": [seconds for seconds, _ in samples],
                    "peak_mb": max(peak for _, peak in samples),
                }
            )
    return rows


def _kind(name: str) -> str:
    return Path(name).suffix or "Orbax"


def _run(command: list[str]) -> tuple[float, float]:
    """Seconds, and the peak of resident memory in MB (Linux counts it in KiB)."""
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise InputError(f"{command[-1]} failed with status {process.returncode}")
    return time.perf_counter() - started, usage.ru_maxrss * 1024 / 1e6


def to_markdown(environment: dict[str, Any], model: str, rows: list[dict[str, Any]]) -> str:
    """A row a direction."""
    lines = [
        f"# Converting {model}",
        "",
        f"- command: `{environment['command']}`",
        f"- commit: {environment['commit']}",
        f"- {environment['cpu']}, {environment['cores']} cores",
        f"- weights: {rows[0]['weights_mb']:.0f} MB; bars: {SECONDS_BAR:.0f} s, peak memory under "
        f"{MEMORY_BAR:.0f} times the weights",
        "",
        "The peak is that of the whole process; beside it without what converting the 1 MB of "
        "resnet20 takes, which is the frameworks' imports.",
        "",
        "| direction | median s | peak MB | x weights | MB beyond resnet20's | x weights |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        peak, size = row["peak_mb"], row["weights_mb"]
        beyond = peak - row["small_model_peak_mb"]
        lines.append(
            f"| {row['direction']} | {statistics.median(row['seconds']):.1f} | {peak:.0f} | "
            f"{peak / size:.1f} | {beyond:.0f} | {beyond / size:.1f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    cli.run(main, Options)
