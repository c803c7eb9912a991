"""What each of the processes is told, and what it leaves behind. Imports no framework."""

import dataclasses
import json
import socket
from pathlib import Path
from typing import Any, Literal

import numpy as np

LR, MOMENTUM = 0.01, 0.9
GIVEN, FOUND = "given.npz", "found-{}.npz"
WEIGHT = "weight:"
"""Before the names of the weights in a file that holds more."""


@dataclasses.dataclass(frozen=True)
class Task:
    """A training by plain SGD with momentum, in float64.

    Args:
        model: a spec.
        count: processes.
        batch: images in a batch; the last one of the order may be smaller.
        batch_norm: statistics of the whole batch, or of each process's share.
        folder: with `GIVEN`; each process leaves a file there.
    """

    model: str
    count: int
    batch: int
    batch_norm: Literal["global", "local"]
    folder: str

    def given(self) -> tuple[dict[str, np.ndarray], Any, Any, Any]:
        """The state_dict to begin with, images uint8 [n, h, w, 3], labels, and the order."""
        with np.load(Path(self.folder, GIVEN)) as held:
            return weights_in(held), held["images"], held["labels"], held["order"]

    def leave(self, rank: int, weights: dict[str, np.ndarray], losses: Any) -> None:
        """What a process came to: a state_dict, and the loss of each batch."""
        kept: Any = {WEIGHT + name: value for name, value in weights.items()}
        kept["losses"] = np.asarray(losses)
        np.savez(Path(self.folder, FOUND.format(rank)), **kept)


def weights_in(held: Any) -> dict[str, np.ndarray]:
    """Those of a file that holds more."""
    return {n.removeprefix(WEIGHT): held[n] for n in held.files if n.startswith(WEIGHT)}


def read_task(text: str) -> Task:
    """Of its JSON."""
    return Task(**json.loads(text))


def free_port() -> int:
    """A port of this machine on which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
