"""Trains a PyTorch model by several processes over loopback, and keeps what it comes to."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

import torch_ref.models
from parity.ladder.workers.task import free_port
from torch_ref import distributed
from torch_ref.data import TRANSFORM
from torch_ref.train import train

ROOT = Path(__file__).parents[1]
IMAGES = 60


def made_up(steps: int, batch: int, last: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Batches of images uint8 [n, 32, 32, 3] and labels [n]; the last one may be smaller."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (IMAGES, 32, 32, 3), dtype=np.uint8)
    labels = rng.integers(0, 10, IMAGES)
    chosen = [rng.integers(0, IMAGES, size) for size in (*[batch] * steps, *[last] * bool(last))]
    return [(images[rows], labels[rows]) for rows in chosen]


def trained(
    folder: Path, count: int, model: str, width: int, batch_norm: str, steps: int, batch: int,
    last: int = 0,
) -> dict[str, np.ndarray]:  # fmt: skip
    """The float64 state_dict after so many steps by `count` processes, and the loss of the epoch.

    Both are process 0's; the weights of the others are the same.
    """
    port = free_port()
    given = {"model": model, "width": width, "batch_norm": batch_norm}
    given |= {"steps": steps, "batch": batch, "last": last, "out": str(folder)}
    children = []
    for rank in range(count):
        environment = os.environ | {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "WORLD_SIZE": str(count),
            "RANK": str(rank),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        }
        command = [sys.executable, "-W", "error", "-m", "on_processes", json.dumps(given)]
        children.append(subprocess.Popen(command, env=environment))
    assert [child.wait() for child in children] == [0] * count
    found = [dict(np.load(folder / f"{rank}.npz")) for rank in range(count)]
    for other in found[1:]:
        for name, value in other.items():
            local = name.endswith(("running_mean", "running_var")) and batch_norm == "local"
            assert local or np.array_equal(value, found[0][name]), name
    return found[0]


def _train(told: dict[str, Any]) -> None:
    torch.manual_seed(0)
    net = torch_ref.models.create_model(told["model"], width=told["width"]).double()
    with distributed.joined() as processes:
        model = distributed.divided(net, processes, told["batch_norm"])
        batches = [
            (torch.stack([*map(TRANSFORM, images)]).double(), torch.from_numpy(labels))
            for images, labels in made_up(told["steps"], told["batch"], told["last"])
        ]
        optimizer = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9)
        (epoch,) = train(
            model,
            [batches],
            torch.nn.CrossEntropyLoss(),
            optimizer,
            processes=processes,
            print=lambda text: None,
        )
        arrays = {name: value.numpy() for name, value in net.state_dict().items()}
        arrays |= {"loss": np.array(epoch.loss), "accuracy": np.array(epoch.accuracy)}
        np.savez(Path(told["out"], f"{processes.rank}.npz"), **arrays)


if __name__ == "__main__":
    _train(json.loads(sys.argv[1]))
