"""The data, batches and initial weights that all workers of a run share, and where it runs."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from parity.speed.bench import weights_path
from parity.speed.runner import ROWS, save_arrays


class PrepareWorker:
    """What the first worker does; it is the only one that loads data sets."""

    def environment(self, device: str) -> dict[str, Any]:
        """What `device` is here, and all of `parity.shell.environment.describe`.

        `device` is "auto", "cpu" or "gpu"; what it is here, "cpu" or "gpu", is the `kind`.
        """
        from parity.shell.environment import choose_device, describe

        chosen = choose_device(device)
        return {"kind": "gpu" if chosen == "cuda" else "cpu", **describe(chosen)}

    def save(
        self, data: str, data_dir: str | None, models: list[str], batch_sizes: list[int], seed: int,
        files: str,
    ) -> int:  # fmt: skip
        """Writes the arrays into the directory `files`; returns the number of images."""
        from jax_impl.data.datasets import load_dataset
        from jax_impl.models.model import from_spec
        from jax_impl.models.registry import parse
        from parity.pairs.weights import to_arrays

        dataset = load_dataset(data, Path(data_dir) if data_dir else None)
        images, labels = dataset.train.images, dataset.train.labels
        save_arrays(Path(files) / "data.npz", {"images": images, "labels": labels})
        orders = {str(n): order(len(labels), n, seed) for n in batch_sizes}
        save_arrays(Path(files) / "orders.npz", orders)
        for name in models:
            model = from_spec(parse(name))
            save_arrays(weights_path(Path(files), name), to_arrays(model.init(seed), model))
        return len(labels)

    def save_notebook(
        self, data: str, data_dir: str | None, epochs: int, seed: int, files: str
    ) -> None:
        """Writes what the notebook trains on: both splits, orders, and the small CNN's weights."""
        from jax_impl.data.datasets import load_dataset
        from jax_impl.models.model import create_model
        from jax_impl.torch_random.generator import Generator
        from jax_impl.torch_random.loader import loader_orders
        from parity.pairs.weights import to_arrays

        dataset, generator = (
            load_dataset(data, Path(data_dir) if data_dir else None),
            Generator(seed),
        )
        model = create_model("simple_cnn")
        weights = to_arrays(model.init(generator), model)
        save_arrays(weights_path(Path(files), "simple_cnn"), weights)
        orders = itertools.islice(loader_orders(len(dataset.train), generator), epochs)
        arrays = {
            "images": dataset.train.images,
            "labels": dataset.train.labels,
            "test_images": dataset.test.images,
            "test_labels": dataset.test.labels,
            "orders": np.stack(list(orders)).astype(np.int32),
        }
        save_arrays(Path(files) / "notebook.npz", arrays)


def order(images: int, batch_size: int, seed: int) -> np.ndarray:
    """int32 [ROWS, batch_size]: one permutation of the images after another, in batches."""
    rng = np.random.default_rng(seed)
    needed = ROWS * batch_size
    drawn = [rng.permutation(images) for _ in range(-(-needed // images))]
    return np.concatenate(drawn)[:needed].reshape(ROWS, batch_size).astype(np.int32)
