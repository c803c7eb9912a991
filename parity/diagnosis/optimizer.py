"""An optimizer that departs, from gradients that both sides share."""

import torch

import torch_ref.train
from parity.diagnosis import optimizer_causes
from parity.diagnosis.common import said
from parity.ladder.result import Diagnosis
from parity.ladder.rungs import optimizer
from parity.ladder.tolerance import FLOAT64_TOLERANCE, relative_error
from parity.pairs.optimizers import OptimizerSpec
from parity.pairs.pair import Case, Tensors, precision

OPTIONS = {
    "lr", "betas", "eps", "weight_decay", "momentum", "nesterov", "dampening", "alpha", "centered",
    "amsgrad",
}  # fmt: skip
"""What an `OptimizerSpec` takes of a PyTorch optimizer's options."""


def find(case: Case, state: Tensors) -> Diagnosis:
    """From the shared gradients of the optimizer rung."""
    shared = list(optimizer.shared_gradients(case))
    with precision(case.dtype):
        observed = list(optimizer.our_steps(case, state))
    named = dict(case.torch_model(state).named_parameters())
    params = {name: value.detach().cpu().numpy() for name, value in named.items()}
    spec = spec_of(case.pair.optimizer.torch(named.values()))
    expected = list(optimizer.their_steps(case, state))
    worst, error, step = None, 0.0, 0
    for number, (ours, theirs) in enumerate(zip(observed, expected, strict=True), 1):
        errors = {name: relative_error(ours[name], theirs[name]) for name in theirs if name in ours}
        worst = max(errors, key=errors.__getitem__)
        error, step = errors[worst], number
        if not error <= FLOAT64_TOLERANCE:
            break
    cause = None if spec is None else optimizer_causes.cause(spec, params, shared, observed)
    return said("the optimizer", error, cause=cause, what=f"{worst} at step {step}, by the update")


def spec_of(made: torch.optim.Optimizer) -> OptimizerSpec | None:
    """What describes a PyTorch optimizer; None for one that this project does not know."""
    names = {cls: name for name, cls in torch_ref.train.OPTIMIZERS.items()}
    name = names.get(type(made))
    if name is None or len(made.param_groups) != 1:
        return None
    unset = {field: value for field, value in made.defaults.items() if field in OPTIONS}
    return OptimizerSpec(name, float(unset.pop("lr")), unset)
