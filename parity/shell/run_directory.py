"""A training's run directory: config.json, metrics.jsonl, weights.safetensors, checkpoints.

Imports no framework.
"""

import contextlib
import dataclasses
import fcntl
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from jax_impl.errors import InputError
from jax_impl.models.registry import Spec
from jax_impl.training.checksums import checksums
from parity.shell.earlier import CONFIG
from parity.shell.files import cannot_write, default_out, to_json, weights_metadata, write_whole
from parity.shell.provenance import provenance

METRICS, WEIGHTS = "metrics.jsonl", "weights.safetensors"
CHECKPOINTS, CHECKPOINT = "checkpoints", "checkpoint.pt"
"""JAX's folder of them, and PyTorch's one."""
PACKAGES = {
    "jax": ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy"),
    "torch": ("torch", "torchvision", "numpy"),
}


class RunDirectory:
    """`path`, made now, and this process's until the end; it must not exist, or be empty.

    In a `with`, one that ends before there is anything of the training leaves nothing behind.

    Args:
        path: by default one under runs/, named by the model and the framework.
        model: trained in it.
        framework: it is trained in.
        resume: the path holds an earlier training that is gone on with.

    Raises:
        InputError: it exists and holds something, or is not there to be gone on with, or another
            process has it, or it cannot be written. So do the methods.
    """

    def __init__(self, path: Path | None, model: str, framework: str, resume: bool = False):
        self.path = path or default_out(re.sub("[^a-z0-9_]", "-", f"{model}-{framework}"))
        self.rows: list[dict[str, Any]] = []
        self._made = not (resume or self.path.exists())
        self.resumed = resume
        if self.path.is_file() or (self.path.is_symlink() and not self.path.exists()):
            what = "a file" if self.path.exists() else "a link to nothing"
            raise InputError(f"{self.path} is {what}: give a folder")
        try:
            if not resume:
                self.path.mkdir(parents=True, exist_ok=True)
                if any(self.path.iterdir()):
                    raise InputError(f"{self.path} is not empty: pass another --out, or remove it")
            self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise cannot_write(self.path, error) from error
        with contextlib.suppress(OSError):  # a file system without locks
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                os.close(self._lock)
                raise InputError(f"{self.path} is another process's that trains in it") from error

    def __enter__(self) -> "RunDirectory":
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: Any) -> None:
        os.close(self._lock)
        if kind is None or self.rows or self.resumed:
            return
        with contextlib.suppress(OSError):
            if (self.path / CHECKPOINTS).exists():
                (self.path / CHECKPOINTS).rmdir()  # not if one is in it
            if not (self.path / CHECKPOINT).exists():
                (self.path / CONFIG).unlink(missing_ok=True)
                if self._made:
                    self.path.rmdir()

    def steps(self) -> list[int]:
        """Those at which there is a checkpoint; of PyTorch's one, which does not say it, 0."""
        found = (self.path / CHECKPOINTS).glob("*")
        steps = [int(p.name) for p in found if p.name.isdecimal() and p.name.isascii()]
        return steps or [0] * (self.path / CHECKPOINT).is_file()

    def config(self, config: Mapping[str, Any]) -> None:
        """Writes config.json: what was asked for, resolved, and where it ran."""
        write_whole(self.path / CONFIG, (to_json(config, indent=2) + "\n").encode())

    def metrics(self, **row: Any) -> None:
        """Adds one line to metrics.jsonl."""
        self.again([*self.rows, row])

    def again(self, rows: list[dict[str, Any]]) -> None:
        """Makes these the lines of metrics.jsonl."""
        self.rows = rows
        text = "".join(to_json(metric) + "\n" for metric in rows)
        write_whole(self.path / METRICS, text.encode())

    def stopped(self, stop: Any, lr: float, saved: int) -> str:
        """Notes where a loss was not finite, and gives the line that says what to do.

        Args:
            stop: a `NotFinite`.
            lr: the learning rate of that step.
            saved: steps taken at the last checkpoint; 0 is none.
        """
        self.metrics(epoch=stop.epoch, step=stop.step, loss=stop.loss)
        last = f"its last checkpoint is of step {saved:,}" if saved else "it has no checkpoint"
        return (
            f"STOPPED: {stop}, with a learning rate of {lr:.3g}: give a smaller --lr, a --warmup "
            f"or a --clip-norm; --keep-going trains on. {self.path} has what was measured, and no "
            f"weights; {last}"
        )

    def weights(self, arrays: Mapping[str, np.ndarray], spec: Spec, framework: str) -> None:
        """Writes weights.safetensors: a PyTorch state_dict, whichever framework trained it."""
        metadata = weights_metadata(spec) | {"trained_by": framework} | checksums(arrays)
        content = safetensors.numpy.save(dict(arrays), metadata)
        write_whole(self.path / WEIGHTS, content)


class Followed(RunDirectory):
    """The run directory of another process, into which this one writes nothing."""

    def __init__(self, path: Path, resume: bool):
        self.path, self.resumed = path, resume
        self.rows: list[dict[str, Any]] = []

    def __exit__(self, kind: type[BaseException] | None, *error: Any) -> None:
        """Leaves it as it is."""

    def config(self, config: Mapping[str, Any]) -> None:
        """Is the other process's to write; so are the metrics and the weights."""

    def again(self, rows: list[dict[str, Any]]) -> None:
        """As `config`."""

    def weights(self, arrays: Mapping[str, np.ndarray], spec: Spec, framework: str) -> None:
        """As `config`."""


def check_space(path: Path, size: int, keep: int) -> None:
    """Whether there is room for checkpoints of `size` bytes in a folder, and for the weights.

    Raises:
        InputError: there is not.
    """
    needed = (keep + 3) * size  # the best, one that is being written, and the weights
    with contextlib.suppress(OSError):
        if (free := shutil.disk_usage(path).free) < needed:
            raise InputError(
                f"{path} has {free / 1e6:,.0f} MB free, and checkpoints take up to "
                f"{needed / 1e6:,.0f}: pass another --out, or --checkpoint-every 0"
            )


def config_of(
    options: Any, spec: Spec, recipe: Any, data: Any, framework: str, device: str
) -> dict[str, Any]:
    """What config.json holds: the recipe whole, the options, the data and why, where it runs."""
    asked = dataclasses.asdict(options)
    if options.data_dir is not None:  # wherever it is gone on from
        asked["data_dir"] = str(options.data_dir.expanduser().resolve())
    for name in ("padding", "reflect", "cutout_size", "alternate"):
        del asked[name]  # the recipe's `augment` has them resolved
    return {
        **asked,
        **dataclasses.asdict(recipe),
        "recipe": options.recipe,
        "model": str(spec),
        "framework": framework,
        "data": data.name,
        "data_reason": data.reason,
        "device": device,
        **provenance(PACKAGES[framework]),
    }
