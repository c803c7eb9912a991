"""PyTorch's learning-rate schedules as pure functions of the step, with PyTorch's names.

A schedule gives the learning rate of step 0, 1, ...: what `optimizer.step()` uses after as many
calls of `scheduler.step()`. PyTorch computes in Python's float64, and most schedules from the last
learning rate; here each is the closed form of that recursion (`torch/optim/lr_scheduler.py`), in
JAX's default floating point: float64 where 64 bits are enabled, else float32. The forms are chosen
so that float32 gives the rate to a few roundings also where it is nearly zero.
"""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax

from jax_impl.errors import InputError

Schedule = Callable[[jax.typing.ArrayLike], jax.Array]
"""From the number of steps taken, an integer, to a floating-point scalar; works inside jit."""


def step_lr(lr: float, step_size: int, gamma: float = 0.1) -> Schedule:
    """`StepLR`: lr * gamma**(step // step_size).

    Raises:
        InputError: a step size below 1, or a gamma that is not above 0.
    """
    _check_count("step_size", step_size)
    _check_gamma(gamma)

    def schedule(step: jax.typing.ArrayLike) -> jax.Array:
        # Not a power: the rounding of gamma itself would count as often as it is multiplied.
        return lr * jnp.exp(_floating(jnp.asarray(step) // step_size) * math.log(gamma))

    return schedule


def multi_step_lr(lr: float, milestones: Sequence[int], gamma: float = 0.1) -> Schedule:
    """`MultiStepLR`: lr * gamma**(how many milestones are <= step).

    Raises:
        InputError: a gamma that is not above 0.
    """
    _check_gamma(gamma)
    rates = [lr * gamma**passed for passed in range(len(milestones) + 1)]

    def schedule(step: jax.typing.ArrayLike) -> jax.Array:
        passed = sum((step >= jnp.asarray(m) for m in milestones), jnp.zeros((), int))
        return jnp.asarray(rates, float)[passed]

    return schedule


def linear_lr(
    lr: float, start_factor: float = 1 / 3, end_factor: float = 1.0, total_iters: int = 5
) -> Schedule:
    """`LinearLR`: from lr * start_factor to lr * end_factor in total_iters steps, then constant.

    Raises:
        InputError: no steps, or factors that PyTorch refuses.
    """
    _check_count("total_iters", total_iters)
    if not (0 < start_factor <= 1 and 0 <= end_factor <= 1):
        raise InputError(
            f"start_factor is {start_factor}, end_factor {end_factor}: give numbers up to 1, the "
            "first above 0"
        )

    def schedule(step: jax.typing.ArrayLike) -> jax.Array:
        passed = _floating(jnp.minimum(jnp.asarray(step), total_iters)) / total_iters
        return lr * (start_factor + (end_factor - start_factor) * passed)

    return schedule


def cosine_annealing_lr(lr: float, T_max: int, eta_min: float = 0.0) -> Schedule:
    """`CosineAnnealingLR`: eta_min + (lr - eta_min) (1 + cos(pi step / T_max)) / 2.

    Like PyTorch's it rises again after step T_max.

    Raises:
        InputError: T_max below 1.
    """
    _check_count("T_max", T_max)

    def schedule(step: jax.typing.ArrayLike) -> jax.Array:
        # Steps to the nearest minimum, at T_max, 3 T_max, ...
        left = _floating((2 * T_max - jnp.asarray(step)) % (2 * T_max) - T_max) / T_max
        return eta_min + (lr - eta_min) * _cosine(left)

    return schedule


def one_cycle_lr(
    max_lr: float,
    total_steps: int,
    pct_start: float = 0.3,
    anneal_strategy: str = "cos",
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
    three_phase: bool = False,
) -> Schedule:
    """`OneCycleLR`'s learning rate: up from max_lr / div_factor to max_lr, and down.

    The last rate is max_lr / div_factor / final_div_factor; with three phases, the first mirrored
    comes before it. PyTorch cycles the momentum too: `one_cycle_momentum`. It refuses steps after
    `total_steps`; here these repeat that one.

    Raises:
        InputError: what PyTorch refuses, and phases without a step, where PyTorch divides by zero.
    """
    start, last = max_lr / div_factor, max_lr / div_factor / final_div_factor
    values = (start, max_lr, start, last) if three_phase else (start, max_lr, last)
    return _one_cycle(values, total_steps, pct_start, anneal_strategy)


def one_cycle_momentum(
    total_steps: int,
    pct_start: float = 0.3,
    anneal_strategy: str = "cos",
    base_momentum: float = 0.85,
    max_momentum: float = 0.95,
    three_phase: bool = False,
) -> Schedule:
    """`OneCycleLR`'s momentum, or Adam's beta1: from max_momentum to base_momentum and back.

    Pass it for `momentum` or in `betas` to the optimizer that gets the same cycle's `one_cycle_lr`.

    Raises:
        InputError: as `one_cycle_lr`.
    """
    values = (max_momentum, base_momentum, max_momentum)
    if three_phase:
        values += (max_momentum,)
    return _one_cycle(values, total_steps, pct_start, anneal_strategy)


def sequential_lr(schedules: Sequence[Schedule], milestones: Sequence[int]) -> Schedule:
    """`SequentialLR`: each of `schedules` from its milestone on, the first from 0.

    A schedule counts its steps from there.

    Raises:
        InputError: not one schedule more than milestones, or milestones that do not rise from 1.
    """
    if len(schedules) != len(milestones) + 1:
        raise InputError(
            f"{len(schedules)} schedules and {len(milestones)} milestones: give one schedule more"
        )
    bounds = [0, *milestones]
    if any(after <= before for before, after in zip(bounds, bounds[1:], strict=False)):
        raise InputError(f"the milestones are {list(milestones)}: give rising numbers from 1 on")
    return optax.join_schedules(schedules, milestones)  # pyright: ignore


def _one_cycle(
    values: Sequence[float], total_steps: int, pct_start: float, anneal_strategy: str
) -> Schedule:
    """Through `values`, one phase from each to the next; two phases, or three."""
    _check_count("total_steps", total_steps)
    if not 0 <= pct_start <= 1:
        raise InputError(f"pct_start is {pct_start}: give a number from 0 to 1")
    if anneal_strategy not in ("cos", "linear"):
        raise InputError(f"no anneal_strategy named {anneal_strategy!r}: choose cos or linear")
    # The phases' first and last steps, which need not be whole numbers.
    bounds = [0.0, pct_start * total_steps - 1, total_steps - 1.0]
    if len(values) == 4:
        bounds.insert(2, 2 * pct_start * total_steps - 2)
    if any(first == last for first, last in zip(bounds, bounds[1:], strict=False)):
        raise InputError(
            f"total_steps {total_steps} and pct_start {pct_start} leave a phase without a step: "
            "give more steps"
        )

    def phase(step: jax.Array, i: int) -> jax.Array:
        # What is left of the phase, and not what is done: that is exact where the value is least.
        left = (bounds[i + 1] - _floating(step)) / (bounds[i + 1] - bounds[i])
        weight = _cosine(left) if anneal_strategy == "cos" else left
        return values[i + 1] + (values[i] - values[i + 1]) * weight

    def schedule(step: jax.typing.ArrayLike) -> jax.Array:
        step = jnp.minimum(jnp.asarray(step), total_steps)
        value = phase(step, len(values) - 2)
        for i in reversed(range(len(values) - 2)):
            value = jnp.where(step <= math.floor(bounds[i + 1]), phase(step, i), value)
        return value

    return schedule


def _cosine(left: jax.Array) -> jax.Array:
    """(1 + cos(pi (1 - left))) / 2, without its cancellation near left = 0."""
    return jnp.sin(math.pi / 2 * left) ** 2


def _floating(step: jax.typing.ArrayLike) -> jax.Array:
    return jnp.asarray(step, float)


def _check_count(name: str, value: int) -> None:
    if value != int(value) or value < 1:
        raise InputError(f"{name} is {value}: give a whole number of 1 or more")


def _check_gamma(gamma: float) -> None:
    if not 0 < gamma < math.inf:
        raise InputError(f"gamma is {gamma}: give a number above 0")
