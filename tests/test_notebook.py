"""docs/notebook.ipynb runs, and shows that the frameworks agree."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

NOTEBOOK = Path(__file__).resolve().parents[1] / "docs" / "notebook.ipynb"
EPOCHS = 2


def test_the_notebook_runs_and_both_frameworks_say_the_same(tmp_path):
    text = NOTEBOOK.read_text()
    told = json.loads(text)
    assert not any(cell.get("outputs") for cell in told["cells"]), "commit it without outputs"
    assert "EPOCHS, SEED = 5, 0" in text
    copy = tmp_path / "notebook.ipynb"
    copy.write_text(text.replace("EPOCHS, SEED = 5, 0", f"EPOCHS, SEED = {EPOCHS}, 0"))
    command = [sys.executable, "-m", "jupyter", "execute", "--inplace", "notebook.ipynb"]
    env = os.environ | {"NOTEBOOK_DATA": "digits"}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    cells = [cell for cell in json.loads(copy.read_text())["cells"] if cell["cell_type"] == "code"]
    printed = "".join(
        "".join(output.get("text", [])) for cell in cells for output in cell["outputs"]
    )
    assert "the same numbers: True" in printed and "the same weights: True" in printed
    losses = re.findall(r"epoch \d: PyTorch ([\d.]+), JAX ([\d.]+)", printed)
    assert len(losses) == EPOCHS
    assert abs(float(losses[0][0]) - float(losses[0][1])) < 1e-4
    first, second = map(float, re.findall(r"Accuracy: ([\d.]+) %", printed))
    assert first > 80 and abs(first - second) < 5
    difference = re.search(r"largest difference: ([\d.e-]+)", printed)
    assert difference and float(difference[1]) < 1e-4
