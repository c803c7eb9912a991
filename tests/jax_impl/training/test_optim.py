"""The optimizers against torch.optim, in float64 exactly and in float32 to its own noise."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

import torch_ref.train
from jax_impl.errors import InputError
from jax_impl.training import optim, schedules
from jax_impl.training.optimizer_names import OPTIMIZERS
from parity.ladder.rungs import optimizers
from parity.ladder.rungs.optimizers import SPECS, jax_steps, shared, torch_steps
from parity.ladder.tolerance import compare_float64
from parity.pairs.optimizers import ClipSpec, OptimizerSpec, ScheduleSpec

STEPS = 20
CASES = {
    "adam": (lambda: optim.adam(1e-3), lambda p: torch.optim.Adam(p, 1e-3)),
    "adam, all options": (
        lambda: optim.adam(0.01, (0.8, 0.95), 1e-4, 0.1),
        lambda p: torch.optim.Adam(p, 0.01, (0.8, 0.95), 1e-4, 0.1),
    ),
    "adamw": (lambda: optim.adamw(1e-3), lambda p: torch.optim.AdamW(p, 1e-3)),
    "adamw, all options": (
        lambda: optim.adamw(0.01, (0.8, 0.95), 1e-4, 0.1),
        lambda p: torch.optim.AdamW(p, 0.01, (0.8, 0.95), 1e-4, 0.1),
    ),
    "sgd": (lambda: optim.sgd(0.1), lambda p: torch.optim.SGD(p, 0.1)),
    "sgd, all options": (
        lambda: optim.sgd(0.1, 0.9, 1e-2, nesterov=True),
        lambda p: torch.optim.SGD(p, 0.1, 0.9, weight_decay=1e-2, nesterov=True),
    ),
    "sgd with momentum": (
        lambda: optim.sgd(0.1, 0.9),
        lambda p: torch.optim.SGD(p, 0.1, 0.9),
    ),
}


def trajectories(case: str, dtype: str, start: float) -> tuple[np.ndarray, np.ndarray]:
    """Parameters after each of STEPS steps on the same gradients, [steps, n], ours and theirs."""
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(STEPS, 1000)).astype(np.float32)
    initial = (start * rng.normal(size=1000)).astype(np.float32)
    make_ours, make_theirs = CASES[case]
    optimizer = make_ours()
    params = jnp.asarray(initial, dtype)
    state, step = optimizer.init(params), jax.jit(optimizer.update)
    parameter = torch.nn.Parameter(torch.from_numpy(initial).to(getattr(torch, dtype)))
    twin = make_theirs([parameter])
    ours, theirs = [], []
    for gradient in gradients:
        updates, state = step(jnp.asarray(gradient, dtype), state, params)
        params = optax.apply_updates(params, updates)
        ours.append(np.asarray(params, np.float64))
        parameter.grad = torch.from_numpy(gradient).to(parameter)
        twin.step()
        theirs.append(parameter.detach().double().numpy().copy())
    return np.array(ours), np.array(theirs)


@pytest.mark.parametrize("case", CASES)
def test_float64_steps_are_torchs(case):
    with jax.enable_x64(True):
        ours, theirs = trajectories(case, "float64", 1.0)
    assert np.abs(ours - theirs).max() <= 1e-14 * STEPS * np.abs(theirs).max()


@pytest.mark.parametrize("case", CASES)
def test_float32_steps_are_as_exact_as_torchs(case):
    """From zeros, so that the steps themselves count; optax.adam fails this by a factor of ten."""
    with jax.enable_x64(True):
        _, exact = trajectories(case, "float64", 0.0)
    ours, theirs = trajectories(case, "float32", 0.0)
    scale = np.abs(exact).max(1)
    our_noise = (np.abs(ours - exact).max(1) / scale).max()
    their_noise = (np.abs(theirs - exact).max(1) / scale).max()
    assert our_noise <= 4 * their_noise


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_defaults_are_torchs(name):
    params = jnp.ones(3)
    optimizer = optim.create_optimizer(name, 0.05)
    updates, _ = optimizer.update(jnp.full(3, 0.5), optimizer.init(params), params)
    parameter = torch.nn.Parameter(torch.ones(3))
    parameter.grad = torch.full((3,), 0.5)
    torch_ref.train.OPTIMIZERS[name]([parameter], lr=0.05).step()
    params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(np.asarray(params), parameter.detach().numpy(), rtol=1e-6)


@pytest.mark.parametrize("lr", [-1.0, float("nan"), float("inf")])
def test_a_learning_rate_that_is_none(lr):
    with pytest.raises(InputError, match="learning rate"):
        optim.create_optimizer("adam", lr)


def test_an_unknown_optimizer_is_named():
    with pytest.raises(InputError, match="lion.*adam"):
        optim.create_optimizer("lion", 0.1)


PARTS = (
    ScheduleSpec("linear", {"start_factor": 0.1, "total_iters": 10}),
    ScheduleSpec("cosine", {"T_max": 30, "eta_min": 1e-3}),
    ScheduleSpec("step", {"step_size": 7, "gamma": 0.9}),
)
SCHEDULES = [
    ScheduleSpec("step", {"step_size": 7}),
    ScheduleSpec("step", {"step_size": 1, "gamma": 0.97}),
    ScheduleSpec("multistep", {"milestones": (30, 3, 20, 20), "gamma": 0.3}),
    ScheduleSpec("linear"),
    ScheduleSpec("linear", {"start_factor": 0.5, "end_factor": 0.0, "total_iters": 17}),
    ScheduleSpec("cosine", {"T_max": 50}),
    ScheduleSpec("cosine", {"T_max": 12, "eta_min": 0.02}),
    ScheduleSpec("cosine", {"T_max": 1}),
    ScheduleSpec("sequential", {"schedules": PARTS[:2], "milestones": (10,)}),
    ScheduleSpec("sequential", {"schedules": PARTS, "milestones": (5, 30)}),
    ScheduleSpec("sequential", {"schedules": PARTS[::-1], "milestones": (20, 41)}),
    *(
        ScheduleSpec("one_cycle", {"total_steps": 50, **options})
        for options in (
            {},
            {"anneal_strategy": "linear"},
            {"three_phase": True},
            {"three_phase": True, "anneal_strategy": "linear", "pct_start": 0.25},
            {"pct_start": 0.0},
            {"pct_start": 0.33, "div_factor": 10.0, "final_div_factor": 100.0},
            {"base_momentum": 0.7, "max_momentum": 0.9},
            {"cycle_momentum": False},
        )
    ),
]


def torch_schedule(spec: ScheduleSpec, lr: float) -> tuple[list[float], list[float]]:
    """PyTorch's learning rate and momentum at the steps 0 to 50."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr, momentum=0.8)
    scheduler, (group,) = spec.to_torch(optimizer), optimizer.param_groups
    lrs, momenta = [], []
    for _ in range(51):
        lrs.append(group["lr"])
        momenta.append(group["momentum"])
        optimizer.step()
        if len(lrs) < 51:
            scheduler.step()
    return lrs, momenta


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-12), ("float32", 1e-6)])
@pytest.mark.parametrize("spec", SCHEDULES, ids=str)
def test_schedules_are_torchs(spec, dtype, tolerance):
    """In float32 too relative to each value itself, but for the least: float32's eps of the lr."""
    lrs, momenta = torch_schedule(spec, 0.1)
    with jax.enable_x64(dtype == "float64"):
        found = jax.jit(jax.vmap(spec.to_jax(0.1)))(jnp.arange(51))
        assert found.dtype == dtype
        np.testing.assert_allclose(found, lrs, rtol=tolerance, atol=tolerance * 1e-2)
        momentum = spec.momentum()
        assert (momentum is None) == (set(momenta) == {0.8})
        if momentum is not None:
            found = jax.jit(jax.vmap(momentum))(jnp.arange(51))
            np.testing.assert_allclose(found, momenta, rtol=tolerance)


def test_the_cosine_is_exact_in_float32_where_it_is_nearly_zero():
    steps = 10_000
    found = schedules.cosine_annealing_lr(1.0, steps)(steps - 1)
    exact = np.sin(np.pi / 2 / steps) ** 2
    assert abs(found / exact - 1) <= 4 * np.finfo(np.float32).eps


def test_one_cycle_goes_on_after_its_end():
    schedule = schedules.one_cycle_lr(0.1, 20)
    assert schedule(21) == schedule(1000) == schedule(20)


OPTIONS = {
    "sgd": {"momentum": 0.9, "weight_decay": 0.01, "nesterov": True},
    "adam": {"weight_decay": 0.01, "amsgrad": True},
    "adamw": {},
    "rmsprop": {"momentum": 0.9, "weight_decay": 0.01, "centered": True},
}
CLIPS = (None, ClipSpec("norm", 1.0), ClipSpec("value", 0.1))
PRODUCT = [
    OptimizerSpec(name, 0.01, OPTIONS[name], schedule, clip)
    for name, schedule, clip in itertools.product(OPTIONS, (None, *SCHEDULES), CLIPS)
]


@pytest.mark.proof
@pytest.mark.parametrize("spec", PRODUCT, ids=str)
def test_float64_steps_of_every_combination_are_torchs(spec):
    params, gradients = shared()
    assert departs(spec, params, gradients) <= 1e-12


def departs(spec: OptimizerSpec, params, gradients) -> float:
    """The largest relative error of any tensor after any step."""
    ours, theirs = (
        {
            f"{name} {step}": value
            for name, values in steps(spec, params, gradients).items()
            for step, value in enumerate(values)
        }
        for steps in (jax_steps, torch_steps)
    )
    return compare_float64(ours, theirs).measured


def test_the_rung_passes():
    wide, narrow = optimizers.run()
    for found, dtype in ((wide, "float64"), (narrow, "float32")):
        assert (found.model, found.rung, found.dtype) == ("all", "optimizers", dtype)
        assert found.passed, found
    assert f"of {len(SPECS) * 50 * 3} tensors" in wide.detail


ADAM, SGD = optim.adam, optim.sgd


@pytest.mark.parametrize(
    "name, fault",
    [
        ("adam", lambda lr, betas=(0.9, 0.999): ADAM(lr, betas, 1.1e-8)),
        ("adamw", lambda lr, **options: optax.adamw(lr)),
        ("rmsprop", lambda lr, **options: optax.rmsprop(lr, 0.99)),
        ("sgd", lambda lr: SGD(lr * (1 + 1e-5))),
    ],
)
def test_the_rung_fails_on_a_fault(name, fault, monkeypatch):
    monkeypatch.setattr(optim, name, fault)
    specs = [spec for spec in SPECS if spec.name == name][:1]
    wide, _ = optimizers.run(specs)
    assert not wide.passed and str(specs[0]) in wide.detail


def test_float32_schedules_are_the_parameters_precision_under_64_bits():
    """Parameters stay float32 where 64 bits are enabled."""
    spec = OptimizerSpec("adam", 0.01, {}, SCHEDULES[-2], ClipSpec("norm", 1.0))
    with jax.enable_x64(True):
        optimizer, params = spec.to_optax(), {"w": jnp.ones(3, jnp.float32)}
        updates, state = optimizer.update(params, optimizer.init(params), params)
    assert {leaf.dtype for leaf in jax.tree.leaves((updates, state))} == {
        jnp.dtype("float32"),
        jnp.dtype("int32"),
    }


@pytest.mark.parametrize("make", [optim.clip_by_global_norm, optim.clip_by_value])
@pytest.mark.parametrize("limit", [0.5, 100.0])
def test_clipping_is_torchs(make, limit):
    rng = np.random.default_rng(0)
    gradients = [rng.normal(size=(3, 2)), np.zeros(4), rng.normal(size=1)]
    parameters = [torch.nn.Parameter(torch.zeros(g.shape, dtype=torch.float64)) for g in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = torch.tensor(gradient)
    kind = "norm" if make is optim.clip_by_global_norm else "value"
    ClipSpec(kind, limit).to_torch(parameters)()
    with jax.enable_x64(True):
        clipped, _ = make(limit).update([jnp.asarray(g) for g in gradients], optax.EmptyState())
        ours = [np.asarray(gradient) for gradient in clipped]
    for found, parameter in zip(ours, parameters, strict=True):
        assert parameter.grad is not None
        np.testing.assert_allclose(found, parameter.grad.numpy(), rtol=1e-15)
    assert (np.abs(ours[0] - gradients[0]).max() > 0) == (limit < 1)


def test_gradients_of_zero_are_clipped_to_zero():
    zeros = {"w": jnp.zeros(3)}
    updates, _ = optim.clip_by_global_norm(1.0).update(zeros, optax.EmptyState())
    assert (updates["w"] == 0).all()  # pyright: ignore


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: optim.sgd(0.1, nesterov=True), "momentum"),
        (lambda: optim.sgd(0.1, 0.9, nesterov=True, dampening=0.1), "dampening"),
        (lambda: optim.clip_by_global_norm(-1.0), "max_norm is -1"),
        (lambda: optim.clip_by_value(float("nan")), "clip_value is nan"),
        (lambda: schedules.step_lr(0.1, 0), "step_size is 0"),
        (lambda: schedules.step_lr(0.1, 1, 0.0), "gamma is 0"),
        (lambda: schedules.multi_step_lr(0.1, (1,), -1.0), "gamma is -1"),
        (lambda: schedules.linear_lr(0.1, 0.0), "start_factor is 0"),
        (lambda: schedules.linear_lr(0.1, total_iters=0), "total_iters is 0"),
        (lambda: schedules.cosine_annealing_lr(0.1, 0), "T_max is 0"),
        (lambda: schedules.one_cycle_lr(0.1, 0), "total_steps is 0"),
        (lambda: schedules.one_cycle_lr(0.1, 10, 1.5), "pct_start is 1.5"),
        (lambda: schedules.one_cycle_lr(0.1, 10, 0.1), "phase without a step"),
        (lambda: schedules.one_cycle_lr(0.1, 10, 1.0), "phase without a step"),
        (lambda: schedules.one_cycle_lr(0.1, 10, anneal_strategy="exp"), "'exp'.*linear"),
        (lambda: schedules.sequential_lr([lambda step: jnp.zeros(())], (1,)), "1 schedules"),
        (lambda: PARTS_OUT_OF_ORDER.to_jax(0.1), "rising"),
        (lambda: ScheduleSpec("poly").to_jax(0.1), "'poly'.*cosine"),
        (
            lambda: ScheduleSpec(
                "sequential", {"schedules": SCHEDULES[-2:], "milestones": (3,)}
            ).to_jax(0.1),
            "'one_cycle'",
        ),
        (lambda: ClipSpec("max", 1.0).to_optax(), "'max'.*norm or value"),
    ],
)
def test_bad_options_are_named(make, words):
    with pytest.raises(InputError, match=words):
        make()


PARTS_OUT_OF_ORDER = ScheduleSpec("sequential", {"schedules": PARTS, "milestones": (5, 5)})


def test_sgd_has_torchs_first_buffer():
    """Dampening does not apply to the first gradient."""
    optimizer = optim.sgd(1.0, 0.9, dampening=0.5)
    params = jnp.zeros(1)
    state = optimizer.init(params)
    first, state = optimizer.update(jnp.ones(1), state, params)
    second, _ = optimizer.update(jnp.ones(1), state, params)
    np.testing.assert_allclose(np.asarray([first, second]).ravel(), [-1.0, -1.4], rtol=1e-6)


def test_pytorchs_side_has_the_same_names():
    assert {*OPTIMIZERS} <= {*torch_ref.train.OPTIMIZERS}
    assert not {"optimizer", "lbfgs"} & {*torch_ref.train.OPTIMIZERS}
