"""Every optimizer, schedule and clipping against PyTorch's, apart from any model.

Both sides take `STEPS` steps from the same parameters with the same gradients. In float64 the
parameters after each step are compared, in float32 each parameter's whole trajectory: a tensor of
one value is now and then nearly zero, and errors relative to it would say nothing.
"""

from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from jax import lax

from parity.ladder.result import Result, result
from parity.ladder.tolerance import compare_float64, compare_rounded, measure_rounded
from parity.pairs.case import precision
from parity.pairs.optimizers import ClipSpec, OptimizerSpec, ScheduleSpec
from parity.pairs.pair import Tensors

STEPS = 50

SHAPES = {"matrix": (7, 5), "vector": (6,), "scalar": (1,)}
"""Few tensors, for the time goes into compiling their steps."""
MAGNITUDES = {"matrix": 1.0, "vector": 1e-2, "scalar": 30.0}
"""Of the initial parameters: the steps are a small part of one, and all of another."""

_MOVING = {"momentum": 0.9}
_WARM_COSINE = ScheduleSpec(
    "sequential",
    {
        "schedules": (
            ScheduleSpec("linear", {"start_factor": 0.1, "total_iters": 10}),
            ScheduleSpec("cosine", {"T_max": 40}),
        ),
        "milestones": (10,),
    },
)
_CYCLE = {"total_steps": STEPS}
SPECS = (
    OptimizerSpec("sgd", 0.1),
    OptimizerSpec("sgd", 0.1, _MOVING, ScheduleSpec("step", {"step_size": 15})),
    OptimizerSpec("sgd", 0.1, {**_MOVING, "weight_decay": 0.01, "nesterov": True}),
    OptimizerSpec(
        "sgd", 0.1, {**_MOVING, "weight_decay": 0.01, "dampening": 0.3}, clip=ClipSpec("norm", 1.0)
    ),
    OptimizerSpec(
        "sgd",
        0.1,
        {**_MOVING, "nesterov": True},
        ScheduleSpec("one_cycle", {**_CYCLE, "anneal_strategy": "linear", "three_phase": True}),
    ),
    OptimizerSpec("adam", 0.01),
    OptimizerSpec("adam", 0.01, {"betas": (0.8, 0.95), "eps": 1e-4, "weight_decay": 0.1}),
    OptimizerSpec(
        "adam",
        0.01,
        {"amsgrad": True},
        ScheduleSpec("linear", {"total_iters": 20}),
        ClipSpec("value", 0.1),
    ),
    OptimizerSpec("adam", 0.01, {}, ScheduleSpec("one_cycle", _CYCLE)),
    OptimizerSpec("adamw", 0.01, {"weight_decay": 0.3, "amsgrad": True}),
    OptimizerSpec("adamw", 0.01, {}, ScheduleSpec("multistep", {"milestones": (10, 30, 30)})),
    OptimizerSpec("adamw", 0.01, {}, _WARM_COSINE, ClipSpec("norm", 1.0)),
    OptimizerSpec("rmsprop", 0.01),
    OptimizerSpec(
        "rmsprop",
        0.01,
        {"alpha": 0.9, "eps": 1e-4, "weight_decay": 0.1},
        ScheduleSpec("cosine", {"T_max": 20, "eta_min": 1e-3}),
    ),
    OptimizerSpec(
        "rmsprop",
        0.01,
        {**_MOVING, "centered": True},
        ScheduleSpec("one_cycle", {**_CYCLE, "cycle_momentum": False, "three_phase": True}),
    ),
)
"""Every option of every optimizer, every schedule, both kinds of clipping."""


def run(specs: Sequence[OptimizerSpec] = SPECS) -> Iterator[Result]:
    """The results in float64 and in float32, of all `specs` together."""
    params, gradients = shared()
    wide: tuple[Tensors, Tensors] = ({}, {})
    figures = {}
    for spec in specs:
        ours, theirs = (
            {dtype: side(spec, params, gradients, dtype) for dtype in ("float64", "float32")}
            for side in (jax_steps, torch_steps)
        )
        for tensors, found in zip(wide, (ours, theirs), strict=True):
            tensors |= {
                f"{spec}, step {step}: {name}": value
                for name, values in found["float64"].items()
                for step, value in enumerate(values, 1)
            }
        measured = measure_rounded(
            ours["float32"], theirs["float32"], ours["float64"], theirs["float64"], "float32"
        )
        figures |= {f"{spec}: {name}": figure for name, figure in measured.items()}
    yield result("all", "optimizers", "float64", compare_float64(*wide))
    yield result("all", "optimizers", "float32", compare_rounded([figures], "float32"))


def shared(steps: int = STEPS, seed: int = 0) -> tuple[Tensors, Tensors]:
    """Initial parameters by name, and their gradients, stacked: [steps, *shape].

    float64, of float32 numbers. The gradients are of magnitudes from 1e-3 to 1; one in eight is
    zero at every step, and one in eight now and then.
    """
    rng = np.random.default_rng(seed)
    params, gradients = {}, {}
    for name, shape in SHAPES.items():
        params[name] = _rounded(MAGNITUDES[name] * rng.normal(size=shape))
        values = rng.normal(size=(steps, *shape)) * 10 ** rng.uniform(-3, 0, shape)
        # A tensor of one value gets a gradient at most steps.
        kind = rng.permutation(np.arange(np.prod(shape)) % 8).reshape(shape)
        values *= np.where(kind == 1, 0, 1) * np.where(kind == 0, rng.random(values.shape) < 0.7, 1)
        gradients[name] = _rounded(values)
    return params, gradients


def jax_steps(
    spec: OptimizerSpec, params: Tensors, gradients: Tensors, dtype: str = "float64"
) -> Tensors:
    """The parameters after each step of Optax, [steps, *shape] of `dtype`."""
    return optax_steps(spec.to_optax, params, gradients, dtype)


def optax_steps(make, params: Tensors, gradients: Tensors, dtype: str = "float64") -> Tensors:
    """As `jax_steps`, with what `make()`, called at the right precision, returns."""
    with precision(dtype):
        optimizer = make()

        @jax.jit
        def steps(params, gradients):
            def step(carry, gradient):
                params, state = carry
                updates, state = optimizer.update(gradient, state, params)
                params = optax.apply_updates(params, updates)
                return (params, state), params

            return lax.scan(step, (params, optimizer.init(params)), gradients)[1]

        arrays = [
            {name: jnp.asarray(value, dtype) for name, value in tensors.items()}
            for tensors in (params, gradients)
        ]
        return {name: np.asarray(value) for name, value in steps(*arrays).items()}


def torch_steps(
    spec: OptimizerSpec, params: Tensors, gradients: Tensors, dtype: str = "float64"
) -> Tensors:
    """The same of PyTorch."""
    kind = getattr(torch, dtype)
    tensors = {n: torch.nn.Parameter(torch.tensor(v, dtype=kind)) for n, v in params.items()}
    optimizer = spec.to_torch(tensors.values())
    found: dict[str, list[np.ndarray]] = {name: [] for name in tensors}
    for step in range(len(next(iter(gradients.values())))):
        for name, tensor in tensors.items():
            tensor.grad = torch.tensor(gradients[name][step], dtype=kind)
        optimizer.step()
        for name, tensor in tensors.items():
            found[name].append(tensor.detach().numpy().copy())
    return {name: np.stack(values) for name, values in found.items()}


def _rounded(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32).astype(np.float64)
