"""What the documentation says is true: its table is current and its examples run."""

import re
from pathlib import Path

import torch

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
