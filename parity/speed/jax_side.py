"""The JAX variants, of `jax_impl`'s own functions. Imports no PyTorch."""

import abc
import os
import sys
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from jax_impl.data.archive import Split
from jax_impl.data.datasets import normalize
from jax_impl.models import registry
from jax_impl.models.model import Model, from_spec
from jax_impl.ops import convolution, platform, pooling
from jax_impl.training import optim
from jax_impl.training.epoch import CHUNK, make_train_epoch
from jax_impl.training.evaluate import make_evaluate
from jax_impl.training.fit import Epoch, fit
from jax_impl.training.precision import be_deterministic, set_precision
from jax_impl.training.state import TrainState, create_state
from jax_impl.training.step import update
from parity.pairs.weights import to_flax
from parity.speed.notebook import EpochClock
from parity.speed.runner import CHECKED, ROWS, Runner, Setup, logits_norm
from parity.speed.workloads import Task

LEAST_CHUNK = 16
"""Batches of one scanned call. Training makes `train.CHUNK` of a call, and so pays once for the
memory of a step, which four would still pay a twentieth of their time for; few, for a block of slow
ones."""

COMPILE_EVENT = "/jax/core/compile/backend_compile_duration"

_COMPILE_EVENTS: list[float] = []


def make_jax_variant(setup: Setup) -> Runner:
    """The variant that `setup.settings` describe: `scan` runs many steps in one call.

    `lowering` takes a part of the fast path away: "im2col" Winograd's algorithm, "stock" all of it,
    so that XLA's own convolution and pooling serve. `every_weight` visits also weights that the
    model never reads. `deterministic` is as in `precision`.
    """
    kinds = {
        ("train", False): Steps,
        ("train", True): ScannedSteps,
        ("inference", False): Logits,
        ("inference", True): ScannedLogits,
    }
    return kinds[setup.task.mode, bool(setup.settings.get("scan"))](setup)


def configure(setup: Setup) -> Any:
    """The device and the precision of all that follows; returns the dtype to compute in."""
    if setup.settings.get("deterministic"):
        be_deterministic()
    jax.config.update("jax_default_device", jax.devices(setup.device)[0])
    dtype = set_precision(setup.task.precision, setup.device)
    if setup.settings.get("lowering") == "im2col":
        convolution.WINOGRAD_TILES = sys.maxsize
    if setup.settings.get("lowering") == "stock":
        convolution.conv2d, pooling.max_pool2d = convolution.conv2d_native, _stock_max_pool
    jax.monitoring.register_event_duration_secs_listener(_note_compilation)
    return dtype


def _note_compilation(event: str, duration_secs: float, **_: Any) -> None:
    if event == COMPILE_EVENT:
        _COMPILE_EVENTS.append(duration_secs)


def _stock_max_pool(images: jax.Array, window: int, stride: int, padding: int = 0) -> jax.Array:
    border = [(0, 0), (padding, padding), (padding, padding), (0, 0)]
    window_shape, strides = (1, window, window, 1), (1, stride, stride, 1)
    return lax.reduce_window(images, -jnp.inf, lax.max, window_shape, strides, border)


class _Base:
    def __init__(self, setup: Setup):
        self.setup, self.dtype = setup, configure(setup)
        self.model = from_spec(registry.parse(setup.task.model))
        self.images, self.labels = jax.device_put((setup.images, setup.labels))
        self.variables = to_flax(setup.weights, self.model)
        self.rows = [jnp.asarray(row) for row in setup.order]
        self.next = 0

    def row(self) -> Any:
        self.next += 1
        return self.rows[(self.next - 1) % ROWS]

    def fit(self, steps: int) -> int:
        return steps

    def facts(self) -> dict[str, Any]:
        stats = jax.devices(self.setup.device)[0].memory_stats() or {}
        return {
            "threads": _cores() if self.setup.device == "cpu" else None,
            "compile_seconds": sum(_COMPILE_EVENTS),
            "device_peak_bytes": stats.get("peak_bytes_in_use"),
        }


def _cores() -> int | None:
    """Of this process: XLA makes as many threads."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


class Steps(_Base):
    """`train.update` jitted, with the batch's gathering in the same call."""

    def __init__(self, setup: Setup):
        super().__init__(setup)
        optimizer = optim.create_optimizer("adam", setup.lr)
        model, dtype = self.model, self.dtype

        @partial(jax.jit, donate_argnums=0, compiler_options=platform.compiler_options())
        def step(state, images, labels, batch):
            return update(model, optimizer, state, images[batch], labels[batch], dtype)[:2]

        self.step = step
        self.state = create_state(self.variables, optimizer)

    def losses(self) -> Iterator[list[float]]:
        """Trains on `CHECKED` batches, one a call, and gives the loss of each."""
        for _ in range(CHECKED):
            self.state, loss = self.step(self.state, self.images, self.labels, self.row())
            yield [float(loss)]

    def advance(self, steps: int) -> None:
        """Takes `steps` steps, one a call, and waits for the device."""
        loss = None
        for _ in range(steps):
            self.state, loss = self.step(self.state, self.images, self.labels, self.row())
        jax.block_until_ready((self.state, loss))


class _Scanned(_Base, abc.ABC):
    """Whole chunks of `self.chunk` batches in one call.

    On a GPU each length is compiled anew, at length: all calls have that of training.
    """

    def __init__(self, setup: Setup):
        super().__init__(setup)
        self.one_length = setup.device == "gpu"
        self.chunk = CHUNK if self.one_length else CHECKED

    def fit(self, steps: int) -> int:
        if not self.one_length:
            self.chunk = max(LEAST_CHUNK, min(steps, CHUNK))
        fitted = max(1, round(steps / self.chunk)) * self.chunk
        self.advance(self.chunk)
        return fitted

    def chunk_order(self) -> np.ndarray:
        start, self.next = self.next, self.next + self.chunk
        return self.setup.order.take(range(start, self.next), axis=0, mode="wrap")

    @abc.abstractmethod
    def call(self) -> Any:
        """The next chunk."""

    def advance(self, steps: int) -> None:
        jax.block_until_ready([self.call() for _ in range(steps // self.chunk)])


class ScannedSteps(_Scanned):
    """`train.make_train_epoch`'s compiled loop."""

    def __init__(self, setup: Setup):
        super().__init__(setup)
        optimizer = optim.create_optimizer("adam", setup.lr)
        if setup.settings.get("every_weight"):
            optimizer = optax.GradientTransformation(*optimizer)
        self.state = create_state(self.variables, optimizer)
        self.epoch = make_train_epoch(self.model, optimizer, setup.task.batch_size, self.dtype)

    def losses(self) -> Iterator[list[float]]:
        """Trains on one chunk, in one call, and gives its losses."""
        yield self.call().tolist()

    def call(self) -> np.ndarray:
        """Trains on the next chunk; gives its losses [chunk]."""
        order, losses = self.chunk_order().ravel(), np.empty(0)
        for state, steps in self.epoch(self.state, self.images, self.labels, order):
            self.state, losses = state, steps.losses
        return losses


class Logits(_Base):
    """`model.apply`, jitted, with the batch's gathering in the same call."""

    def __init__(self, setup: Setup):
        super().__init__(setup)
        self.infer = jax.jit(partial(_logits, self.model, self.dtype))

    def call(self) -> jax.Array:
        """The logits of the next batch, perhaps not computed yet."""
        return self.infer(self.variables, self.images, self.row())

    def losses(self) -> Iterator[list[float]]:
        """The `logits_norm` of `CHECKED` batches, one a call."""
        for _ in range(CHECKED):
            yield [logits_norm(np.asarray(self.call()))]

    def advance(self, steps: int) -> None:
        """Infers `steps` batches, one a call, and waits for the device."""
        jax.block_until_ready([self.call() for _ in range(steps)])


class ScannedLogits(_Scanned):
    """The same over many batches by `lax.map`."""

    def __init__(self, setup: Setup):
        super().__init__(setup)
        logits = partial(_logits, self.model, self.dtype)

        @jax.jit
        def infer(variables, images, batches):
            return jax.lax.map(lambda batch: logits(variables, images, batch), batches)

        self.infer = infer

    def call(self) -> jax.Array:
        """The logits of the next chunk, [chunk, batch_size, classes], perhaps not computed yet."""
        return self.infer(self.variables, self.images, jnp.asarray(self.chunk_order()))

    def losses(self) -> Iterator[list[float]]:
        """The `logits_norm` of each batch of one chunk, in one call."""
        yield [logits_norm(logits) for logits in np.asarray(self.call())]


def _logits(
    model: Model, dtype: Any, variables: Any, images: jax.Array, batch: jax.Array
) -> jax.Array:
    return model.apply(variables, normalize(images[batch], dtype), train=False)[0]


def step_cost(task: Task, lr: float, images: int) -> dict[str, float]:
    """XLA's `flops` and `bytes accessed` of one jitted step of a task.

    Args:
        task: what the step is of; it is computed in float32 whatever its precision.
        lr: Adam's; of no matter in inference.
        images: in the data set that batches are taken from.
    """
    model, shape = from_spec(registry.parse(task.model)), jax.ShapeDtypeStruct
    data = shape((images, 32, 32, 3), jnp.uint8)
    labels = shape((images,), jnp.int32)
    batch = shape((task.batch_size,), jnp.int32)
    if task.mode == "inference":
        lowered = jax.jit(partial(_logits, model, jnp.float32)).lower(model.shapes, data, batch)
    else:
        optimizer = optim.create_optimizer("adam", lr)

        def step(state, images, labels, batch):
            return update(model, optimizer, state, images[batch], labels[batch])[:2]

        state = jax.eval_shape(lambda v: create_state(v, optimizer), model.shapes)
        lowered = jax.jit(step, donate_argnums=0).lower(state, data, labels, batch)
    analysis: Any = lowered.compile().cost_analysis()
    return {"flops": float(analysis["flops"]), "bytes": float(analysis["bytes accessed"])}


def matmul_rate(device: str, precision: str, sizes: tuple[int, ...], seconds: float) -> float:
    """The best FLOP/s of `jnp.dot` of square matrices of these sizes."""
    jax.config.update("jax_default_device", jax.devices(device)[0])
    dtype = jnp.bfloat16 if precision == "bf16" else jnp.float32
    # On a GPU the default precision of float32 products is TF32.
    dot = jax.jit(partial(jnp.dot, precision="highest" if precision == "float32" else "default"))
    best = 0.0
    for size in sizes:
        a = jnp.ones((size, size), dtype)
        dot(a, a).block_until_ready()
        stop = time.perf_counter() + seconds
        while True:
            started = time.perf_counter()
            dot(a, a).block_until_ready()
            ended = time.perf_counter()
            best = max(best, 2 * size**3 / (ended - started))
            if ended >= stop:
                break
    return best


def train_notebook(setup: Setup, test: Split, orders: np.ndarray, clock: EpochClock) -> None:
    """Trains an epoch on each of `orders` by `train.fit`, and evaluates after each."""
    dtype = configure(setup)
    clock.start()
    model = from_spec(registry.parse(setup.task.model))
    optimizer = optim.create_optimizer("adam", setup.lr)
    train_epoch = make_train_epoch(model, optimizer, setup.task.batch_size, dtype)
    state = create_state(to_flax(setup.weights, model), optimizer)
    evaluate = make_evaluate(model, dtype=dtype)

    def on_epoch(epoch: Epoch, state: TrainState) -> None:
        clock.epoch(epoch.loss, lambda: evaluate(state.variables, test))

    fit(train_epoch, state, Split(setup.images, setup.labels), orders, on_epoch=on_epoch)
