"""The laws of the house: arrows between rooms point one way, and no module is long."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LONGEST = 400

LEVELS = (
    # A room imports rooms of the lines below its own, and nothing else of this project.
    ("tests",),
    ("scripts", "benchmarks"),
    ("parity.__main__",),
    ("parity.program",),
    ("parity.commands",),
    ("parity.speed", "parity.study", "parity.checking"),
    ("parity.diagnosis", "parity.report"),
    ("parity.ladder",),
    ("parity.pairs",),
    ("parity.shell",),
    ("jax_impl.training", "torch_ref"),
    ("jax_impl.models",),
    ("jax_impl.ops", "jax_impl.torch_random", "jax_impl.data"),
    ("jax_impl.errors",),
)
FACES = ("jax_impl", "parity", "parity.pytest_plugin")
"""They name what is in the rooms, and load it when it is asked for."""

FORBIDDEN = {
    "jax_impl": ("torch", "torchvision", "torch_ref", "parity"),
    "torch_ref": ("jax", "flax", "optax", "jax_impl", "parity"),
}

LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}


def modules(root: Path) -> Iterator[tuple[str, Path]]:
    """Every module of the project, by its dotted name."""
    for top in ("jax_impl", "torch_ref", "parity", "scripts", "benchmarks", "tests"):
        for path in sorted((root / top).rglob("*.py")):
            name = ".".join(path.relative_to(root).with_suffix("").parts)
            yield name.removesuffix(".__init__"), path


def imported(path: Path) -> set[str]:
    """The dotted names that a module imports, at its head or within a function."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room(name: str) -> str | None:
    """The room of a module, or of a name in it; None outside of the project and in a face."""
    parts = name.split(".")
    return next((r for n in (2, 1) if (r := ".".join(parts[:n])) in LEVEL), None)


def violations(root: Path) -> list[str]:
    """A line for each law that is broken at `root`, which is laid out like this checkout."""
    found, arrows = [], set()
    for name, path in modules(root):
        lines = len(path.read_text().splitlines())
        if lines > LONGEST:
            found.append(f"{name} has {lines} lines, more than {LONGEST}")
        own = room(name)
        if own is None and name not in FACES:
            found.append(f"{name} is in no room")
        for other in sorted(imported(path)):
            top = other.split(".")[0]
            if top in FORBIDDEN.get(name.split(".")[0], ()):
                found.append(f"{name} imports {other}")
            there = room(other)
            if own is None or there is None or there == own:
                continue
            arrows.add((own, there))
            if LEVEL[there] <= LEVEL[own]:
                found.append(f"{name} imports {other}: {own} is not above {there}")
    return found + [f"{' -> '.join(cycle)} is a cycle" for cycle in cycles(arrows)]


def cycles(arrows: set[tuple[str, str]]) -> list[list[str]]:
    """The rooms that can be reached from themselves, each with one way round."""

    def way(start: str) -> list[str] | None:
        paths, seen = [[start]], set()
        while paths:
            path = paths.pop()
            for source, target in arrows:
                if source == path[-1] and target == start:
                    return [*path, start]
                if source == path[-1] and target not in seen:
                    seen.add(target)
                    paths.append([*path, target])
        return None

    return [found for start in sorted({a for a, _ in arrows}) if (found := way(start))]


def test_the_laws_hold():
    assert violations(ROOT) == []


def test_every_room_says_what_it_is_for():
    for name in LEVEL:
        path = ROOT / name.replace(".", "/")
        if path.is_dir() and name.split(".")[0] in ("jax_impl", "parity", "torch_ref"):
            doc = ast.get_docstring(ast.parse((path / "__init__.py").read_text()))
            assert doc and re.match(r"[A-Z].*?\.(\s|$)", doc, re.DOTALL), name
            assert any(f"`{n}/`" in CONTRIBUTING for n in (name.replace(".", "/"), f"{name}")), name


CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()


@pytest.mark.parametrize(
    "path, text, told",
    [
        ("parity/shell/cli.py", "from parity.ladder import numeric", "parity.shell is not above"),
        ("parity/pairs/pair.py", "def f():\n    import parity.report", "parity.pairs is not above"),
        ("parity/ladder/x.py", "from parity import diagnosis", "parity.ladder is not above"),
        ("parity/speed/x.py", "from parity import checking", "parity.speed is not above"),
        ("parity/commands/x.py", "import parity.__main__", "parity.commands is not above"),
        ("jax_impl/ops/x.py", "from jax_impl.models import layers", "jax_impl.ops is not above"),
        ("jax_impl/models/x.py", "import jax_impl.training.fit", "jax_impl.models is not above"),
        ("jax_impl/data/x.py", "import jax_impl.ops", "jax_impl.data is not above"),
        ("jax_impl/errors.py", "import jax_impl.data", "jax_impl.errors is not above"),
        ("jax_impl/ops/x.py", "def f():\n    import torch.nn", "imports torch.nn"),
        ("jax_impl/models/x.py", "from torch import nn", "imports torch.nn"),
        ("jax_impl/data/x.py", "import torch_ref.data", "imports torch_ref.data"),
        ("torch_ref/x.py", "import jax.numpy", "imports jax.numpy"),
        ("torch_ref/x.py", "from jax_impl import errors", "imports jax_impl.errors"),
        ("parity/drawer.py", "", "parity.drawer is in no room"),
        ("tests/test_x.py", "\n" * 401, "has 401 lines, more than 400"),
    ],
)
def test_a_broken_law_is_told(tmp_path, path, text, told):
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(text)
    assert any(told in line for line in violations(tmp_path))


def test_a_cycle_is_told():
    assert cycles({("a", "b"), ("b", "c"), ("d", "a")}) == []
    assert cycles({("a", "b"), ("b", "c"), ("c", "a")})[0] == ["a", "b", "c", "a"]


def test_every_proof_is_a_test():
    for node in (ROOT / "tests" / "proofs.txt").read_text().splitlines():
        path, _, function = node.partition("::")
        assert f"def {function.partition('[')[0]}(" in (ROOT / path).read_text(), node
