"""The notebook's `train` and `test`, which also return the numbers that they print."""

import itertools
import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.optim import lr_scheduler, swa_utils

from torch_ref.distributed import ALONE, Processes
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
    """One epoch of `train`.

    Its number, from 1; the mean of the batches' losses; the share of the images that were
    classified right when they were trained on; seconds of training, with the loading of data; and
    the learning rate of its last step.
    """

    number: int
    loss: float
    accuracy: float
    seconds: float
    lr: float


class Progress(NamedTuple):
    """Where a training stands, for one that goes on from there.

    Steps taken since its start; the epoch under way, from 1; of this epoch the steps taken, the
    sum of their losses, the images that were classified right and all that were trained on, and
    seconds.
    """

    step: int = 0
    epoch: int = 1
    done: int = 0
    loss: float = 0.0
    right: int = 0
    images: int = 0
    seconds: float = 0.0


START = Progress()


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


def averaged(model: nn.Module, decay: float) -> swa_utils.AveragedModel:
    """A copy of `model` whose parameters follow its own: e <- e + (1 - decay) (p - e).

    The first time they are the model's; after an epoch of `train` the statistics are.
    """
    return swa_utils.AveragedModel(model, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(decay))


def train(
    model: nn.Module,
    loaders: Iterable[Iterable[Any]],
    criterion: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    optimizer: torch.optim.Optimizer,
    device: str | torch.device = "cpu",
    *,
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
    clip_norm: float | None = None,
    accumulate: int = 1,
    average: swa_utils.AveragedModel | None = None,
    start: Progress = START,
    keep_going: bool = True,
    processes: Processes = ALONE,
    print: Print = print,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    on_steps: Callable[[Progress], None] = lambda progress: None,
) -> list[Epoch]:
    """Trains `model`, on `device` already, one epoch on each of `loaders`.

    The notebook trains on one shuffled loader five times: `[loader] * 5`.

    Args:
        model: trained in place.
        loaders: an iterable of batches (images, labels) for each epoch.
        criterion: (outputs, labels) -> a batch's mean loss.
        optimizer: of the model's parameters.
        device: where batches are moved to.
        scheduler: of the learning rate, after every step of the optimizer.
        clip_norm: the largest norm of all gradients together.
        accumulate: batches whose mean gradient makes a step of the optimizer, on into the next
            epoch.
        average: of the model, updated after every step of the optimizer; it has the model's
            statistics after every epoch.
        start: where the model stands; the batches of its epoch that are done are loaded, for what
            that draws, and passed over.
        keep_going: train on with a loss that is not finite.
        processes: that train `model`, which is `distributed.divided`, on the same batches: each
            on its share. What is told is of all of them.
        print: gets the notebook's line after each epoch.
        on_epoch: called after each epoch.
        on_steps: called after each batch.

    Raises:
        NotFinite: a loss is not, and `keep_going` is not asked for.
    """
    epochs, progress, lr = [], start, math.nan
    for loader in loaders:
        model.train()
        started = time.perf_counter() - progress.seconds
        for images, labels in itertools.islice(loader, progress.done, None):
            whole = len(labels)
            images, labels = (processes.share(part).to(device) for part in (images, labels))
            if progress.step % accumulate == 0:
                optimizer.zero_grad()
            outputs = model(images)
            loss = criterion(outputs, labels)
            right = (outputs.argmax(1) == labels).sum()
            if processes.count > 1:
                loss = loss * (len(labels) * processes.count / whole)
            (loss / accumulate).backward()
            lr = optimizer.param_groups[0]["lr"]
            if (progress.step + 1) % accumulate == 0:
                if clip_norm is not None:
                    nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
                optimizer.step()
                if scheduler is not None:
                    scheduler.step()
                if average is not None:
                    average.update_parameters(model)
            value = processes.total(loss).item() / processes.count
            if not (keep_going or math.isfinite(value)):
                raise NotFinite(value, progress.epoch, progress.done + 1)
            progress = Progress(
                progress.step + 1,
                progress.epoch,
                progress.done + 1,
                progress.loss + value,
                progress.right + int(processes.total(right)),
                progress.images + whole,
                time.perf_counter() - started,
            )
            on_steps(progress)
        if average is not None:  # batches since the last step have moved the statistics
            for own, buffer in zip(average.module.buffers(), model.buffers(), strict=True):
                own.copy_(buffer)
        epochs.append(_summary(progress, lr))
        print(f"Epoch {epochs[-1].number}, Loss: {epochs[-1].loss:.3f}")
        on_epoch(epochs[-1])
        progress = Progress(progress.step, progress.epoch + 1)
    return epochs


def _summary(progress: Progress, lr: float) -> Epoch:
    loss, accuracy = progress.loss / progress.done, progress.right / progress.images
    return Epoch(progress.epoch, loss, accuracy, progress.seconds, lr)


def test(
    model: nn.Module,
    loader: Iterable[Any],
    device: str | torch.device = "cpu",
    *,
    mirror: bool = False,
    print: Print = print,
) -> float:
    """Top-1 accuracy in [0, 1] of `model`, in eval mode, on the images of `loader`.

    With `mirror` the logits of each image and of its mirror image, left to right, are added.
    """
    model.eval()
    correct = total = 0
    with torch.no_grad():
        for images, labels in loader:
            images = images.to(device)
            logits = model(images)
            if mirror:
                logits = logits + model(images.flip(-1))
            correct += int((logits.argmax(1) == labels.to(device)).sum())
            total += len(labels)
    print(f"Accuracy: {100 * correct / total:.2f} %")
    return correct / total
