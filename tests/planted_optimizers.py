"""Faults planted in Optax chains, each with the cause that the diagnosis tells."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jax_impl.training import optim
from jax_impl.training.schedules import Schedule
from parity.ladder.rungs.optimizers import shared
from parity.pairs.optimizers import ClipSpec, OptimizerSpec, ScheduleSpec

STEPS = 5
PARAMS, STACKED = shared(STEPS)
GRADIENTS = [{name: values[step] for name, values in STACKED.items()} for step in range(STEPS)]
LR, DECAY = 0.01, 0.1

SGD = OptimizerSpec("sgd", LR, {"momentum": 0.8})
PLAIN_SGD = OptimizerSpec("sgd", LR)
NESTEROV = OptimizerSpec("sgd", LR, {"momentum": 0.8, "nesterov": True})
DAMPENED = OptimizerSpec("sgd", LR, {"momentum": 0.8, "dampening": 0.3})
DECAYED_SGD = OptimizerSpec("sgd", LR, {"momentum": 0.8, "weight_decay": DECAY})
ADAM = OptimizerSpec("adam", LR)
DECAYED_ADAM = OptimizerSpec("adam", LR, {"weight_decay": DECAY})
AMSGRAD = OptimizerSpec("adam", LR, {"amsgrad": True})
OTHER_ADAM = OptimizerSpec("adam", LR, {"betas": (0.8, 0.95), "eps": 1e-4})
ADAMW = OptimizerSpec("adamw", LR, {"weight_decay": DECAY})
RMSPROP = OptimizerSpec("rmsprop", LR)
OTHER_RMSPROP = OptimizerSpec("rmsprop", LR, {"alpha": 0.9})
CENTERED = OptimizerSpec("rmsprop", LR, {"centered": True})
NORM, VALUE = ClipSpec("norm", 0.5), ClipSpec("value", 0.2)
CLIPPED = OptimizerSpec("sgd", LR, {"momentum": 0.8}, clip=NORM)
CLIPPED_ADAM = OptimizerSpec("adam", LR, clip=NORM)
CLIPPED_VALUE = OptimizerSpec("sgd", LR, {"momentum": 0.8}, clip=VALUE)
COSINE = ScheduleSpec("cosine", {"T_max": 20})
SCHEDULED = OptimizerSpec("sgd", LR, {"momentum": 0.8}, COSINE)
CYCLED = OptimizerSpec("adam", LR, {}, ScheduleSpec("one_cycle", {"total_steps": STEPS}))


def steps_by(
    lr, *parts: optax.GradientTransformation
) -> Callable[[], optax.GradientTransformation]:
    """A chain that ends with the learning rate."""
    return lambda: optax.chain(*parts, optax.scale_by_learning_rate(lr))


def adam(
    first: bool = True, second: bool = True, early_eps: bool = False
) -> optax.GradientTransformation:
    """Adam without bias corrections, or with eps before them."""

    def init(params: Any) -> Any:
        return (jnp.zeros(()), *(jax.tree.map(jnp.zeros_like, params) for _ in range(2)))

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        g, (count, m, v) = updates, state
        count = count + 1
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g**2, v, g)
        c1, c2 = 1 - 0.9**count, 1 - 0.999**count

        def step(m, v):
            m = m / c1 if first else m
            if early_eps:
                return m * jnp.sqrt(c2) / (jnp.sqrt(v) + 1e-8)
            return m / (jnp.sqrt(v / c2 if second else v) + 1e-8)

        return jax.tree.map(step, m, v), (count, m, v)

    return optax.GradientTransformation(init, update)


def per_tensor(limit: float) -> optax.GradientTransformation:
    clip = optim.clip_by_global_norm(limit)
    return optax.stateless(lambda g, _: jax.tree.map(lambda v: clip.update(v, ())[0], g))


def forgetful(
    make: Callable[[], optax.GradientTransformation],
) -> Callable[[], optax.GradientTransformation]:
    """Initialises the state before each step."""

    def build():
        inner = make()

        def update(g: Any, p: Any) -> Any:
            return inner.update(g, inner.init(p), p)[0]

        return optax.stateless(update)

    return build


def shifted(spec: OptimizerSpec, by: int) -> Schedule:
    assert spec.schedule is not None
    schedule = spec.schedule.to_jax(spec.lr)
    return lambda step: schedule(jnp.maximum(jnp.asarray(step) + by, 0))


def cycled_momentum(by: int):
    assert CYCLED.schedule is not None
    momentum = CYCLED.schedule.momentum()
    assert momentum is not None
    return lambda step: momentum(jnp.maximum(step + by, 0))


def other(spec: OptimizerSpec, lr=None, **options) -> Callable[[], optax.GradientTransformation]:
    """The spec's optimizer with other options, without its schedule and clipping."""
    merged = {**spec.options, **options}
    return lambda: optim.create_optimizer(spec.name, spec.lr if lr is None else lr, **merged)


def before(
    part: optax.GradientTransformation, make: Callable[[], optax.GradientTransformation]
) -> Callable[[], optax.GradientTransformation]:
    return lambda: optax.chain(part, make())


def after(
    part: optax.GradientTransformation, make: Callable[[], optax.GradientTransformation]
) -> Callable[[], optax.GradientTransformation]:
    return lambda: optax.chain(make(), part)


def matrices(params):
    return jax.tree.map(lambda p: p.ndim > 1, params)


ASCENT = "the step goes up the gradient"
INSIDE = "Adam's eps is inside the root"
RMS_INSIDE = "RMSprop's eps is inside the root"
CORRECTION = "Adam's bias correction is missing for "
AVERAGE = "the momentum is an average, of (1 - m) g"
COUPLED = "the weight decay is coupled (L2) instead of decoupled"
DECOUPLED = "the weight decay is decoupled instead of coupled (L2)"
SKIPS = "the weight decay skips parameters of one dimension (biases)"
LATE_CLIP = "the clipping comes after the optimizer instead of before it"
RESET = "the optimizer's state is reset at each step"
# What has no other state than the momentum.
STATELESS = "the momentum is missing, or " + RESET
UNCLIPPED = "the clipping is missing"
ACCUMULATED = "the gradients are accumulated (zero_grad is missing)"
IGNORED = "the schedule is ignored"

SCALE = optim.scale_by_adam((0.9, 0.999), 1e-8)
SIGN = optax.stateless(lambda g, _: jax.tree.map(jnp.sign, g))
CLIPPINGS = (
    (optax.clip_by_global_norm(0.5), "norm of 0.5, of all together"),
    (optax.clip(0.1), "value of 0.1"),
    (per_tensor(0.25), "norm of 0.25, tensor by tensor"),
    (optax.clip_by_block_rms(0.1), "root mean square of 0.1, tensor by tensor"),
)


def decay_after(updates: Any, params: Any) -> Any:
    """The decay of what a step leads to."""
    return jax.tree.map(lambda u, p: (p + u) * (1 - LR * DECAY) - p, updates, params)


PLANTED = [
    (SGD, before(optax.scale(-1), SGD.to_optax), ASCENT),
    (DECAYED_SGD, before(optax.scale(-1), DECAYED_SGD.to_optax), ASCENT),
    (ADAMW, after(optax.scale(-1), ADAMW.to_optax), ASCENT),
    *(
        (spec, other(spec, lr=factor * LR), f"the learning rate is {factor:g} times PyTorch's")
        for spec in (SGD, ADAMW, RMSPROP)
        for factor in (10, 0.1, 2, 0.5)
    ),
    (ADAM, steps_by(LR, optax.scale_by_adam(eps=0, eps_root=1e-8)), INSIDE),
    (ADAM, steps_by(LR, optax.scale_by_adam(eps=1e-8, eps_root=1e-8)), INSIDE),
    (
        ADAM,
        steps_by(LR, adam(early_eps=True)),
        "Adam's eps is added before the bias correction",
    ),
    (ADAM, steps_by(LR, adam(first=False)), CORRECTION + "the first moment"),
    (ADAM, steps_by(LR, adam(second=False)), CORRECTION + "the second moment"),
    (ADAM, steps_by(LR, adam(False, False)), CORRECTION + "both moments"),
    (OTHER_ADAM, other(OTHER_ADAM, betas=(0.95, 0.8)), "Adam's betas are swapped"),
    *(
        (spec, other(spec, betas=betas), f"Adam's betas are {betas}")
        for spec, betas in (
            (ADAM, (0.9, 0.99)),
            (ADAM, (0.9, 0.95)),
            (OTHER_ADAM, (0.9, 0.999)),
        )
    ),
    (ADAM, other(ADAM, amsgrad=True), "AMSGrad is on"),
    (ADAM, steps_by(LR, optax.scale_by_amsgrad()), "AMSGrad is on"),
    (AMSGRAD, other(AMSGRAD, amsgrad=False), "AMSGrad is off"),
    (
        AMSGRAD,
        steps_by(LR, optax.scale_by_amsgrad()),
        "AMSGrad's maximum is taken after the bias correction",
    ),
    *(
        (spec, other(spec, eps=eps), f"eps is {eps:g}")
        for spec, eps in (
            (ADAM, 1e-7),
            (ADAM, 1e-6),
            (ADAM, 1e-5),
            (ADAM, 1e-3),
            (OTHER_ADAM, 1e-8),
            (RMSPROP, 1e-6),
        )
    ),
    (RMSPROP, steps_by(LR, optax.scale_by_rms(0.99, 1e-8)), RMS_INSIDE),
    (RMSPROP, other(RMSPROP, alpha=0.9), "RMSprop's decay (alpha) is 0.9"),
    (OTHER_RMSPROP, other(RMSPROP), "RMSprop's decay (alpha) is 0.99"),
    (
        RMSPROP,
        steps_by(LR, optax.scale_by_rms(0.99, 1e-8, initial_scale=1.0, eps_in_sqrt=False)),
        "RMSprop's mean square starts at 1",
    ),
    (CENTERED, other(RMSPROP), "RMSprop is not centred"),
    (RMSPROP, other(CENTERED), "RMSprop is centred"),
    (SGD, other(PLAIN_SGD), STATELESS),
    (SGD, steps_by(LR, optax.ema(0.8, debias=False)), AVERAGE),
    (SGD, steps_by(LR, optax.ema(0.8, debias=True)), AVERAGE),
    (SGD, other(SGD, dampening=0.8), AVERAGE),
    (NESTEROV, other(SGD), "the momentum is not Nesterov's"),
    (SGD, other(NESTEROV), "the momentum is Nesterov's"),
    (DAMPENED, other(SGD), "the dampening is ignored"),
    (
        DAMPENED,
        steps_by(LR, optax.scale(0.7), optax.trace(0.8)),
        "the first momentum buffer is dampened, as from zero",
    ),
    (
        SCHEDULED,
        lambda: optax.chain(optax.scale_by_learning_rate(shifted(SCHEDULED, 0)), optax.trace(0.8)),
        "the learning rate is inside the momentum buffer",
    ),
    *(
        (ADAM, other(ADAM, weight_decay=decay), f"there is a weight decay of {decay:g}")
        for decay in (1e-2, 1e-4)
    ),
    *(
        (
            ADAM,
            steps_by(LR, SCALE, optax.add_decayed_weights(decay)),
            f"there is a decoupled weight decay of {decay:g}",
        )
        for decay in (1e-2, 1e-4)
    ),
    *(
        (ADAMW, other(ADAMW, weight_decay=decay), f"the weight decay is {decay:g}")
        for decay in (1e-2, 1e-4)
    ),
    (ADAMW, other(ADAM), "the weight decay is missing"),
    (DECAYED_SGD, other(SGD), "the weight decay is missing"),
    (ADAMW, other(DECAYED_ADAM), COUPLED),
    (DECAYED_ADAM, other(ADAMW), DECOUPLED),
    (
        DECAYED_SGD,
        steps_by(LR, optax.trace(0.8), optax.add_decayed_weights(DECAY)),
        DECOUPLED,
    ),
    (
        ADAMW,
        after(optax.add_decayed_weights(-DECAY), other(ADAM)),
        "the decoupled weight decay is not multiplied by the learning rate",
    ),
    (
        DECAYED_ADAM,
        after(optax.add_decayed_weights(-DECAY), other(ADAM)),
        "the weight decay is decoupled, and not multiplied by the learning rate",
    ),
    (ADAMW, steps_by(LR, SCALE, optax.add_decayed_weights(DECAY, matrices)), SKIPS),
    (
        DECAYED_SGD,
        steps_by(LR, optax.add_decayed_weights(DECAY, matrices), optax.trace(0.8)),
        SKIPS,
    ),
    (CLIPPED, other(SGD), UNCLIPPED + ", or " + LATE_CLIP),  # these steps need none
    (CLIPPED_ADAM, other(ADAM), UNCLIPPED + ", or " + LATE_CLIP),
    (CLIPPED_VALUE, other(SGD), UNCLIPPED + ", or " + LATE_CLIP),
    (
        CLIPPED,
        before(optim.clip_by_value(NORM.limit), other(SGD)),
        "the clipping is by value instead of by norm",
    ),
    (
        CLIPPED_VALUE,
        before(optim.clip_by_global_norm(VALUE.limit), other(SGD)),
        "the clipping is by norm instead of by value",
    ),
    (
        CLIPPED,
        before(per_tensor(NORM.limit), other(SGD)),
        "the clipping is per tensor instead of by the norm of all",
    ),
    (
        CLIPPED,
        before(optax.clip_by_global_norm(NORM.limit), other(SGD)),
        "the clipping divides by the norm without PyTorch's 1e-6",
    ),
    (CLIPPED_ADAM, steps_by(LR, SCALE, optim.clip_by_global_norm(0.5)), LATE_CLIP),
    (CLIPPED_ADAM, steps_by(LR, SCALE, optax.clip_by_global_norm(0.5)), LATE_CLIP),
    (
        OptimizerSpec("adam", LR, clip=ClipSpec("norm", 0.04)),
        after(optim.clip_by_global_norm(0.04), other(ADAM)),
        LATE_CLIP,
    ),
    (SGD, forgetful(SGD.to_optax), STATELESS),
    (ADAM, forgetful(ADAM.to_optax), RESET),
    (SCHEDULED, forgetful(SCHEDULED.to_optax), RESET),
    (SCHEDULED, steps_by(shifted(SCHEDULED, 0)), STATELESS),
    (ADAM, before(optax.trace(1.0), ADAM.to_optax), ACCUMULATED),
    (CLIPPED, before(optax.trace(1.0), CLIPPED.to_optax), ACCUMULATED),
    (SCHEDULED, other(SGD, lr=shifted(SCHEDULED, 1)), "the schedule is one step early"),
    (SCHEDULED, other(SGD, lr=shifted(SCHEDULED, -1)), "the schedule is one step late"),
    (
        CYCLED,
        other(ADAM, lr=shifted(CYCLED, 1), betas=(cycled_momentum(1), 0.999)),
        "the schedule is one step early",
    ),
    (
        CYCLED,
        other(ADAM, lr=shifted(CYCLED, -1), betas=(cycled_momentum(0), 0.999)),
        "the schedule is one step late",
    ),
    (SCHEDULED, other(SGD), IGNORED),
    (CYCLED, other(ADAM), IGNORED),
    (CYCLED, other(ADAM, betas=(cycled_momentum(0), 0.999)), IGNORED),
    (
        CYCLED,
        other(ADAM, lr=shifted(CYCLED, 0)),
        "the schedule's cycle of the momentum is ignored",
    ),
    (ADAM, before(SIGN, ADAM.to_optax), "the signs of the gradients are taken"),
    (ADAM, steps_by(LR, SCALE, SIGN), "the signs of the steps are taken"),
    (
        ADAM,
        lambda: optax.MultiSteps(ADAM.to_optax(), 2).gradient_transformation(),
        "a step is taken at every 2 gradients, with their mean (optax.MultiSteps)",
    ),
    (
        ADAM,
        lambda: optax.MultiSteps(ADAM.to_optax(), STEPS + 1).gradient_transformation(),
        "no step is taken in the steps that are compared (gradients are accumulated over more)",
    ),
    (
        ADAM,
        after(optax.apply_every(2), ADAM.to_optax),
        "2 steps are applied together (optax.apply_every)",
    ),
    *(
        (
            ADAM,
            after(optax.ema(0.99, debias=debias), ADAM.to_optax),
            "the steps are averaged with decay 0.99 (optax.ema)",
        )
        for debias in (True, False)
    ),
    (
        ADAM,
        steps_by(LR, optax.scale_by_adam(nesterov=True)),
        "Adam's momentum is Nesterov's, as optax.nadam's",
    ),
    (
        ADAMW,
        after(optax.stateless(decay_after), other(ADAM)),
        "the weight decay is of the parameter after the step",
    ),
    *(
        (ADAM, before(part, ADAM.to_optax), f"the gradients are clipped to a {text}")
        for part, text in CLIPPINGS
    ),
    *(
        (
            ADAM,
            steps_by(LR, SCALE, part),
            f"the steps are clipped to a {text} after the optimizer",
        )
        for part, text in CLIPPINGS
    ),
]
