"""docs/notebook.ipynb runs, and shows that the frameworks agree."""

import json
import os
import re
import subprocess
import sys
from itertools import islice
from pathlib import Path

import jax
import numpy as np
from scipy import stats

import jax_impl

NOTEBOOK = Path(__file__).resolve().parents[1] / "docs" / "notebook.ipynb"
EPOCHS = 2
RUNS, FALSE_ALARMS = 8, 1e-4


def _first_losses():
    """Of the first epoch, of trainings in JAX whose weights are a rounding apart."""
    data = jax_impl.load_dataset("digits").train
    model, optimizer = jax_impl.create_model("simple_cnn"), jax_impl.optim.adam(0.001)
    train_epoch = jax_impl.make_train_epoch(model, optimizer, 32)
    rng, losses = np.random.default_rng(0), []
    for _ in range(RUNS):
        generator = jax_impl.Generator(0)
        variables = jax.tree.map(
            lambda w: w * (1 + rng.choice([-1, 1], w.shape) * np.float32(2**-23)),
            model.init(generator),
        )
        orders = islice(jax_impl.loader_orders(len(data.labels), generator), 1)
        state = jax_impl.create_state(variables, optimizer)
        losses.append(jax_impl.fit(train_epoch, state, data, orders)[1][0].loss)
    return losses


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
    runs = _first_losses()
    # The interval in which one more run lies but once in 1 / FALSE_ALARMS times.
    wide = stats.t.isf(FALSE_ALARMS / 2, RUNS - 1) * np.std(runs, ddof=1) * np.sqrt(1 + 1 / RUNS)
    assert np.abs(np.array(losses[0], float) - np.mean(runs)).max() <= wide
    first, second = map(float, re.findall(r"Accuracy: ([\d.]+) %", printed))
    assert first > 80 and abs(first - second) < 5
    difference = re.search(r"largest difference: ([\d.e-]+)", printed)
    assert difference and float(difference[1]) < 1e-4
