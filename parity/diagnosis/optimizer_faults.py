"""The faults of an optimizer that are known, each as rules with a switch turned."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from parity.diagnosis.optimizer_rules import Rules, rules
from parity.pairs.optimizers import ClipSpec, OptimizerSpec

BETAS = (
    (0.9, 0.999),
    (0.9, 0.99),
    (0.9, 0.95),
    (0.9, 0.98),
    (0.5, 0.999),
    (0.0, 0.99),
    (0.95, 0.999),
)
DECAYS = (1e-2, 1e-4, 5e-4, 1e-3, 1e-5, 0.1, 0.05, 0.3)
LIMITS = (1.0, 0.5, 5.0, 10.0, 2.0, 0.1, 0.25, 0.01)
"""What is usual."""


def faults(
    spec: OptimizerSpec, base: Rules, decays: Sequence[float] = ()
) -> Iterator[tuple[str, Rules]]:
    """Each known fault, in words, and the rules with it; those that apply to the spec.

    `decays` are weight decays of other parameters.
    """

    def but(**changes) -> Rules:
        return dataclasses.replace(base, **changes)

    yield "the step goes up the gradient", but(step_sign=-1.0)
    yield "the step goes up the gradient", but(gradient_sign=-1.0)
    if spec.schedule is not None:
        yield from _schedule_faults(spec, base)
    for factor in (10, 0.1, 2, 0.5):
        yield f"the learning rate is {factor:g} times PyTorch's", but(lrs=factor * base.lrs)
    if base.name == "adam":
        yield from _adam_faults(base)
    if base.name == "rmsprop":
        yield from _rmsprop_faults(base)
    if base.name == "adagrad":
        yield from _adagrad_faults(base)
    if base.name in ("sgd", "rmsprop"):
        yield from _momentum_faults(base)
    if base.name != "sgd":
        for eps in (1e-8, 1e-7, 1e-6, 1e-5, 1e-3, 1e-10, 1e-16, 0.0):
            if eps != base.eps:
                yield f"eps is {eps:g}", but(eps=eps)
    yield from _decay_faults(base, tuple(dict.fromkeys((*decays, *DECAYS))))
    yield from _clip_faults(base)
    text = "the optimizer's state is reset at each step"
    yield text, but(reset=True)
    yield text, but(reset=True, lrs=np.full_like(base.lrs, base.lrs[0]))
    text = "the gradients are accumulated (zero_grad is missing)"
    yield text, but(accumulate="raw")
    if base.clip is not None:
        yield text, but(accumulate="clipped")
    yield from _step_faults(base)


def _step_faults(base: Rules) -> Iterator[tuple[str, Rules]]:
    """What is done to whole gradients and steps."""

    def but(**changes) -> Rules:
        return dataclasses.replace(base, **changes)

    yield "the signs of the gradients are taken", but(sign="gradient")
    yield "the signs of the steps are taken", but(sign="update")
    steps = len(base.lrs) - 1
    for every in range(2, min(steps, 4) + 1):
        text = f"a step is taken at every {every} gradients, with their mean (optax.MultiSteps)"
        yield text, but(every=every, every_of="mean")
        text = f"{every} steps are applied together (optax.apply_every)"
        yield text, but(every=every, every_of="sum")
    text = "no step is taken in the steps that are compared (gradients are accumulated over more)"
    yield text, but(every=steps + 1, every_of="mean")
    for decay in (0.9, 0.99, 0.999):
        text = f"the steps are averaged with decay {decay} (optax.ema)"
        yield text, but(average=decay, average_debiased=True)
        yield text, but(average=decay)


def _adagrad_faults(base: Rules) -> Iterator[tuple[str, Rules]]:
    def but(**changes) -> Rules:
        return dataclasses.replace(base, **changes)

    for place in ("inside", "both"):
        yield "Adagrad's eps is inside the root", but(eps_place=place)
    for start in (0.1, 0.0):
        if start != base.first_square:
            yield f"Adagrad's sum of squares starts at {start:g}", but(first_square=start)
    text = "Adagrad's sum of squares starts at 0.1, and eps is 1e-07 and inside the root, as by "
    text += "Optax's defaults"
    yield text, but(first_square=0.1, eps=1e-7, eps_place="inside")


def _schedule_faults(spec: OptimizerSpec, base: Rules) -> Iterator[tuple[str, Rules]]:
    for text, move in (
        ("the schedule is one step early", lambda values: np.append(values[1:], values[-1])),
        ("the schedule is one step late", lambda values: np.insert(values[:-1], 0, values[0])),
    ):
        both = {"lrs": move(base.lrs), "momenta": move(base.momenta)}
        yield text, dataclasses.replace(base, **both)
        yield text, dataclasses.replace(base, lrs=both["lrs"])
    plain = rules(dataclasses.replace(spec, schedule=None), len(base.lrs) - 1)
    text = "the schedule is ignored"
    yield text, dataclasses.replace(base, lrs=plain.lrs, momenta=plain.momenta)
    yield text, dataclasses.replace(base, lrs=plain.lrs)
    yield text, dataclasses.replace(base, lrs=np.full_like(base.lrs, base.lrs[0]))
    if (plain.momenta != base.momenta).any():
        yield (
            "the schedule's cycle of the momentum is ignored",
            dataclasses.replace(base, momenta=plain.momenta),
        )


def _adam_faults(base: Rules) -> Iterator[tuple[str, Rules]]:
    def but(**changes) -> Rules:
        return dataclasses.replace(base, **changes)

    yield "Adam's eps is inside the root", but(eps_place="inside")
    yield "Adam's eps is inside the root", but(eps_place="both")
    yield "Adam's eps is added before the bias correction", but(eps_place="uncorrected")
    text = "Adam's bias correction is missing"
    yield f"{text} for the first moment", but(correct_first=False)
    yield f"{text} for the second moment", but(correct_second=False)
    yield f"{text} for both moments", but(correct_first=False, correct_second=False)
    if (base.momenta == base.momenta[0]).all():  # else a schedule moves beta1
        swapped = but(momenta=np.full_like(base.momenta, base.decay), decay=base.momenta[0])
        yield "Adam's betas are swapped", swapped
        for beta1, beta2 in BETAS:
            if (beta1, beta2) != (base.momenta[0], base.decay):
                momenta = np.full_like(base.momenta, beta1)
                yield f"Adam's betas are {beta1, beta2}", but(momenta=momenta, decay=beta2)
    if base.amsgrad:
        yield "AMSGrad is off", but(amsgrad=False)
        text = "AMSGrad's maximum is taken after the bias correction"
        yield text, but(amsgrad_corrected=True)
    else:
        yield "AMSGrad is on", but(amsgrad=True)
        yield "AMSGrad is on", but(amsgrad=True, amsgrad_corrected=True)
    yield "Adam's momentum is Nesterov's, as optax.nadam's", but(nesterov=True)


def _rmsprop_faults(base: Rules) -> Iterator[tuple[str, Rules]]:
    def but(**changes) -> Rules:
        return dataclasses.replace(base, **changes)

    yield "RMSprop's eps is inside the root", but(eps_place="inside")
    yield "RMSprop's eps is inside the root", but(eps_place="both")
    for decay in (0.9, 0.99, 0.999, 0.95):
        if decay != base.decay:
            yield f"RMSprop's decay (alpha) is {decay}", but(decay=decay)
    yield "RMSprop's mean square starts at 1", but(first_square=1.0)
    if base.centered:
        yield "RMSprop is not centred", but(centered=False)
    else:
        yield "RMSprop is centred", but(centered=True)


def _momentum_faults(base: Rules) -> Iterator[tuple[str, Rules]]:
    def but(**changes) -> Rules:
        return dataclasses.replace(base, **changes)

    if not base.momenta.any():
        return
    yield "the momentum is missing", but(momenta=np.zeros_like(base.momenta), nesterov=False)
    average = {"dampening": base.momenta}
    text = "the momentum is an average, of (1 - m) g"
    yield text, but(**average, first_buffer_is_gradient=False)
    yield text, but(**average)
    yield text, but(**average, first_buffer_is_gradient=False, debiased_buffer=True)
    if base.nesterov:
        yield "the momentum is not Nesterov's", but(nesterov=False)
    else:
        yield "the momentum is Nesterov's", but(nesterov=True)
    if base.dampening.any():
        yield "the dampening is ignored", but(dampening=np.zeros_like(base.dampening))
        text = "the first momentum buffer is dampened, as from zero"
        yield text, but(first_buffer_is_gradient=False)
    yield "the learning rate is inside the momentum buffer", but(lr_in_buffer=True)


def _decay_faults(base: Rules, decays: Sequence[float]) -> Iterator[tuple[str, Rules]]:
    def but(**changes) -> Rules:
        return dataclasses.replace(base, **changes)

    if base.weight_decay == 0:
        for decay in decays:
            text = f"there is a weight decay of {decay:g}"
            yield text, but(weight_decay=decay, decoupled=False)
            text = f"there is a decoupled weight decay of {decay:g}"
            yield text, but(weight_decay=decay, decoupled=True)
        return
    yield "the weight decay is missing", but(weight_decay=0.0)
    if base.decoupled:
        yield "the weight decay is coupled (L2) instead of decoupled", but(decoupled=False)
        text = "the decoupled weight decay is not multiplied by the learning rate"
        yield text, but(decay_without_lr=True)
        yield "the weight decay is of the parameter after the step", but(decay_after=True)
    else:
        yield "the weight decay is decoupled instead of coupled (L2)", but(decoupled=True)
        text = "the weight decay is decoupled, and not multiplied by the learning rate"
        yield text, but(decoupled=True, decay_without_lr=True)
    for decay in decays:
        if decay != base.weight_decay:
            yield f"the weight decay is {decay:g}", but(weight_decay=decay)


def _clip_faults(base: Rules) -> Iterator[tuple[str, Rules]]:
    def but(**changes) -> Rules:
        return dataclasses.replace(base, **changes)

    if base.clip is None:
        yield from _own_clipping(base)
        return
    limit = base.clip.limit
    yield "the clipping is missing", but(clip=None)
    if base.clip.kind == "norm":
        yield "the clipping is by value instead of by norm", but(clip=ClipSpec("value", limit))
        text = "the clipping is per tensor instead of by the norm of all"
        yield text, but(clip_per_tensor=True)
        yield "the clipping divides by the norm without PyTorch's 1e-6", but(clip_eps=0.0)
    else:
        text = "the clipping is by norm instead of by value"
        yield text, but(clip=ClipSpec("norm", limit))
        yield text, but(clip=ClipSpec("norm", limit), clip_eps=0.0)
    # Either side of the multiplication by the learning rate; with and without PyTorch's 1e-6.
    for place in ("after", "last"):
        for eps in (1e-6, 0.0):
            text = "the clipping comes after the optimizer instead of before it"
            yield text, but(clip_place=place, clip_eps=eps)


def _own_clipping(base: Rules) -> Iterator[tuple[str, Rules]]:
    """Clipping that PyTorch has none of, before the optimizer and after it."""
    places = {"before": "", "after": " after the optimizer"}
    if base.name == "sgd" and not base.momenta.any() and not base.weight_decay:
        del places["after"]
    for place, when in places.items():
        for limit in LIMITS:
            for text, kind, per_tensor in (
                ("clipped to a norm of {:g}, of all together", "norm", False),
                ("clipped to a value of {:g}", "value", False),
                ("clipped to a norm of {:g}, tensor by tensor", "norm", True),
                ("clipped to a root mean square of {:g}, tensor by tensor", "rms", True),
            ):
                changed = dataclasses.replace(
                    base,
                    clip=ClipSpec(kind, limit),
                    clip_per_tensor=per_tensor,
                    clip_eps=0.0,
                    clip_place=place,
                )
                what = "steps" if when else "gradients"
                yield f"the {what} are {text.format(limit)}{when}", changed
                if kind == "norm":
                    yield (
                        f"the {what} are {text.format(limit)}{when}",
                        dataclasses.replace(changed, clip_eps=1e-6),
                    )
