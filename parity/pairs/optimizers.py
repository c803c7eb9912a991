"""An optimizer with its schedule and clipping, described once for both frameworks."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import optax
import torch
from torch.optim import lr_scheduler

import torch_ref.train
from jax_impl.errors import InputError
from jax_impl.training import optim, schedules
from jax_impl.training.schedules import Schedule

MOMENTUM_OPTIONS = ("base_momentum", "max_momentum")
"""Those of one_cycle that only the momentum's cycle has."""
LR_OPTIONS = ("div_factor", "final_div_factor")
"""Those that only the learning rate's has."""

SCHEDULES = {
    "step": (schedules.step_lr, lr_scheduler.StepLR),
    "multistep": (schedules.multi_step_lr, lr_scheduler.MultiStepLR),
    "linear": (schedules.linear_lr, lr_scheduler.LinearLR),
    "cosine": (schedules.cosine_annealing_lr, lr_scheduler.CosineAnnealingLR),
}
"""By name, the function of an initial rate and options here and the class in PyTorch."""


@dataclasses.dataclass(frozen=True)
class ScheduleSpec:
    """A schedule: a name of `SCHEDULES`, "one_cycle" or "sequential", and PyTorch's options.

    The optimizer's learning rate is the initial one, but one_cycle's largest. one_cycle has
    `cycle_momentum`, PyTorch's True by default: then it replaces the optimizer's momentum or beta1.
    sequential has `schedules`, specs of names of `SCHEDULES`, and `milestones`.
    """

    name: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def to_jax(self, lr: float) -> Schedule:
        """The learning rate as a function of the step."""
        options = dict(self.options)
        if self.name == "sequential":
            parts = [part.to_jax(lr) for part in self._parts()]
            return schedules.sequential_lr(parts, options["milestones"])
        if self.name == "one_cycle":
            omitted = ("cycle_momentum", *MOMENTUM_OPTIONS)
            return schedules.one_cycle_lr(lr, **_without(options, omitted))
        return self._makers()[0](lr, **options)

    def momentum(self) -> Schedule | None:
        """The momentum as a function of the step, or None if the schedule leaves it alone."""
        if self.name != "one_cycle" or not self.options.get("cycle_momentum", True):
            return None
        return schedules.one_cycle_momentum(
            **_without(self.options, ("cycle_momentum", *LR_OPTIONS))
        )

    def to_torch(self, optimizer: torch.optim.Optimizer) -> lr_scheduler.LRScheduler:
        """PyTorch's scheduler of `optimizer`, whose learning rate is the initial one."""
        if self.name == "sequential":
            parts = [part.to_torch(optimizer) for part in self._parts()]
            return lr_scheduler.SequentialLR(optimizer, parts, list(self.options["milestones"]))
        if self.name == "one_cycle":
            return lr_scheduler.OneCycleLR(optimizer, optimizer.defaults["lr"], **self.options)
        return self._makers()[1](optimizer, **self.options)

    def _makers(self) -> tuple[Callable[..., Schedule], Callable[..., lr_scheduler.LRScheduler]]:
        if self.name not in SCHEDULES:
            names = ", ".join((*SCHEDULES, "one_cycle", "sequential"))
            raise InputError(f"no schedule named {self.name!r}: choose one of {names}")
        return SCHEDULES[self.name]

    def _parts(self) -> tuple["ScheduleSpec", ...]:
        parts = tuple(self.options["schedules"])
        for part in parts:
            # PyTorch's one_cycle changes the initial rate that all parts of a sequence share.
            if part.name not in SCHEDULES:
                raise InputError(f"a sequence of schedules cannot have {part.name!r} as a part")
        return parts


@dataclasses.dataclass(frozen=True)
class ClipSpec:
    """Gradient clipping: kind "norm", of all gradients together, or "value", and its limit."""

    kind: str
    limit: float

    def to_optax(self) -> optax.GradientTransformation:
        """The clipping as an Optax transformation."""
        return self._makers()[0](self.limit)

    def to_torch(self, parameters: Iterable[torch.Tensor]) -> Callable[[], object]:
        """A function that clips the gradients of `parameters` in place."""
        clip, parameters = self._makers()[1], list(parameters)
        return lambda: clip(parameters, self.limit)

    def _makers(
        self,
    ) -> tuple[Callable[[float], optax.GradientTransformation], Callable[..., object]]:
        makers = {
            "norm": (optim.clip_by_global_norm, torch.nn.utils.clip_grad_norm_),
            "value": (optim.clip_by_value, torch.nn.utils.clip_grad_value_),
        }
        if self.kind not in makers:
            raise InputError(f"no clipping by {self.kind!r}: choose norm or value")
        return makers[self.kind]


class TorchOptimizer(NamedTuple):
    """PyTorch's optimizer, its scheduler if it has one, and what clips the gradients before it."""

    optimizer: torch.optim.Optimizer
    scheduler: lr_scheduler.LRScheduler | None
    clip: Callable[[], object]

    def step(self) -> None:
        """Clips the gradients, steps, and moves the schedule on."""
        self.clip()
        self.optimizer.step()
        if self.scheduler is not None:
            self.scheduler.step()


@dataclasses.dataclass(frozen=True)
class OptimizerSpec:
    """An optimizer of `optimizer_names.OPTIMIZERS` with PyTorch's options, schedule and clipping.

    All parameters are one group: as in PyTorch without groups, weight decay applies to each.
    """

    name: str
    lr: float
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    schedule: ScheduleSpec | None = None
    clip: ClipSpec | None = None

    def __str__(self) -> str:
        parts = [f"{self.name}({', '.join([f'lr={self.lr}', *_texts(self.options)])})"]
        if self.schedule is not None:
            options = dict(self.schedule.options)
            if "schedules" in options:
                options["schedules"] = "+".join(part.name for part in options["schedules"])
            parts.append(f"{self.schedule.name}({', '.join(_texts(options))})")
        if self.clip is not None:
            parts.append(f"clip {self.clip.kind} {self.clip.limit}")
        return " ".join(parts)

    def to_optax(self) -> optax.GradientTransformation:
        """Clipping, then the optimizer; the schedule counts the calls of `update`."""
        lr, options = self.lr, dict(self.options)
        if self.schedule is not None:
            lr, momentum = self.schedule.to_jax(self.lr), self.schedule.momentum()
            if momentum is not None and self.name in ("adam", "adamw"):
                options["betas"] = (momentum, options.get("betas", (0.9, 0.999))[1])
            elif momentum is not None:
                options["momentum"] = momentum
        optimizer = optim.create_optimizer(self.name, lr, **options)
        return optimizer if self.clip is None else optax.chain(self.clip.to_optax(), optimizer)

    def to_torch(self, parameters: Iterable[torch.Tensor]) -> TorchOptimizer:
        """The same for PyTorch; gradients are the caller's, in `parameters`' `grad`."""
        parameters = list(parameters)
        make = torch_ref.train.OPTIMIZERS[self.name]
        optimizer = make(parameters, lr=self.lr, **self.options)
        return TorchOptimizer(
            optimizer,
            None if self.schedule is None else self.schedule.to_torch(optimizer),
            (lambda: None) if self.clip is None else self.clip.to_torch(parameters),
        )


def _texts(options: Mapping[str, Any]) -> list[str]:
    return [f"{name}={value}" for name, value in options.items()]


def _without(options: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in names}
