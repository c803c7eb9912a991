"""Training by several processes, as `torchrun` starts them: each takes its share of every batch.

`DistributedDataParallel` averages the gradients of the processes' own losses. `train.train` counts
each loss as its share of the batch does, so that the average is the gradient of the whole batch's
mean loss, also where the shares are not of one size.
"""

import contextlib
import dataclasses
import os
import re
import threading
import time
from collections.abc import Iterator
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from torch_ref.errors import InputError

LOST = re.compile(r"by peer|[Cc]onnection|NCCL|[Tt]imed out|[Tt]imeout|ProcessGroup")
"""In what gloo and nccl say of a process that does not answer."""

PATIENCE = 300.0
"""Seconds in which all of them have to come."""


@dataclasses.dataclass(frozen=True)
class Processes:
    """How many train together, and which of them this one is, from 0."""

    count: int = 1
    rank: int = 0

    def share(self, batch: torch.Tensor) -> torch.Tensor:
        """This process's part of a batch [n, ...], as `torch.tensor_split` divides it.

        Raises:
            InputError: the batch has not one example for each process.
        """
        if len(batch) < self.count:
            raise InputError(
                f"a batch of {len(batch)} images has not one for each of {self.count} processes: "
                "give another --batch-size"
            )
        return batch.tensor_split(self.count)[self.rank]

    def any(self, flag: bool, device: str | torch.device = "cpu") -> bool:
        """Whether it is so in any of them; each has to ask. `device` is where they train."""
        return bool(self.total(torch.tensor(int(flag), device=device)))

    def gathered(self, value: Any) -> list[Any]:
        """What each of them gives, by rank; anything that `pickle` takes."""
        found = [value] * self.count
        if self.count > 1:
            dist.all_gather_object(found, value)
        return found

    def lost(self, error: BaseException) -> bool:
        """Whether an error of a collective says that another process is gone."""
        return self.count > 1 and isinstance(error, RuntimeError) and bool(LOST.search(str(error)))

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """The sum over all processes, without a gradient."""
        values = values.detach().clone()
        if self.count > 1:
            dist.all_reduce(values)
        return values


ALONE = Processes()


@contextlib.contextmanager
def joined(device: str = "cpu") -> Iterator[Processes]:
    """Meets the other processes that `torchrun` started, by gloo on a CPU and nccl on GPUs.

    Without `torchrun` there is nobody to meet. Of several GPUs each process of a machine takes its
    own.

    Raises:
        InputError: they cannot be met.
    """
    if "RANK" not in os.environ:
        yield ALONE
        return
    count = _number("WORLD_SIZE", 1)
    _number("RANK", 0, count - 1)
    if device.startswith("cuda"):
        torch.cuda.set_device(_number("LOCAL_RANK", 0, torch.cuda.device_count() - 1))
    _meet("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield Processes(dist.get_world_size(), dist.get_rank())
    finally:
        dist.destroy_process_group()


def _number(variable: str, least: int, most: int = 2**20) -> int:
    """What torchrun says by a variable of the environment."""
    text = os.environ.get(variable, "")
    if not (text.isascii() and text.isdecimal() and least <= int(text[:9]) <= most):
        raise InputError(
            f"the variable {variable} is {text[:40]!r}: torchrun sets it, to a number from {least} "
            f"to {most}; without RANK one process trains alone"
        )
    return int(text)


def _meet(backend: str) -> None:
    """Waits in another thread: PyTorch's own wait is deaf to Ctrl-C and SIGTERM."""
    problems: list[Exception] = []

    def work() -> None:
        try:
            dist.init_process_group(backend)
        except Exception as error:
            problems.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    until = time.monotonic() + PATIENCE
    while thread.is_alive() and time.monotonic() < until:
        thread.join(0.1)
    if thread.is_alive():
        raise InputError(f"the other processes of torchrun did not come in {PATIENCE:.0f} s")
    if problems:
        first = str(problems[0]).splitlines()[0]
        raise InputError(f"cannot meet the other processes of torchrun: {first}") from problems[0]


def divided(
    model: nn.Module, processes: Processes, batch_norm: Literal["global", "local"] = "global"
) -> nn.Module:
    """`model` as all processes train it together; alone it is what it was.

    Args:
        model: on its device; its parameters and buffers are made those of process 0.
        processes: that train it.
        batch_norm: "global", statistics of the whole batch, by `synchronised`; or "local", of each
            process's share, where the running ones are those of process 0.
    """
    if processes.count == 1:
        return model
    if batch_norm == "global":
        model = synchronised(model)
    return DistributedDataParallel(model)


def synchronised(model: nn.Module) -> nn.Module:
    """`model`, changed: with `SyncBatchNorm` on GPUs, and `GlobalBatchNorm2d` elsewhere."""
    if next(model.parameters()).is_cuda:
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = GlobalBatchNorm2d
    return model


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """`nn.SyncBatchNorm`, which PyTorch has for GPUs alone, on any device."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """[n, c, h, w] of this process, normalised by the statistics of all."""
        if not (self.training and dist.is_initialized()):
            return super().forward(input)
        axes, shape = (0, 2, 3), (1, -1, 1, 1)
        values = torch.tensor(float(input.numel() // input.shape[1]), dtype=torch.float64)
        dist.all_reduce(values)
        count = float(values)
        mean = _Sum.apply(input.sum(axes)) / count
        centred = input - mean.view(shape)
        var = _Sum.apply(centred.square().sum(axes)) / count
        self._move(mean.detach(), var.detach() * (count / (count - 1)))
        out = centred * torch.rsqrt(var + self.eps).view(shape)
        return out * self.weight.view(shape) + self.bias.view(shape)

    def _move(self, mean: torch.Tensor, var: torch.Tensor) -> None:
        running: Any = self.running_mean, self.running_var
        batches: Any = self.num_batches_tracked
        batches.add_(1)
        share = 1 / float(batches) if self.momentum is None else self.momentum
        for statistic, value in zip(running, (mean, var), strict=True):
            statistic.mul_(1 - share).add_(value, alpha=share)


class _Sum(torch.autograd.Function):
    """The sum over all processes; each one's loss has its part in the gradient."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:
        values = values.clone()
        dist.all_reduce(values)
        return values

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        gradient = gradients[0].contiguous().clone()
        dist.all_reduce(gradient)
        return gradient
