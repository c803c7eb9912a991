"""The notebook's `train` and `test`, which also return the numbers that they print."""

import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import nn

from torch_ref.errors import InputError

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


def create_optimizer(name: str, model: nn.Module, lr: float) -> torch.optim.Optimizer:
    """The optimizer `name`, one of `OPTIMIZERS`, with PyTorch's defaults but for `lr`."""
    if name not in OPTIMIZERS:
        raise InputError(f"no optimizer named {name!r}: choose one of {', '.join(OPTIMIZERS)}")
    return OPTIMIZERS[name](model.parameters(), lr=lr)


def train(
    model: nn.Module,
    loaders: Iterable[Iterable[Any]],
    criterion: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    optimizer: torch.optim.Optimizer,
    device: str | torch.device = "cpu",
    *,
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
        print: gets the notebook's line after each epoch.
        on_epoch: called after each epoch.
        on_steps: called with the number of steps taken since its last call.
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
            optimizer.step()
            running_loss += loss.item()
            steps += 1
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
