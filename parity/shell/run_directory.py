"""A training's run directory: config.json, metrics.jsonl, weights.safetensors.

Imports no framework.
"""

import contextlib
import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from jax_impl.errors import InputError
from jax_impl.models.registry import Spec
from jax_impl.training.checksums import checksums
from parity.shell.files import cannot_write, default_out, to_json, weights_metadata, write_whole

CONFIG, METRICS = "config.json", "metrics.jsonl"


class RunDirectory:
    """`path`, made now; it must not exist, or be empty.

    In a `with`, one that ends before there are metrics leaves nothing of it behind.

    Raises:
        InputError: it exists and holds something, or cannot be written. So do the methods.
    """

    def __init__(self, path: Path | None, model: str, framework: str):
        self.path = path or default_out(re.sub("[^a-z0-9_]", "-", f"{model}-{framework}"))
        self._metrics: list[dict[str, Any]] = []
        self._made = not self.path.exists()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if any(self.path.iterdir()):
                raise InputError(f"{self.path} is not empty: pass another --out, or remove it")
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def __enter__(self) -> "RunDirectory":
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: Any) -> None:
        if kind is None or self._metrics:
            return
        with contextlib.suppress(OSError):
            (self.path / CONFIG).unlink(missing_ok=True)
            if self._made:
                self.path.rmdir()

    def config(self, config: Mapping[str, Any]) -> None:
        """Writes config.json: what was asked for, resolved, and where it ran."""
        write_whole(self.path / CONFIG, (to_json(config, indent=2) + "\n").encode())

    def metrics(self, **row: Any) -> None:
        """Adds one line to metrics.jsonl."""
        self._metrics.append(row)
        text = "".join(to_json(metric) + "\n" for metric in self._metrics)
        write_whole(self.path / METRICS, text.encode())

    def stopped(self, stop: Any) -> str:
        """Notes where a loss was not finite, and gives the line that says what to do."""
        self.metrics(epoch=stop.epoch, step=stop.step, loss=stop.loss)
        return (
            f"STOPPED: {stop}: give a smaller --lr, a --warmup or a --clip-norm; --keep-going "
            f"trains on. {self.path} has what was measured, and no weights"
        )

    def weights(self, arrays: Mapping[str, np.ndarray], spec: Spec, framework: str) -> None:
        """Writes weights.safetensors: a PyTorch state_dict, whichever framework trained it."""
        metadata = weights_metadata(spec) | {"trained_by": framework} | checksums(arrays)
        content = safetensors.numpy.save(dict(arrays), metadata)
        write_whole(self.path / "weights.safetensors", content)


def config_of(
    options: Any, spec: Spec, recipe: Any, data: Any, framework: str, device: str
) -> dict[str, Any]:
    """What config.json holds: the recipe whole, the options, the data and why, the device."""
    asked = dataclasses.asdict(options)
    for name in ("padding", "reflect", "cutout_size"):  # the recipe's `augment` has them resolved
        del asked[name]
    return {
        **asked,
        **dataclasses.asdict(recipe),
        "recipe": options.recipe,
        "model": str(spec),
        "framework": framework,
        "data": data.name,
        "data_reason": data.reason,
        "device": device,
    }
