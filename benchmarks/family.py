"""Every model of the family against its PyTorch twin in float64: the relative errors, in a table.

    python benchmarks/family.py

Runs all of `FILE`, which holds the comparisons and their bars, and writes what it measured to
family.json and family.md beside this file.
"""

import dataclasses
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from jax_impl.models import registry
from parity.shell import cli
from parity.shell.files import to_json, write_whole

ROOT = Path(__file__).resolve().parents[1]
FILE = "tests/jax_impl/models/test_family.py"

TESTS = {
    "test_outputs_and_statistics_in_float64": "outputs and running statistics",
    "test_gradients_in_float64": "gradients of every parameter, 32x32",
}
BARS = dict(zip(TESTS.values(), (1e-11, 1e-10), strict=True))
EXACT = "test_where_the_bar_is_missed_pytorch_misses_it_too"


@dataclasses.dataclass(frozen=True)
class Options:
    """Measures every model of the family against its twin."""

    out: Path = ROOT / "benchmarks"
    """directory for family.json and family.md"""


def main(options: Options) -> int:
    """Returns 0 if the tests pass, which know of the one comparison that cannot meet its bar."""
    from parity.shell.environment import describe

    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", FILE, "-m", "", "-n", "2"]
        status = subprocess.run(
            [*command, "-o", "junit_family=legacy", f"--junitxml={report}"], cwd=ROOT
        ).returncode
        rows, exact = measured(report)
    environment = describe("cpu") | {"command": "python benchmarks/family.py"}
    content = {
        "environment": environment,
        "tests_passed": status == 0,
        "missed": missed(rows),
        "from_exact": exact,
        "errors": rows,
    }
    write_whole(options.out / "family.json", (to_json(content, indent=2) + "\n").encode())
    text = to_markdown(environment, status == 0, rows, exact)
    write_whole(options.out / "family.md", text.encode())
    print(text)
    return int(status != 0)


def measured(report: Path) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """What each comparison measured, and the distances from the exact result, of pytest's report"""
    rows, exact = [], {}
    for case in ElementTree.parse(report).iter("testcase"):
        test, _, parameters = case.attrib["name"].partition("[")
        found = {item.attrib["name"]: item.attrib["value"] for item in case.iter("property")}
        if test == EXACT:
            exact = {name: float(value) for name, value in found.items()}
        if test in TESTS and "relative_error" in found:
            model, _, size = parameters.rstrip("]").partition("-")
            row: dict[str, Any] = {"check": TESTS[test], "model": model, "size": size}
            rows.append(row | {"error": float(found["relative_error"])})
    names = list(registry.MODELS)
    rows.sort(key=lambda row: (names.index(row["model"].split(":")[0]), row["model"]))
    return rows, exact


def missed(rows: list[dict[str, Any]]) -> list[str]:
    """The comparisons over their bar."""
    over = [row for row in rows if not row["error"] <= BARS[row["check"]]]
    return [f"{row['model']} at {row['size']}: {row['error']:.1e}" for row in over]


def to_markdown(
    environment: dict[str, Any], passed: bool, rows: list[dict[str, Any]], exact: dict[str, float]
) -> str:
    """A row a model, a column an image size."""
    over = missed(rows)
    verdict = f"{len(rows) - len(over)} of {len(rows)} comparisons meet their bar"
    lines = [
        "# The family against PyTorch, float64",
        "",
        "The largest relative error of any tensor: the same weights in both frameworks, random "
        "statistics and affine terms. Bars: 1e-11 for outputs (eval and train mode) and running "
        "statistics, 1e-10 for gradients.",
        "",
        f"- command: `{environment['command']}`",
        f"- commit: {environment['commit']}",
        f"- {environment['cpu']}, {environment['cores']} cores",
        f"- **{verdict}**{'' if passed else '; **the tests FAILED**'}",
    ]
    if over:
        lines.append(f"- over it: {', '.join(over)}")
    if exact:
        lines.append(
            "- from the same net in 80-bit arithmetic PyTorch's own float64 result is "
            f"{exact['pytorch_from_exact']:.1e} off there, JAX's {exact['jax_from_exact']:.1e}"
        )
    for check in TESTS.values():
        found = {(row["model"], row["size"]): row["error"] for row in rows if row["check"] == check}
        sizes = list(dict.fromkeys(size for _, size in found))
        lines += ["", f"## {check.capitalize()}", ""]
        lines += [f"| model | {' | '.join(size or 'error' for size in sizes)} |"]
        lines += [f"| --- |{' ---: |' * len(sizes)}"]
        for model in dict.fromkeys(model for model, _ in found):
            cells = " | ".join(f"{found[model, size]:.1e}" for size in sizes)
            lines.append(f"| `{model}` | {cells} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    cli.run(main, Options)
