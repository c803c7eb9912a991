"""How fast images come: all on the device, or read by Grain, in threads or in processes.

    python benchmarks/loaders.py

Trains in JAX on as many images of CIFAR-10 by each loader in turn, round by round, and reads them
without training. It wants a quiet machine, and CIFAR-10 as `parity prepare` leaves it. Writes
loaders.json, after every round, and loaders.md beside this file.
"""

import dataclasses
import shlex
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from jax_impl.data.datasets import open_dataset
from jax_impl.data.pipeline import Loader, held
from jax_impl.errors import InputError
from jax_impl.models import registry
from jax_impl.models.model import from_spec
from jax_impl.training import optim
from jax_impl.training.epoch import make_train_epoch
from jax_impl.training.fit import fit
from jax_impl.training.state import create_state
from parity.shell import cli
from parity.shell.environment import describe
from parity.shell.files import to_json, write_whole

ROOT = Path(__file__).resolve().parents[1]
WORKERS = {"device": None, "Grain, threads": 0, "Grain, 1 process": 1, "Grain, 2 processes": 2}


@dataclasses.dataclass(frozen=True)
class Options:
    """Times the loaders against each other."""

    models: tuple[str, ...] = ("simple_cnn@32",)
    """MODEL@BATCH"""

    images: int = 8_000
    """of CIFAR-10 in a round"""

    rounds: int = 5
    """of all loaders, after one that is not counted"""

    out: Path = ROOT / "benchmarks"
    """directory for loaders.json and loaders.md"""


def main(options: Options) -> None:
    """Measures, prints and writes."""
    if options.rounds < 1 or not 1 <= options.images <= 40_000:
        raise InputError("--rounds and --images: give 1 or more, and 40,000 images at most")
    options.out.mkdir(parents=True, exist_ok=True)
    train = open_dataset("cifar10").train
    first = dataclasses.replace(
        train, images=train.images[: options.images], labels=train.labels[: options.images]
    )
    kept, order = held(first), np.random.default_rng(0).permutation(options.images)
    line = shlex.join(["python", "benchmarks/loaders.py", *sys.argv[1:]])
    content: dict[str, Any] = {
        "environment": describe("cpu") | {"command": line},
        "images_per_second": {},
    }
    for text in options.models:
        name, _, batch = text.partition("@")
        if not batch.isdecimal():
            raise InputError(f"--models {text}: give MODEL@BATCH")
        model, optimizer = from_spec(registry.parse(name)), optim.adam(1e-3)
        epoch = make_train_epoch(model, optimizer, int(batch))
        found = content["images_per_second"][text] = {}
        for turn in range(options.rounds + 1):
            for title, workers in WORKERS.items():
                loader = None if workers is None else Loader(int(batch), workers)
                state = create_state(model.init(0), optimizer)
                began = time.perf_counter()
                fit(epoch, state, kept if loader is None else first, [order], loader=loader)
                _note(found, title, options.images, began, turn)
                if loader is not None:
                    began = time.perf_counter()
                    count = sum(len(labels) for _, labels in loader.parts(first, order))
                    _note(found, f"{title}, reading alone", count, began, turn)
            write_whole(options.out / "loaders.json", (to_json(content, indent=1) + "\n").encode())
            write_whole(options.out / "loaders.md", (_page(content) + "\n").encode())
    print(_page(content))


def _note(found: dict[str, Any], title: str, images: int, began: float, turn: int) -> None:
    if turn:  # the first one compiles
        found.setdefault(title, []).append(images / (time.perf_counter() - began))


def _page(content: dict[str, Any]) -> str:
    about = content["environment"]
    lines = [
        "# Loaders",
        "",
        "Images a second, the median and the range of the rounds, of training by each loader and of"
        f" reading alone: CIFAR-10, {about['cpu']}, {about['cores']} cores, commit "
        f"{about['commit']}. Processes are started anew for each epoch, here of few images.",
        "",
        "| model@batch | loader | images/s | range |",
        "| --- | --- | --- | --- |",
    ]
    for text, found in content["images_per_second"].items():
        for title, speeds in found.items():
            middle, least, most = statistics.median(speeds), min(speeds), max(speeds)
            lines.append(f"| {text} | {title} | {middle:,.0f} | {least:,.0f} to {most:,.0f} |")
    return "\n".join([*lines, "", f"`{about['command']}`, {about['date']}"])


if __name__ == "__main__":
    cli.run(main, Options)
