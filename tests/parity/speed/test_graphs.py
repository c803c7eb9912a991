"""CUDA graphs and compiled loops, as far as a CPU can tell: what is static, and what is kept."""

import contextlib
import dataclasses
from typing import Any

import jax
import numpy as np
import pytest
import torch
from speed_support import TINY, setup_of
from torch.utils._python_dispatch import TorchDispatchMode

from jax_impl.training.epoch import CHUNK
from parity.shell import provenance
from parity.speed import jax_side, notebook, torch_side
from parity.speed.bench import BenchWorker
from parity.speed.jax_side import make_jax_variant
from parity.speed.runner import CHECKED


class Reads(TorchDispatchMode):
    """Notes what every operator reads."""

    def __init__(self):
        super().__init__()
        self.pointers: list[tuple[str, int]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        for value in args:
            if isinstance(value, torch.Tensor):
                self.pointers.append((str(func), value.data_ptr()))
        return func(*args, **(kwargs or {}))


class Graph:
    """A CUDA graph's stand-in: it replays nothing."""

    captured: Any = None

    def replay(self) -> None:
        pass


@pytest.fixture
def graphs(monkeypatch) -> list[Reads]:
    """Has CUDA graphs captured on a CPU; returns what each captured work read."""
    found: list[Reads] = []

    @contextlib.contextmanager
    def capture(graph):
        with Reads() as reads:
            yield
        found.append(reads)

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", capture)
    monkeypatch.setattr(torch_side, "on_a_side_stream", lambda work: work())
    return found


def graphed(mode: Any) -> Any:
    setup = dataclasses.replace(setup_of(TINY, mode), settings={"cuda_graph": True, "fused": True})
    return torch_side.make_torch_variant(setup)


@pytest.mark.parametrize("mode", ["train", "inference"])
def test_a_captured_step_reads_the_images_where_they_are(mode, graphs):
    runner = graphed(mode)
    first = next(runner.losses())
    (reads,) = graphs
    gathered = [pointer for name, pointer in reads.pointers if name.startswith("aten.index.")]
    static = {runner.images.data_ptr(), runner.labels.data_ptr()}
    assert set(gathered) == (static if mode == "train" else {runner.images.data_ptr()})
    assert np.isfinite(first).all()


def test_a_capture_leaves_weights_and_optimizer_as_they_were(graphs):
    runner, eager = graphed("train"), torch_side.make_torch_variant(setup_of(TINY, "train"))
    before = {name: value.clone() for name, value in runner.model.state_dict().items()}
    runner.step.capture(runner.row())
    for name, value in runner.model.state_dict().items():
        assert torch.equal(value, before[name]), name
    # The graph does nothing here, but a batch of another size is a step of its own.
    assert isinstance(eager, torch_side.TrainSteps)
    runner.step.replay = lambda: None
    batch = torch.tensor([3, 1])
    np.testing.assert_allclose(runner.step(batch).item(), eager.eager_step(batch).item(), rtol=1e-6)
    for name, value in runner.model.state_dict().items():
        torch.testing.assert_close(value, eager.model.state_dict()[name], rtol=1e-5, atol=1e-6)


def static_inputs(monkeypatch, runner_settings: dict[str, Any]) -> list[tuple[int, bool]]:
    """Of each input of the compiled forward pass, its bytes and whether it is never copied."""
    from functorch.compile import make_boxed_func  # pyright: ignore[reportPrivateImportUsage]
    from torch._dynamo.backends.common import aot_autograd
    from torch._guards import TracingContext

    found: list[tuple[int, bool]] = []

    def forward(module, inputs):
        static = TracingContext.get().fw_metadata.static_input_indices  # pyright: ignore
        found.extend(
            (value.numel() * value.element_size(), place in static)
            for place, value in enumerate(inputs)
            if isinstance(value, torch.Tensor)
        )
        return make_boxed_func(module.forward)

    def backward(module, inputs):
        return make_boxed_func(module.forward)

    backend = aot_autograd(fw_compiler=forward, bw_compiler=backward)
    compiled = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda f, mode, dynamic: compiled(f, backend=backend, dynamic=dynamic)
    )
    torch._dynamo.reset()
    setup = dataclasses.replace(setup_of(TINY, "train"), settings=runner_settings)
    next(iter(torch_side.make_torch_variant(setup).losses()))
    return found


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch 2.11's own import
@pytest.mark.filterwarnings("ignore:Guards may run slower:RuntimeWarning")  # on Python 3.13.0
def test_what_torch_compile_captures_has_static_images(monkeypatch):
    found = static_inputs(monkeypatch, {"compile": "reduce-overhead", "fused": True})
    images = 64 * 32 * 32 * 3
    assert (images, True) in found and (images, False) not in found
    copied = [size for size, static in found if not static]
    assert copied == [4 * 8]  # the indices of a batch


def test_losses_that_a_replay_overwrites_are_cloned():
    setup = setup_of(TINY, "train")
    gpu = dataclasses.replace(setup, device="gpu")
    for settings, expected in (
        ({}, (False, False)),
        ({"compile": "default"}, (False, False)),
        ({"compile": "max-autotune"}, (False, True)),
        ({"compile": "reduce-overhead"}, (False, True)),
        ({"cuda_graph": True}, (True, True)),
    ):
        found = [
            torch_side.overwrites(dataclasses.replace(s, settings=settings)) for s in (setup, gpu)
        ]
        assert tuple(found) == expected, settings


def test_the_notebook_keeps_the_losses_of_replays(monkeypatch, graphs):
    """Every replay writes its loss where the last one did."""
    setup = dataclasses.replace(
        setup_of(TINY, "train"), settings={"cuda_graph": True, "fused": True}
    )
    values = iter([1.0, 2.0, 3.0, 4.0])
    captured = torch_side.Captured.capture

    def capture(self, batch):
        captured(self, batch)
        return lambda: self.loss.fill_(next(values))

    monkeypatch.setattr(torch_side.Captured, "capture", capture)
    monkeypatch.setattr(torch_side, "_accuracy", lambda steps, test: 0.5)
    clock = notebook.EpochClock()
    orders = np.arange(16)[None]  # four batches of four
    torch_side.train_notebook(setup, None, orders, clock)  # pyright: ignore[reportArgumentType]
    assert clock.epochs[0].loss == 2.5


@pytest.mark.parametrize("mode", ["train", "inference"])
def test_a_scanned_call_has_one_length_on_a_gpu(mode, monkeypatch, restored_jax):
    cpu = jax.devices("cpu")
    monkeypatch.setattr(jax, "devices", lambda platform=None: cpu)
    monkeypatch.setattr("parity.speed.jax_side.set_precision", lambda precision, device: None)
    setup = setup_of(TINY, mode)
    setup = dataclasses.replace(setup, settings={"scan": True}, device="gpu")
    worker, lengths = BenchWorker(), []
    monkeypatch.setattr("parity.speed.bench.load_setup", lambda *_: setup)
    chunk_order = jax_side._Scanned.chunk_order

    def noted(self):
        lengths.append(self.chunk)
        return chunk_order(self)

    monkeypatch.setattr("parity.speed.jax_side._Scanned.chunk_order", noted)
    found = worker.start(
        "parity.speed.jax_side:make_jax_variant", {}, dataclasses.asdict(setup.task), "gpu", 1e-3,
        "",
    )  # fmt: skip
    assert len(found["losses"]) == CHECKED and found["first_steps"] == CHUNK
    assert worker.runner.fit(3) == CHUNK and worker.runner.fit(260) == 3 * CHUNK
    worker.runner.advance(2 * CHUNK)
    assert set(lengths) == {CHUNK}
    on_a_cpu = make_jax_variant(dataclasses.replace(setup, device="cpu"))
    losses = [loss for call in on_a_cpu.losses() for loss in call]
    np.testing.assert_allclose(found["losses"], losses, rtol=1e-5)


def test_the_commit_of_a_copy_without_git(monkeypatch):
    def no_checkout(*_):
        raise OSError("no git")

    monkeypatch.setattr(provenance, "_git", no_checkout)
    monkeypatch.delenv("COMMIT", raising=False)
    assert provenance.commit() is None
    monkeypatch.setenv("COMMIT", "abc1234")
    assert provenance.commit() == "abc1234"
    monkeypatch.undo()
    monkeypatch.setenv("COMMIT", "abc1234")
    assert provenance.commit() != "abc1234"  # the checkout knows better
