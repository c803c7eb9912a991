"""What the documentation says is true: its table is current and its examples run."""

import re
import runpy
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import torch

import jax_impl
import parity
import torch_ref.data
import torch_ref.models
from jax_impl.models import registry
from parity.pairs.family import table

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
ASSERTED = "seeds", "weights"
"""Pages whose blocks have a test that says what they give."""
OTHERS = sorted(path.stem for path in DOCS.glob("*.md") if path.stem not in ASSERTED)
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(DOCS / f"{n}.md" for n in OTHERS)]


def test_the_table_of_models_is_current():
    assert table() in (DOCS / "models.md").read_text()


def test_every_option_of_a_model_is_explained():
    text = (DOCS / "models.md").read_text()
    options = {f.name for entry in registry.MODELS.values() for f in fields(entry.options)}
    assert not [name for name in options if f"| `{name}` |" not in text]


def test_readme_is_short_and_every_page_can_be_reached():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200
    seen, left = set(), [ROOT / "README.md"]
    while left:
        page = left.pop()
        seen.add(page)
        links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
        targets = {(page.parent / link).resolve() for link in links}
        assert not [target for target in targets if not target.exists()], page
        left += [
            t for t in targets if t.suffix == ".md" and t.parent in (ROOT, DOCS) and t not in seen
        ]
    assert {*DOCS.glob("*.md")} <= seen


def test_every_link_of_a_result_leads_somewhere():
    for page in (ROOT / "benchmarks").rglob("*.md"):
        links = re.findall(r"\]\(([^)#:]+)\)", page.read_text())
        assert not [link for link in links if not (page.parent / link).exists()], page


@pytest.mark.parametrize("package", [jax_impl, parity], ids=lambda package: package.__name__)
def test_the_reference_has_every_public_name(package):
    text = (DOCS / "api" / f"{package.__name__}.md").read_text()
    named = {line.rpartition(".")[2] for line in text.splitlines() if line.startswith("::: ")}
    assert named == {*package.__all__}


def blocks(path: Path) -> list[str]:
    """The Python code of a page, a block each."""
    return re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL)


def run_blocks(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """Runs a page's blocks in a folder, as they stand; returns what each defined.

    A block whose first line names a file is that file.
    """
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    found = []
    for number, block in enumerate(blocks(page)):
        named = re.match(r"# (\w+\.py)\n", block)
        path = Path(named[1] if named else f"block_{number}.py")
        path.write_text(block)
        found.append(runpy.run_path(str(path)))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_of_python_runs(page, tmp_path, monkeypatch):
    assert len(run_blocks(page, tmp_path, monkeypatch)) == len(blocks(page))


def test_no_python_hides_from_the_test_of_blocks():
    """Indented code of a page is of the shell, or is printed."""
    for path in (*PAGES, *(DOCS / f"{name}.md" for name in ASSERTED)):
        text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
        code = [line for line in text.splitlines() if re.match(r" {4}\S", line)]
        assert not [line for line in code if re.match(r" {4}(from \w+ import|import|def) ", line)]
        opened = re.findall(r"^```(\w*)$", path.read_text(), re.MULTILINE)
        assert set(opened) <= {"python", "text", ""}


def test_pretrained_weights_compute_the_same(tmp_path, monkeypatch):
    """Random weights in the place of the published ones; against PyTorch on the same image."""
    _, thousand, ten = run_blocks(DOCS / "weights.md", tmp_path, monkeypatch)
    twin = thousand["twin"].eval()
    with torch.no_grad():
        pixels = torch.zeros(1, 3, 224, 224)
        mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
        std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
        expected = twin((pixels - mean) / std)
    error = (torch.from_numpy(thousand["logits"].__array__().copy()) - expected).abs().max()
    assert error <= 1e-4 * expected.abs().max()
    assert ten["variables"].params["fc"]["kernel"].shape == (2048, 10)


@pytest.mark.proof
def test_the_port_of_the_pairs_page_fails_as_printed_and_passes_when_mended(tmp_path):
    """By the pytest plugin and by the command, in a folder that knows nothing of this project."""
    text, found = (DOCS / "pairs.md").read_text(), blocks(DOCS / "pairs.md")
    port, test = tmp_path / "my_port.py", tmp_path / "test_port.py"
    port.write_text(found[0])
    test.write_text(found[1])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(test)]
    failed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert failed.returncode == 1, failed.stdout + failed.stderr
    printed = re.search(r"first departs: (.*?), relative error .*(Cause: .*)", text)
    assert printed is not None
    assert f"first departs: {printed[1]}, relative" in failed.stdout
    assert printed[2] in failed.stdout
    port.write_text(found[0].replace("linen.gelu(x)", "linen.gelu(x, approximate=False)"))
    passed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert passed.returncode == 0, passed.stdout + passed.stderr
    command = [sys.executable, "-m", "parity", "run", "--pair", "my_port:make_pair", "--steps", "5"]
    ran = subprocess.run(
        [*command, "--rungs", "data", "forward", "trajectory", "--out", "report"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "convnext block" in (tmp_path / "report" / "report.html").read_text()


def test_the_example_of_seeds_is_pytorchs(tmp_path, monkeypatch):
    """The generator goes on through weights and order as PyTorch's does."""
    (found,) = run_blocks(DOCS / "seeds.md", tmp_path, monkeypatch)
    torch.manual_seed(7)
    torch_ref.models.create_model("resnet18")
    loader = torch_ref.data.make_loader(range(50_000), 1000, shuffle=True)  # pyright: ignore
    order = torch.cat(list(loader))
    assert (found["order"] == order.numpy()).all()
    for _ in range(50_000):  # the crop's two numbers and the flip's
        torch.empty(3).uniform_()
    torch.empty(3).uniform_(-1, 1)
    torch.empty(3).normal_(0, 0.02)
    torch.randint(0, 10, (3,))
    torch.randperm(10)
    torch.bernoulli(torch.full((3,), 0.5))
    assert (found["state"] == torch.get_rng_state().numpy()).all()
