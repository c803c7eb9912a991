"""A training's run directory: config.json, metrics.jsonl, weights.safetensors.

Every file is written under a temporary name and renamed. Imports no framework.
"""

import dataclasses
import json
import math
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from jax_impl.errors import InputError

FORMAT = 1


class RunDirectory:
    """`path`, made now; it must not exist, or be empty.

    Raises:
      InputError: it exists and holds something, or cannot be written. So do the methods.
    """

    def __init__(self, path: Path | None, model: str, framework: str):
        name = time.strftime(f"{model}-{framework}-%Y%m%d-%H%M%S")
        self.path = path or Path("runs") / name
        self._metrics: list[dict[str, Any]] = []
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if any(self.path.iterdir()):
                raise InputError(f"{self.path} is not empty: pass another --out, or remove it")
        except OSError as error:
            raise _cannot_write(self.path, error) from error

    def config(self, config: Mapping[str, Any]) -> None:
        """Writes config.json: what was asked for, resolved, and where it ran."""
        self._write("config.json", (json.dumps(config, indent=2, default=str) + "\n").encode())

    def metrics(self, **row: Any) -> None:
        """Adds one line to metrics.jsonl."""
        finite = {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in row.items()
        }  # JSON has no NaN and no infinity: null stands for them
        self._metrics.append(finite)
        text = "".join(json.dumps(metric) + "\n" for metric in self._metrics)
        self._write("metrics.jsonl", text.encode())

    def weights(
        self, arrays: Mapping[str, np.ndarray], model: str, num_classes: int, framework: str
    ) -> None:
        """Writes weights.safetensors: a PyTorch state_dict, whichever framework trained it."""
        metadata = {
            "format": "pt",
            "format_version": str(FORMAT),
            "model": model,
            "num_classes": str(num_classes),
            "trained_by": framework,
        }
        self._write("weights.safetensors", safetensors.numpy.save(dict(arrays), metadata))

    def _write(self, name: str, content: bytes) -> None:
        try:
            handle, temporary = tempfile.mkstemp(prefix=f".{name}-", dir=self.path)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(content)
                os.chmod(temporary, 0o644)  # mkstemp makes it private
                os.replace(temporary, self.path / name)
            except BaseException:
                os.unlink(temporary)
                raise
        except OSError as error:
            raise _cannot_write(self.path / name, error) from error


def _cannot_write(path: Path, error: OSError) -> InputError:
    return InputError(f"cannot write {path}: {error.strerror or error}")


def config_of(options: Any, recipe: Any, data: Any, framework: str, device: str) -> dict[str, Any]:
    """What config.json holds: options as given and resolved, the data and why, the device."""
    given = dataclasses.asdict(options)
    return {
        **given,
        **dataclasses.asdict(recipe),
        "framework": framework,
        "data": data.name,
        "data_reason": data.reason,
        "device": device,
    }
