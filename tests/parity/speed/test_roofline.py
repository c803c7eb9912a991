"""The work of a task, and the floor that the machine sets it."""

import dataclasses

import pytest
from speed_support import TASK, TINY, timing

from jax_impl.models import registry
from parity.speed import (
    roofline,
)
from parity.speed.results import TaskResult
from parity.speed.workloads import Task


@pytest.mark.parametrize("model", ["simple_cnn", "resnet18", "resnet18:stem=cifar", "resnet50"])
def test_flops_by_hand_are_pytorchs(model):
    from parity.pairs.family import forward_flops

    counted = roofline.by_hand(Task(model, 8, "inference", "float32"))
    assert counted["dense_flops"] == 8 * forward_flops(registry.parse(model), 32)
    assert 0 < counted["flops"] < counted["dense_flops"]
    trained = roofline.by_hand(Task(model, 8, "train", "float32"))
    assert trained["dense_flops"] == training_flops(model, 8)


def training_flops(model: str, batch_size: int) -> int:
    """PyTorch's own count of a forward and a backward pass."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    import torch_ref.models

    spec = registry.parse(model)
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        net = torch_ref.models.create_model(spec.name, **dataclasses.asdict(spec.options))
        net(torch.zeros(batch_size, 3, 32, 32)).sum().backward()
    return counter.get_total_flops()


def test_products_with_padding_are_left_out():
    assert roofline.taps(size=1, outputs=1, kernel=3, stride=1, padding=1, dilation=1) == [0, 1, 0]
    assert roofline.taps(size=4, outputs=4, kernel=3, stride=1, padding=1, dilation=1) == [3, 4, 3]
    assert roofline.taps(size=8, outputs=4, kernel=3, stride=2, padding=1, dilation=1) == [3, 4, 4]
    assert roofline.taps(size=5, outputs=3, kernel=3, stride=1, padding=0, dilation=1) == [3, 3, 3]


def test_bytes_by_hand():
    # 3072 + 32x32x32 + 64x16x16 + 512 + 10 numbers of an image, and 2,122,186 parameters.
    outputs, parameters = 3072 + 32768 + 16384 + 522, 2_122_186
    counted = roofline.by_hand(Task("simple_cnn", 8, "inference", "float32"))
    assert counted["bytes"] == 4 * (parameters + 8 * outputs)
    counted = roofline.by_hand(Task("simple_cnn", 8, "train", "float32"))
    assert counted["bytes"] == 4 * (8 * parameters + 2 * 8 * outputs)
    counted = roofline.by_hand(Task("simple_cnn", 8, "train", "bf16"))
    assert counted["bytes"] == 4 * 8 * parameters + 2 * 2 * 8 * outputs


def test_weights_that_only_meet_padding_are_no_bytes():
    # resnet18's last maps are 2x2, then 1x1: of a kernel's nine taps four and, three times, one.
    unread = 256 * 512 * 5 + 3 * 512 * 512 * 8
    found, parameters = roofline.layers("resnet18")
    assert sum(layer.unread for layer in found) == unread
    counted = roofline.by_hand(Task("resnet18", 0, "train", "float32"))
    assert counted["bytes"] == 4 * 8 * (parameters - unread)


@pytest.mark.parametrize("mode", ["train", "inference"])
def test_xlas_count_holds_the_products(mode, restored_jax):
    found = roofline.RooflineWorker().work(
        dataclasses.asdict(Task(TINY, 4, mode, "float32")), "cpu", 1e-3, images=64
    )
    assert found["flops"] <= found["xla_flops"] <= 3 * found["dense_flops"]
    assert found["xla_bytes"] > 0


def test_the_floor_and_how_near_the_best_comes():
    work = roofline.Work(flops=200.0, dense_flops=0, bytes=30.0, xla_flops=0, xla_bytes=0)
    ceilings = roofline.Ceilings(jax_flops=50.0, torch_flops=100.0, bytes=10.0)
    assert roofline.floor(work, ceilings) == roofline.Floor(overlapped=3.0, added=5.0)
    result = TaskResult(TASK, (timing("JAX", "jit", [1.0]),), None, work, ceilings)
    assert result.nearness("JAX") == pytest.approx(3 / 4)  # a step of 4 images takes 4 s
    assert result.nearness("PyTorch") is None
