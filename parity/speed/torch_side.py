"""The PyTorch variants: the notebook's training step, and PyTorch's own ways to make it faster.

Imports no JAX.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import torch_ref.models
from jax_impl.data.archive import Split
from jax_impl.models import registry
from parity.speed.notebook import EpochClock
from parity.speed.runner import CHECKED, ROWS, Runner, Setup, logits_norm
from torch_ref.precision import allow_tf32

EVALUATION_BATCH = 100
WARM_UP_STEPS = 3
"""On a side stream before a CUDA graph is captured, as PyTorch's notes on CUDA graphs have it."""


def make_torch_variant(setup: Setup) -> Runner:
    """The variant that `setup.settings` describe.

    `channels_last`, `fused` (the optimizer), `compile` (a mode of torch.compile), `freezing`
    (weights are constants of the compiled code), `cuda_graph` (captured by hand), and `float64`.
    """
    return TrainSteps(setup) if setup.task.mode == "train" else Logits(setup)


class BatchLogits(nn.Module):
    """Gathers a batch of uint8 images, normalises it and applies the model."""

    def __init__(self, model: nn.Module, setup: Setup):
        super().__init__()
        self.model = model
        self.dtype = torch.float64 if setup.settings.get("float64") else torch.float32
        self.channels_last = bool(setup.settings.get("channels_last"))
        self.device_type = "cuda" if setup.device == "gpu" else "cpu"
        self.bf16 = setup.task.precision == "bf16"
        # A captured graph must not hold casts of the weights that were made outside of it.
        self.cache = not setup.settings.get("cuda_graph")

    def forward(self, images: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
        """The logits of the images at the indices `batch`."""
        x = images[batch]
        if self.channels_last:
            x = x.permute(0, 3, 1, 2)
        x = (x.to(self.dtype) / 255 - 0.5) / 0.5
        with torch.autocast(
            self.device_type, torch.bfloat16, enabled=self.bf16, cache_enabled=self.cache
        ):
            return self.model(x)


class Loss(nn.Module):
    """The mean cross entropy of a batch."""

    def __init__(self, logits: BatchLogits):
        super().__init__()
        self.logits = logits

    def forward(
        self, images: torch.Tensor, labels: torch.Tensor, batch: torch.Tensor
    ) -> torch.Tensor:
        """The loss of the images and labels at the indices `batch`, a scalar."""
        return F.cross_entropy(self.logits(images, batch).to(self.logits.dtype), labels[batch])


class _Base:
    def __init__(self, setup: Setup):
        allow_tf32(setup.task.precision == "tf32")
        self.setup, settings = setup, setup.settings
        self.device = torch.device("cuda" if setup.device == "gpu" else "cpu")
        spec = registry.parse(setup.task.model)
        model: Any = torch_ref.models.create_model(spec.name, **dataclasses.asdict(spec.options))
        model.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in setup.weights.items()})
        channels_last = bool(settings.get("channels_last"))
        self.model: nn.Module = model.to(
            device=self.device,
            dtype=torch.float64 if settings.get("float64") else torch.float32,
            memory_format=torch.channels_last if channels_last else torch.preserve_format,
        )
        # Each layout finds its images stored as it reads them.
        images = setup.images if channels_last else setup.images.transpose(0, 3, 1, 2)
        self.images = torch.from_numpy(np.ascontiguousarray(images)).to(self.device)
        self.labels = torch.from_numpy(setup.labels.astype(np.int64)).to(self.device)
        if settings.get("compile"):
            # Else each replay of a CUDA graph copies the whole data set to a place of its own.
            for tensor in (self.images, self.labels):
                torch._dynamo.mark_static_address(tensor)
        self.rows = list(torch.from_numpy(setup.order.astype(np.int64)).to(self.device))
        self.logits = BatchLogits(self.model, setup)
        self.next = 0

    def row(self) -> torch.Tensor:
        self.next += 1
        return self.rows[(self.next - 1) % ROWS]

    def compiled(self, function: Any) -> Any:
        mode = self.setup.settings.get("compile")
        if mode is None:
            return function
        if self.setup.settings.get("freezing"):
            from torch._inductor import config

            config.freezing = True
        # Each shape has code of its own: none is made for any shape.
        return torch.compile(function, mode=mode, dynamic=False)

    def fit(self, steps: int) -> int:
        return steps

    def facts(self) -> dict[str, Any]:
        cuda = self.device.type == "cuda"
        return {
            "threads": torch.get_num_threads(),
            "compile_seconds": compile_seconds() if self.setup.settings.get("compile") else None,
            "device_peak_bytes": torch.cuda.max_memory_allocated() if cuda else None,
        }

    def synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


class TrainSteps(_Base):
    """The notebook's step: zero the gradients, loss, backward, step."""

    def __init__(self, setup: Setup):
        super().__init__(setup)
        self.model.train()
        self.loss = self.compiled(Loss(self.logits))
        self.optimizer = adam(self.model, setup)
        self.step = Captured(self) if setup.settings.get("cuda_graph") else self.eager_step

    def eager_step(self, batch: torch.Tensor) -> torch.Tensor:
        """One step on the images at the indices `batch`; gives its loss."""
        if self.setup.settings.get("compile"):  # some modes replay CUDA graphs
            torch.compiler.cudagraph_mark_step_begin()
        self.optimizer.zero_grad()
        loss = self.loss(self.images, self.labels, batch)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def kept(self, loss: torch.Tensor) -> torch.Tensor:
        """The loss of a step where the next step does not overwrite it."""
        return loss.clone() if overwrites(self.setup) else loss

    def losses(self) -> Iterator[list[float]]:
        """Trains on `CHECKED` batches, and gives the loss of each."""
        for _ in range(CHECKED):
            yield [self.step(self.row()).item()]

    def advance(self, steps: int) -> None:
        """Takes `steps` steps, and waits for the device."""
        for _ in range(steps):
            self.step(self.row())
        self.synchronize()


class Captured:
    """`eager_step` as one CUDA graph, captured at the first call and replayed by every one.

    A batch of another size than the first, as the last of an epoch, is no replay but a step.
    """

    def __init__(self, steps: TrainSteps):
        self.steps = steps
        self.replay: Callable[[], None] | None = None

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """A step on the images at the indices `batch`; gives its loss, until the next replay."""
        if self.replay is None:
            self.replay = self.capture(batch)
        if len(batch) != len(self.batch):  # the last of an epoch
            return self.steps.eager_step(batch)
        self.batch.copy_(batch)
        self.replay()
        return self.loss

    def capture(self, batch: torch.Tensor) -> Callable[[], None]:
        """Leaves the weights and the optimizer as they were."""
        self.batch, steps = batch.clone(), self.steps
        before = {name: value.clone() for name, value in steps.model.state_dict().items()}
        on_a_side_stream(lambda: steps.eager_step(self.batch))
        steps.optimizer.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.loss = steps.eager_step(self.batch)
        # The graph holds these tensors: the warm-up's steps are undone in place.
        steps.model.load_state_dict(before)
        for state in steps.optimizer.state.values():
            for value in state.values():
                value.zero_()
        return graph.replay


class Logits(_Base):
    """The model in eval mode, in inference mode."""

    def __init__(self, setup: Setup):
        super().__init__(setup)
        self.model.eval()
        self.infer = self.compiled(self.logits)
        self.replay: Callable[[], None] | None = None

    def call(self) -> torch.Tensor:
        """The logits of the next batch, perhaps not computed yet."""
        settings, batch = self.setup.settings, self.row()
        if settings.get("cuda_graph"):
            return self.replayed(batch)
        if settings.get("compile"):
            torch.compiler.cudagraph_mark_step_begin()
        return self.infer(self.images, batch)

    def replayed(self, batch: torch.Tensor) -> torch.Tensor:
        """The same by one CUDA graph, captured at the first call."""
        if self.replay is None:
            self.batch = batch.clone()
            on_a_side_stream(lambda: self.infer(self.images, self.batch))
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self.output = self.infer(self.images, self.batch)
            self.replay = graph.replay
        self.batch.copy_(batch)
        self.replay()
        return self.output

    def losses(self) -> Iterator[list[float]]:
        """The `logits_norm` of each of `CHECKED` batches."""
        for _ in range(CHECKED):
            with no_gradients(self.setup):
                logits = self.call()
            yield [logits_norm(logits.to(self.logits.dtype).cpu().numpy())]

    def advance(self, steps: int) -> None:
        """Infers `steps` batches, and waits for the device."""
        with no_gradients(self.setup):
            for _ in range(steps):
                self.call()
        self.synchronize()


def overwrites(setup: Setup) -> bool:
    """Whether outputs lie in the memory of a CUDA graph, which the next replay uses again."""
    graphs = ("reduce-overhead", "max-autotune")  # torch.compile's modes that have them
    by_compile = setup.device == "gpu" and setup.settings.get("compile") in graphs
    return bool(setup.settings.get("cuda_graph") or by_compile)


def no_gradients(setup: Setup) -> contextlib.AbstractContextManager[Any]:
    """Inference mode; what torch.compile freezes must not be an inference tensor."""
    return torch.no_grad() if setup.settings.get("freezing") else torch.inference_mode()


def on_a_side_stream(work: Callable[[], Any]) -> None:
    """Runs `work` a few times where a CUDA graph may be captured after it."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP_STEPS):
            work()
    torch.cuda.current_stream().wait_stream(stream)


def adam(model: nn.Module, setup: Setup) -> torch.optim.Optimizer:
    """Adam with PyTorch's defaults, or fused, and able to be captured."""
    options: dict[str, Any] = {"fused": True} if setup.settings.get("fused") else {}
    if setup.settings.get("cuda_graph"):
        options["capturable"] = True
    return torch.optim.Adam(model.parameters(), lr=setup.lr, **options)


def compile_seconds() -> float | None:
    """What torch.compile says of the time it took; None where it says nothing."""
    try:
        from torch._dynamo.utils import calculate_time_spent

        return calculate_time_spent()["total_wall_time"]
    except (ImportError, KeyError):
        return None


def matmul_rate(device: str, precision: str, sizes: tuple[int, ...], seconds: float) -> float:
    """The best FLOP/s of `torch.mm` of square matrices of these sizes."""
    allow_tf32(precision == "tf32")
    where = "cuda" if device == "gpu" else "cpu"
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    best = 0.0
    for size in sizes:
        a = torch.ones(size, size, device=where, dtype=dtype)
        best = max(best, 2 * size**3 / _least_seconds(lambda a=a: torch.mm(a, a), where, seconds))
    return best


def copy_rate(device: str, size: int, seconds: float) -> float:
    """The best bytes/s, read and written, of copying `size` bytes into another tensor."""
    where = "cuda" if device == "gpu" else "cpu"
    source = torch.ones(size // 4, device=where)
    target = torch.empty_like(source)
    return 2 * 4 * source.numel() / _least_seconds(lambda: target.copy_(source), where, seconds)


def _least_seconds(work: Callable[[], Any], where: str, seconds: float) -> float:
    """Of the calls that `seconds` hold, after one to warm up."""

    def timed() -> float:
        started = time.perf_counter()
        work()
        if where == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    timed()
    stop, least = time.perf_counter() + seconds, timed()
    while time.perf_counter() < stop:
        least = min(least, timed())
    return least


def train_notebook(setup: Setup, test: Split, orders: np.ndarray, clock: EpochClock) -> None:
    """Trains an epoch on each of `orders`, the last batch smaller, and evaluates after each."""
    clock.start()
    steps, size = TrainSteps(setup), setup.task.batch_size
    for order in torch.from_numpy(orders.astype(np.int64)).to(steps.device):
        losses = [steps.kept(steps.step(batch)) for batch in order.split(size)]
        clock.epoch(torch.stack(losses).double().mean().item(), lambda: _accuracy(steps, test))


def _accuracy(steps: TrainSteps, test: Split) -> float:
    """Top-1, in eval mode."""
    held = dataclasses.replace(steps.setup, images=test.images, labels=test.labels)
    layout = held.images if steps.logits.channels_last else held.images.transpose(0, 3, 1, 2)
    images = torch.from_numpy(np.ascontiguousarray(layout)).to(steps.device)
    labels = torch.from_numpy(held.labels.astype(np.int64)).to(steps.device)
    steps.model.eval()
    with torch.inference_mode():
        correct = sum(
            (steps.logits(images, batch).argmax(1) == labels[batch]).sum()
            for batch in torch.arange(len(labels), device=steps.device).split(EVALUATION_BATCH)
        )
    steps.model.train()
    return int(correct) / len(labels)
