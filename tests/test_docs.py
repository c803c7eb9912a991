"""What the documentation says is true: its table is current and its examples run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import torch_ref.data
import torch_ref.models
from parity.family import table

DOCS = Path(__file__).resolve().parents[1] / "docs"


def test_the_table_of_models_is_current():
    assert table() in (DOCS / "models.md").read_text()


def test_the_example_of_pretrained_weights_runs(tmp_path, monkeypatch):
    """With random weights in the place of the published ones; against PyTorch on the same image."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    twin = torch_ref.models.create_model("resnet50", num_classes=1000).eval()
    torch.save(twin.state_dict(), "resnet50.pth")
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "weights.md").read_text(), re.DOTALL)
    assert len(blocks) == 2
    found: dict = {}
    for block in blocks[:1]:
        exec(block, found)
    with torch.no_grad():
        pixels = torch.zeros(1, 3, 224, 224)
        mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
        std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
        expected = twin((pixels - mean) / std)
    error = (torch.from_numpy(found["logits"].__array__().copy()) - expected).abs().max()
    assert error <= 1e-4 * expected.abs().max()
    exec(blocks[1], found)
    assert found["variables"].params["fc"]["kernel"].shape == (2048, 10)


@pytest.mark.proof
def test_the_port_of_the_pairs_page_fails_as_printed_and_passes_when_mended(tmp_path):
    """By the pytest plugin and by the command, in a folder that knows nothing of this project."""
    text = (DOCS / "pairs.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    port, test = tmp_path / "my_port.py", tmp_path / "test_port.py"
    port.write_text(blocks[0])
    test.write_text(blocks[1])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(test)]
    failed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert failed.returncode == 1, failed.stdout + failed.stderr
    printed = re.search(r"first departs: (.*?), relative error .*(Cause: .*)", text)
    assert printed is not None
    assert f"first departs: {printed[1]}, relative" in failed.stdout
    assert printed[2] in failed.stdout
    port.write_text(blocks[0].replace("linen.gelu(x)", "linen.gelu(x, approximate=False)"))
    passed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert passed.returncode == 0, passed.stdout + passed.stderr
    command = [sys.executable, "-m", "parity", "run", "--pair", "my_port:make_pair", "--steps", "5"]
    ran = subprocess.run(
        [*command, "--rungs", "data", "forward", "trajectory", "--out", "report"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "convnext block" in (tmp_path / "report" / "report.html").read_text()


def test_the_example_of_seeds_is_pytorchs():
    """The generator goes on through weights and order as PyTorch's does."""
    text = (DOCS / "seeds.md").read_text()
    lines = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    code = "\n".join(line for line in lines if not line.startswith("python"))
    found: dict = {}
    exec(code.replace("resnet18", "resnet20"), found)
    torch.manual_seed(7)
    torch_ref.models.create_model("resnet20")
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
