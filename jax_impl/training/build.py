"""A training's learning rate and optimizer, put together of what a recipe says."""

from collections.abc import Sequence
from typing import Any

import jax
import optax

from jax_impl.errors import InputError
from jax_impl.training import optim, schedules
from jax_impl.training.averaging import accumulated, with_average
from jax_impl.training.schedules import Schedule


def learning_rate(
    lr: float,
    schedule: str,
    steps: int,
    *,
    warmup: int = 0,
    milestones: Sequence[int] = (),
    gamma: float = 0.1,
) -> float | Schedule:
    """The rate of each step: PyTorch's `SequentialLR` of a warm-up and what follows it.

    Args:
        lr: after the warm-up.
        schedule: "constant"; "cosine", `CosineAnnealingLR` to 0 at the end; or "steps",
            `MultiStepLR`.
        steps: of the whole training.
        warmup: steps of `LinearLR`, from lr / warmup to lr.
        milestones: steps, counted from the training's start, after which the rate is multiplied.
        gamma: by this.

    Raises:
        InputError: an unknown schedule, or numbers that the schedules refuse.
    """
    if schedule not in ("constant", "cosine", "steps"):
        raise InputError(f"no schedule named {schedule!r}: choose constant, cosine or steps")
    if not 0 <= warmup <= steps:
        raise InputError(
            f"warmup is {warmup} of {steps} steps: give 0 or more, and no more than all"
        )
    if schedule == "cosine":
        main = schedules.cosine_annealing_lr(lr, max(1, steps - warmup))
    elif schedule == "steps":
        main = schedules.multi_step_lr(lr, [m - warmup for m in milestones], gamma)
    elif not warmup:
        return lr
    else:
        main = schedules.multi_step_lr(lr, ())
    if not warmup:
        return main
    rising = schedules.linear_lr(lr, 1 / warmup, 1.0, warmup)
    return schedules.sequential_lr([rising, main], [warmup])


def optimizer(
    name: str,
    lr: float | Schedule,
    *,
    decay_norms: bool = True,
    clip_norm: float | None = None,
    ema: float | None = None,
    accumulate: int = 1,
    **options: Any,
) -> optax.GradientTransformation:
    """`optim.create_optimizer`, with clipping before it, and what averages after it.

    Args:
        name: of `OPTIMIZERS`.
        lr: the rate, or its schedule.
        decay_norms: False spares parameters of one axis from weight decay: biases, and
            normalisations' scales; as PyTorch does by parameter groups.
        clip_norm: of `optim.clip_by_global_norm`; None is none.
        ema: decay of a moving average of the parameters, `with_average`; None is none.
        accumulate: batches whose mean gradient makes a step, which all of this counts.
        options: of the optimizer.
    """
    made = optim.create_optimizer(name, lr, **options)
    if not decay_norms:
        spared = optim.create_optimizer(name, lr, **(options | {"weight_decay": 0.0}))
        made = optax.partition({True: made, False: spared}, _decays)
    if clip_norm is not None:
        made = optax.chain(optim.clip_by_global_norm(clip_norm), made)
    if ema is not None:
        made = with_average(made, ema)
    return accumulated(made, accumulate)


def _decays(params: Any) -> Any:
    return jax.tree.map(lambda value: value.ndim > 1, params)
