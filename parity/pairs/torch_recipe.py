"""A recipe's optimizer and rate in PyTorch."""

from typing import Any

from torch import nn

import torch_ref.train
from parity.shell.recipes import Recipe


def make_optimizer(model: nn.Module, recipe: Recipe, batches: int) -> tuple[Any, Any]:
    """What the recipe says of it, and the scheduler or None; of so many batches in an epoch."""
    optimizer = torch_ref.train.create_optimizer(
        recipe.optimizer, model, recipe.lr, recipe.decay_norms, **recipe.optimizer_options
    )
    options = recipe.schedule_options(batches)
    return optimizer, torch_ref.train.create_scheduler(optimizer, **options)
