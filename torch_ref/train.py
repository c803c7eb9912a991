"""The notebook's `train` and `test`, which also return the numbers that they print."""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.optim import lr_scheduler

from torch_ref.errors import InputError, NotFinite

NO_OPTIMIZERS = "Optimizer", "LBFGS", "SparseAdam"
"""Of the classes of `torch.optim`: their base, and what no step of this training fits."""
OPTIMIZERS: dict[str, Any] = {
    name.lower(): kind
    for name, kind in vars(torch.optim).items()
    if isinstance(kind, type) and name not in NO_OPTIMIZERS
}
"""PyTorch's, by their names in small letters."""

Print = Callable[[str], None]


class Epoch(NamedTuple):
    """From 1, the mean of the batches' losses, seconds of training with the loading of data."""

    number: int
    loss: float
    seconds: float


def create_optimizer(
    name: str, model: nn.Module, lr: float, decay_norms: bool = True, **options: Any
) -> torch.optim.Optimizer:
    """The optimizer `name`, one of `OPTIMIZERS`, with PyTorch's defaults but for `lr` and options.

    Without `decay_norms` parameters of one axis are a group without weight decay: biases, and
    normalisations' scales.
    """
    if name not in OPTIMIZERS:
        raise InputError(f"no optimizer named {name!r}: choose one of {', '.join(OPTIMIZERS)}")
    if decay_norms:
        return OPTIMIZERS[name](model.parameters(), lr=lr, **options)
    several = [p for p in model.parameters() if p.ndim > 1]
    one = {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0}
    return OPTIMIZERS[name]([{"params": several}, one], lr=lr, **options)


def create_scheduler(
    optimizer: torch.optim.Optimizer,
    schedule: str,
    steps: int,
    *,
    warmup: int = 0,
    milestones: Sequence[int] = (),
    gamma: float = 0.1,
) -> torch.optim.lr_scheduler.LRScheduler | None:
    """What sets the learning rate after each step; None where it stays.

    Args:
        optimizer: whose rate it is, after the warm-up.
        schedule: "constant"; "cosine", `CosineAnnealingLR` to 0 at the end; or "steps",
            `MultiStepLR`.
        steps: of the whole training.
        warmup: steps of `LinearLR`, from lr / warmup to lr.
        milestones: steps, counted from the training's start, after which the rate is multiplied.
        gamma: by this.

    Raises:
        InputError: an unknown schedule, or a warm-up that is longer than the training.
    """
    if not 0 <= warmup <= steps:
        raise InputError(
            f"warmup is {warmup} of {steps} steps: give 0 or more, and no more than all"
        )
    after = [milestone - warmup for milestone in milestones]
    if schedule == "constant" and not warmup:
        return None
    made = [
        lambda: lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps - warmup)),
        lambda: lr_scheduler.MultiStepLR(optimizer, after, gamma),
    ]
    if schedule not in ("constant", "cosine", "steps"):
        raise InputError(f"no schedule named {schedule!r}: choose constant, cosine or steps")
    if not warmup:
        return made[schedule == "steps"]()
    rising = lr_scheduler.LinearLR(optimizer, 1 / warmup, 1.0, warmup)
    return lr_scheduler.SequentialLR(optimizer, [rising, made[schedule != "cosine"]()], [warmup])


def train(
    model: nn.Module,
    loaders: Iterable[Iterable[Any]],
    criterion: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    optimizer: torch.optim.Optimizer,
    device: str | torch.device = "cpu",
    *,
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
    clip_norm: float | None = None,
    keep_going: bool = True,
    print: Print = print,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    on_steps: Callable[[int], None] = lambda steps: None,
) -> list[Epoch]:
    """Trains `model`, on `device` already, one epoch on each of `loaders`.

    The notebook trains on one shuffled loader five times: `[loader] * 5`.

    Args:
        model: trained in place.
        loaders: an iterable of batches (images, labels) for each epoch.
        criterion: (outputs, labels) -> a batch's mean loss.
        optimizer: of the model's parameters.
        device: where batches are moved to.
        scheduler: of the learning rate, after every step.
        clip_norm: the largest norm of all gradients together.
        keep_going: train on with a loss that is not finite.
        print: gets the notebook's line after each epoch.
        on_epoch: called after each epoch.
        on_steps: called with the number of steps taken since its last call.

    Raises:
        NotFinite: a loss is not, and `keep_going` is not asked for.
    """
    epochs = []
    for number, loader in enumerate(loaders, 1):
        model.train()
        started, running_loss, steps = time.perf_counter(), 0.0, 0
        for images, labels in loader:
            images, labels = images.to(device), labels.to(device)
            optimizer.zero_grad()
            loss = criterion(model(images), labels)
            loss.backward()
            if clip_norm is not None:
                nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
            optimizer.step()
            if scheduler is not None:
                scheduler.step()
            steps += 1
            value = loss.item()
            if not (keep_going or math.isfinite(value)):
                raise NotFinite(value, number, steps)
            running_loss += value
            on_steps(1)
        epochs.append(Epoch(number, running_loss / steps, time.perf_counter() - started))
        print(f"Epoch {number}, Loss: {epochs[-1].loss:.3f}")
        on_epoch(epochs[-1])
    return epochs


def test(
    model: nn.Module,
    loader: Iterable[Any],
    device: str | torch.device = "cpu",
    *,
    print: Print = print,
) -> float:
    """Top-1 accuracy in [0, 1] of `model`, in eval mode, on the images of `loader`."""
    model.eval()
    correct = total = 0
    with torch.no_grad():
        for images, labels in loader:
            predicted = model(images.to(device)).argmax(1)
            correct += int((predicted == labels.to(device)).sum())
            total += len(labels)
    print(f"Accuracy: {100 * correct / total:.2f} %")
    return correct / total
