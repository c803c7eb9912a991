"""Trains on meshes of simulated devices, in a process of its own: JAX has one number of them."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import flax.nnx as nnx
import jax
import numpy as np

from jax_impl.data.augmentation import Augmentation
from jax_impl.models import registry
from jax_impl.models.layers import BatchNorm2d, Conv2d, Linear
from jax_impl.models.model import Model, from_module, from_spec
from jax_impl.ops.pooling import max_pool2d
from jax_impl.training import hosts, optim
from jax_impl.training import mesh as meshes
from jax_impl.training.averaging import with_average
from jax_impl.training.epoch import make_train_epoch
from jax_impl.training.mesh_axes import axes_of
from jax_impl.training.state import create_state
from parity.ladder.workers.task import free_port

ROOT = Path(__file__).parents[1]
SMALL = "small"
IMAGES = 120
AUGMENTATION = Augmentation(flip=True)
MESHES = ["data=8", "data=4,model=2"]
NEAR = 1e-10
"""Of float64's 1e-16: sums in another order, grown by the steps."""


def assert_near(found: dict[str, Any], near: float = NEAR) -> None:
    """Of what `trained` gives."""
    for text, told in found.items():
        assert told["state"] <= near and told["losses"] <= near and told["right"], (text, told)


class Small(nnx.Module):
    """A convolution, its normalisation, pooling, and a linear layer large enough to be cut."""

    def __init__(self, rng: Any):
        self.conv = Conv2d(3, 16, 3, padding=1, bias=False, rng=rng)
        self.norm = BatchNorm2d(16)
        self.linear = Linear(16 * 8 * 8, 20, flattened=(8, 8, 16), rng=rng)

    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """[n, 32, 32, 3] -> [n, 20]."""
        x: Any = max_pool2d(jax.nn.relu(self.norm(self.conv(images), train)), 4, 4)
        return self.linear(x.reshape(len(x), -1))


def small(parts: int) -> Model:
    """A net that is quickly compiled."""
    return from_module(SMALL, Small, parts)


def found_by(
    devices: int, cases: list[dict[str, Any]], dtype: str = "float64", processes: int = 1
) -> list[Any]:
    """What `trained` gives of each case, where JAX has so many devices, of so many processes.

    Of several processes all give it, and it has to be the same.
    """
    environment = os.environ | {
        "JAX_NUM_CPU_DEVICES": str(devices // processes),
        "JAX_ENABLE_X64": str(dtype == "float64"),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
    }
    command = [sys.executable, "-m", "on_devices", f"127.0.0.1:{free_port()}", str(processes)]
    pipe = subprocess.PIPE
    pipes: Any = {"stdin": pipe, "stdout": pipe, "stderr": pipe, "text": True}
    ranks = range(processes)
    made = [subprocess.Popen([*command, str(n)], env=environment, **pipes) for n in ranks]
    with ThreadPoolExecutor(processes) as executor:
        ended = [*executor.map(lambda one: one.communicate(json.dumps([dtype, cases])), made)]
    for process, (_, errors) in zip(made, ended, strict=True):
        assert process.returncode == 0, errors
    first, *others = [json.loads(output.splitlines()[-1]) for output, _ in ended]
    assert all(other == first for other in others)
    return first


def trained(
    dtype: str, model: str, steps: int, batch: int, meshed: list[str], parts: int, last: int = 0
) -> dict[str, Any]:
    """How far trainings on meshes are from that on one device.

    Args:
        dtype: of the weights.
        model: a spec, or `SMALL`.
        steps: of whole batches.
        batch: images in each.
        meshed: the meshes.
        parts: of a batch, each with statistics of its own.
        last: images in a batch after these.

    Returns:
        by mesh the largest difference of a leaf of the state and of a loss, each relative to the
        largest number in it, whether as many images were right, and which arrays are cut.
    """
    net = small(parts) if model == SMALL else from_spec(registry.parse(model), parts)
    optimizer = with_average(optim.sgd(0.01, momentum=0.9), 0.9)
    variables = jax.tree.map(lambda a: a.astype(dtype) if a.dtype == np.float32 else a, net.init(0))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (IMAGES, 32, 32, 3), dtype=np.uint8)
    labels = rng.integers(0, 10, IMAGES).astype(np.int32)
    order = rng.integers(0, IMAGES, steps * batch + last)

    def run(mesh: Any) -> tuple[Any, Any, Any]:
        state, data = create_state(variables, optimizer), (images, labels)
        if mesh is not None:
            state, data = meshes.put_state(mesh, state), meshes.put(mesh, data)
        how = batch, None, AUGMENTATION, 5, 0.1, mesh
        losses, right = [], 0
        for trained, told in make_train_epoch(net, optimizer, *how)(state, *data, order):
            state, right = trained, right + told.right
            losses.extend(told.losses)
        return state, np.array(losses), right

    state, losses, right = run(None)
    found = {}
    for text in meshed:
        mesh = meshes.make_mesh(axes_of(text), jax.devices())
        own, own_losses, own_right = run(mesh)
        paths = jax.tree_util.tree_flatten_with_path(own.params)[0]
        cut = {
            "/".join(key.key for key in keys): array.sharding.shard_shape(array.shape)
            for keys, array in paths
            if not array.sharding.is_fully_replicated
        }
        own = meshes.fetched(mesh, own)
        pairs = zip(jax.tree.leaves(own), jax.tree.leaves(state), strict=True)
        found[text] = {
            "state": max(_relative(one, other) for one, other in pairs),
            "losses": _relative(own_losses, losses),
            "right": bool(own_right == right),
            "cut": cut,
        }
    return found


def _relative(one: Any, other: Any) -> float:
    one, other = np.asarray(one), np.asarray(other)
    assert one.dtype == other.dtype and one.shape == other.shape
    largest = float(np.max(np.abs(other), initial=0))
    return float(np.max(np.abs(one - other), initial=0)) / (largest or 1.0)


if __name__ == "__main__":
    where, count, number = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    hosts.join(where if count > 1 else None, count, number)
    kind, asked = json.load(sys.stdin)
    print(json.dumps([trained(kind, **case) for case in asked]), flush=True)
    hosts.leave()
