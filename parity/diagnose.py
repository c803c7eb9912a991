"""Where two implementations part, and why: the first module that departs, and the suspect that
makes them agree again.

Everything is in float64, where correct twins agree to rounding. A suspect is tried on the PyTorch
side, by changing one call as it runs (`parity.suspects`), and compared with what JAX computed.
"""

import contextlib
import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

import torch_ref.train
from parity import optimizer_causes
from parity.optimizers import OptimizerSpec
from parity.pair import Batch, Case, Pair, Tensors, precision
from parity.result import Diagnosis, Result
from parity.rungs import batch_stats, forward, gradients, init, inputs, loss, optimizer, trajectory
from parity.suspects import Call, Intercept, Thunk, backward_suspects, suspects
from parity.taps import numbered, recording
from parity.tolerance import FLOAT32_EPS, NOISE_MULTIPLE, relative_error

SAME = 1e-9
"""Relative: below any difference of formula, above the rounding of a deep net."""

SECONDS = 120.0
"""Until no further suspect is tried."""

OUTPUTS = "the outputs"

CANNOT_RUN = "it cannot be run: "
"""How the detail of a rung begins that an error of the JAX side's stopped."""

OPTIONS = {
    "lr", "betas", "eps", "weight_decay", "momentum", "nesterov", "dampening", "alpha", "centered",
    "amsgrad",
}  # fmt: skip
"""What an `OptimizerSpec` takes of a PyTorch optimizer's options."""


def diagnose(
    failed: Result,
    pair: Pair,
    state: Tensors,
    batches: Sequence[Batch],
    device: str = "cpu",
    *,
    jit: bool = True,
) -> Diagnosis:
    """Why the result `failed`, from the weights and batches that it was found with."""
    case = Case(pair, "float64", device, jit)
    if failed.detail.startswith(CANNOT_RUN):
        return _stopped(case, state, batches[0], failed.detail)
    if failed.dtype == "float32" and failed.rung != "init":
        return _precision(pair, state, batches[0], device, jit)
    if failed.rung == "init":
        return _init(pair)
    if failed.rung == "loss":
        return _loss(case, state, batches[0])
    if failed.rung == "optimizer":
        return _optimizer(case, state)
    # What departs earlier on the ladder is the cause of what departs later.
    for find in (_inputs, _forward, _gradients, _batch_stats):
        found = find(case, state, batches[0])
        if found is not None:
            return found
    return _training(case, state, batches)


def _said(
    module: str | None,
    error: float | None = None,
    before: str | None = None,
    before_error: float | None = None,
    cause: str | None = None,
    what: str = "output",
) -> Diagnosis:
    """The diagnosis with its sentence."""
    text = f"first departs: {what} of {module}" if module else "nothing departs by itself"
    if error is not None:
        text += f", relative error {error:.1e}"
    if before:
        text += f"; {before}, just before it, {before_error:.1e}"
    text += f". Cause: {cause}." if cause else ". No usual suspect makes the two agree."
    return Diagnosis(module, error, before, before_error, cause, text)


def _stopped(case: Case, state: Tensors, batch: Batch, detail: str) -> Diagnosis:
    """Which module of the JAX model was the last to complete."""
    with precision(case.dtype), recording() as recorder:
        # Whatever stopped the rung stops this too.
        with contextlib.suppress(Exception):
            case.apply(case.variables(state), batch.images, train=False)
    last = [case.pair.names(name) for name in recorder.outputs][-1:]
    text = f"{detail}; the last module to complete: {last[0] if last else 'none'}"
    return Diagnosis(None, None, last[0] if last else None, None, None, text)


def _different(ours: Any, theirs: Any) -> bool:
    return not relative_error(ours, theirs) <= SAME


# ------------------------------------------------------------------------------------- inputs


def _inputs(case: Case, state: Tensors, batch: Batch) -> Diagnosis | None:
    del state
    ours, theirs = inputs.both(case, batch)
    error = relative_error(ours, theirs)
    if error <= SAME:
        return None
    # Constants may have been rounded to float32.
    fits = (c for c, x in _input_suspects(theirs) if relative_error(ours, x) <= 1e-6)
    cause = next(fits, None)
    return _said("the inputs", error, cause=cause, what="values")


def _input_suspects(x: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """What the inputs, normalised by 0.5 and 0.5 or not at all, may have been turned into."""
    unit = (x + 1) / 2
    imagenet = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    cifar = np.array([0.4914, 0.4822, 0.4465]), np.array([0.247, 0.2435, 0.2616])
    if x.ndim == 4 and x.shape[1] == 3:
        yield "the channels are in the order blue, green, red", x[:, ::-1]
        for name, (mean, std) in (("ImageNet", imagenet), ("CIFAR-10", cifar)):
            shape = (1, 3, 1, 1)
            normalised = (unit - mean.reshape(shape)) / std.reshape(shape)
            yield f"the inputs are normalised by {name}'s mean and deviation", normalised
    yield "the inputs are not normalised: from 0 to 1", unit
    yield "the inputs are not divided by 255", unit * 255
    yield "the inputs are normalised twice", (x - 0.5) / 0.5
    yield "the inputs are divided by 256 and not by 255", (unit * 255 / 256 - 0.5) / 0.5
    yield "the mean is subtracted and nothing divided", unit - 0.5
    if x.ndim == 4:
        yield "height and width are swapped", x.transpose(0, 1, 3, 2)
        yield "the images are mirrored", x[..., ::-1]
        yield "the images are upside down", x[:, :, ::-1]
        n, c, h, w = x.shape
        reshaped = x.reshape(n, h, w, c).transpose(0, 3, 1, 2)
        yield "the layout is changed by a reshape and not by a transposition", reshaped
        raw = x.transpose(0, 2, 3, 1).reshape(n, c, h, w)
        yield "the layout is changed by a reshape and not by a transposition", raw
    yield "the images are in another order", x[::-1]
    yield "the images are shifted by one", np.roll(x, 1, 0)
    yield "the images are shifted by one", np.roll(x, -1, 0)


# ------------------------------------------------------------------------------------ forward


class Event(NamedTuple):
    """A module's completion: its numbered name, and how many calls had begun by then."""

    name: str
    value: torch.Tensor
    calls: int


class _Stop(Exception):
    """What was to be computed is."""


@contextlib.contextmanager
def _events(module: torch.nn.Module, on_event: Callable[[str, torch.Tensor], None]):
    """Calls `on_event(numbered name, output)` whenever a module completes."""
    seen: dict[str, None] = {}

    def keep(name: str):
        def hook(_module, _inputs, output):
            if isinstance(output, torch.Tensor):
                unique = numbered(name, seen)
                seen[unique] = None
                on_event(unique, output)

        return hook

    handles = [child.register_forward_hook(keep(name)) for name, child in module.named_modules()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _forward(case: Case, state: Tensors, batch: Batch) -> Diagnosis | None:
    with precision(case.dtype):
        ours = forward.ours(case)(state, batch)
    for mode in forward.MODES:
        found = _forward_in(case, state, batch, ours, mode)
        if found is not None:
            return found
    return None


def _forward_in(
    case: Case, state: Tensors, batch: Batch, ours: Tensors, mode: str
) -> Diagnosis | None:
    """The first module whose output departs in this mode, and the change of a call that explains
    it: one between the last module that agrees and this one."""
    module, (x, _) = case.torch_model(state).train(mode == "train"), case.torch_batch(batch)
    events: list[Event] = []
    interceptor = Intercept()

    def on_event(name: str, output: torch.Tensor) -> None:
        events.append(Event(name, output.detach().clone(), interceptor.count))

    with torch.no_grad(), _events(copied := copy.deepcopy(module), on_event), interceptor:
        copied(x)

    def target_of(name: str) -> np.ndarray | None:
        return ours.get(f"{name or 'outputs'} in {mode} mode")

    before: tuple[str, float] | None = None
    start = 0
    for event in events:
        target = target_of(event.name)
        if target is None:
            continue
        error = relative_error(target, event.value.cpu().numpy())
        if error <= SAME:
            before, start = (event.name, error), event.calls
            continue
        # A summand may have been made long before it is added.
        windows = range(start, event.calls), range(0, start)
        causes = (_explain(module, x, window, event.name, target) for window in windows)
        cause = next((cause for cause in causes if cause), None)
        name = event.name or OUTPUTS
        what = f"output (in {mode} mode)"
        return _said(name, error, *(before or (None, None)), cause=cause, what=what)
    return None


def _explain(
    module: torch.nn.Module, x: torch.Tensor, window: range, name: str, target: np.ndarray
) -> str | None:
    """The first change of a call in `window` that makes module `name` give `target`."""
    deadline = time.monotonic() + SECONDS
    dropped = _dropout(module, x, name, target)
    if dropped:
        return dropped
    # From the departing module backwards: what is nearest to it is the likeliest.
    for index in reversed(window):
        for cause in _causes(module, x, index, suspects):
            if time.monotonic() > deadline:
                return None
            found = _output(module, x, index, cause, name)
            if found is not None and not _different(target, found):
                return cause.text
    return None


class Cause(NamedTuple):
    """What a suspect is called, and its number among those of one name."""

    text: str
    variant: int


def _causes(module: torch.nn.Module, x: torch.Tensor, index: int, of: Any) -> list[Cause]:
    """The suspects of the call `index`."""
    found: list[Cause] = []

    def listed(call: Call) -> Any:
        texts = [text for text, _ in of(call)]
        found.extend(Cause(text, texts[:i].count(text)) for i, text in enumerate(texts))
        raise _Stop

    with torch.no_grad(), contextlib.suppress(_Stop), Intercept(index, listed):
        copy.deepcopy(module)(x)
    return found


def _changed(of: Callable[[Call], Iterator[tuple[str, Thunk]]], cause: Cause):
    """The change that a suspect makes."""

    def change(call: Call) -> Any:
        alike = [thunk for name, thunk in of(call) if name == cause.text]
        return alike[cause.variant]()

    return change


def _output(
    module: torch.nn.Module, x: torch.Tensor, index: int, cause: Cause, name: str
) -> np.ndarray | None:
    """The output of module `name` with one call changed; None where that cannot run."""
    found: list[np.ndarray] = []

    def on_event(unique: str, output: torch.Tensor) -> None:
        if unique == name:
            found.append(output.detach().cpu().numpy().copy())
            raise _Stop

    copied = copy.deepcopy(module)
    try:
        with (
            torch.no_grad(),
            _events(copied, on_event),
            Intercept(index, _changed(suspects, cause)),
        ):
            copied(x)
    except _Stop:
        return found[0]
    except (RuntimeError, ValueError, TypeError):
        return None  # the changed shape does not fit what follows
    return None


def _dropout(module: torch.nn.Module, x: torch.Tensor, name: str, target: np.ndarray) -> str | None:
    """Dropout is random: it shows by zeros, and the rest scaled alike."""
    owner = dict(module.named_modules()).get(name.partition("#")[0])
    if not isinstance(owner, torch.nn.Dropout) or module.training:
        return None
    kept = _output(module, x, -1, Cause("", 0), name)
    if kept is None or kept.shape != target.shape:
        return None
    alive = (target != 0) & (kept != 0)
    ratios = target[alive] / kept[alive]
    if (target == 0).any() and np.ptp(ratios) < 1e-6 * abs(ratios.mean()):
        return "the dropout is left on in eval mode"
    return None


# ---------------------------------------------------------------------------------- gradients


def _gradients(case: Case, state: Tensors, batch: Batch) -> Diagnosis | None:
    with precision(case.dtype):
        ours = gradients.ours(case)(state, batch)
    theirs = gradients.theirs(case)(state, batch)
    errors = {name: relative_error(ours[name], theirs[name]) for name in theirs if name in ours}
    departing = [name for name, error in errors.items() if not error <= SAME]
    if not departing:
        return None
    module, (x, _) = case.torch_model(state), case.torch_batch(batch)
    order: list[str] = []
    with torch.no_grad(), _events(copied := copy.deepcopy(module), lambda n, _: order.append(n)):
        copied(x)
    position = {name: index for index, name in enumerate(order)}

    def place(name: str) -> int:
        return -1 if name == gradients.INPUTS else position.get(_owner(name), -1)

    first = max(departing, key=place)  # the backward pass begins at the end
    after = [name for name in errors if name not in departing and place(name) > place(first)]
    before = min(after, key=place) if after else None
    cause = _gradient_cause(case, state, batch, ours, theirs, departing)
    name = gradients.INPUTS if first == gradients.INPUTS else _owner(first)
    before_error = errors[before] if before else None
    return _said(
        name, errors[first], before, before_error, cause, what=f"gradient by {first}, that"
    )


def _owner(parameter: str) -> str:
    return parameter.rpartition(".")[0] or OUTPUTS


def _gradient_cause(
    case: Case,
    state: Tensors,
    batch: Batch,
    ours: Tensors,
    theirs: Tensors,
    departing: list[str],
) -> str | None:
    parameters = [name for name in theirs if name in ours and name != gradients.INPUTS]
    n = len(batch.labels)
    ratios = {name: _ratio(ours[name], theirs[name]) for name in parameters}
    if len(set(departing) & set(parameters)) == len(parameters):
        ratio = ratios[parameters[0]]
        same = all(abs(r / ratio - 1) < 1e-6 for r in ratios.values()) if ratio else False
        if same and abs(ratio / n - 1) < 1e-6:
            return "the loss is summed over the batch and not averaged"
        if same:
            return f"every gradient is {ratio:.6g} times PyTorch's: the loss is scaled"
    if all(not np.any(ours[name]) for name in departing if name in parameters) and any(
        name in parameters for name in departing
    ):
        frozen = [name for name in departing if name in parameters]
        if len(frozen) <= 2:
            return f"no gradient reaches {', '.join(frozen)}: it is not trained"
    with contextlib.suppress(KeyError):
        decay = [
            _ratio(ours[name] - theirs[name], state[name].astype(np.float64)) for name in departing
        ]
        fits = all(
            not _different(ours[name], theirs[name] + d * state[name])
            for name, d in zip(departing, decay, strict=True)
        )
        if fits and decay[0] and max(decay) - min(decay) < 1e-6 * abs(decay[0]):
            return f"{decay[0]:.3g} times the weights is added to their gradients: a weight decay"
    return _backward_cause(case, state, batch, ours, departing)


def _ratio(a: np.ndarray, b: np.ndarray) -> float:
    """The factor that best makes b into a."""
    power = float((b * b).sum())
    return float((a * b).sum()) / power if power else 0.0


def _backward_cause(
    case: Case, state: Tensors, batch: Batch, ours: Tensors, departing: list[str]
) -> str | None:
    module, (x, labels) = case.torch_model(state), case.torch_batch(batch)
    counter = Intercept()
    with torch.no_grad(), counter:
        copy.deepcopy(module)(x)
    deadline = time.monotonic() + SECONDS
    sites = [
        (index, cause)
        for index in reversed(range(counter.count))
        for cause in _causes(module, x, index, backward_suspects)
    ]
    # A fault of a layer's code is in all layers of its kind; then in one place alone.
    everywhere = list(dict.fromkeys(cause for _, cause in sites))
    tried: list[tuple[Intercept, Cause]] = [
        (_Everywhere(partial(_changed_if_fits, cause)), cause)
        for cause in everywhere
        if not cause.text.startswith("the gradient is stopped")
    ]
    tried += [(Intercept(i, _changed(backward_suspects, cause)), cause) for i, cause in sites]
    for interceptor, cause in tried:
        if time.monotonic() > deadline:
            return None
        copied = copy.deepcopy(module)
        named: dict[str, torch.Tensor] = dict(copied.named_parameters())
        leaf = x.clone()
        if gradients.INPUTS in departing:
            named[gradients.INPUTS] = leaf.requires_grad_()
        try:
            with interceptor:
                value = case.pair.loss.torch(copied(leaf), labels)
            found = torch.autograd.grad(value, [*named.values()], allow_unused=True)
        except (RuntimeError, ValueError, TypeError):
            continue
        grads = {
            name: np.zeros(tuple(named[name].shape)) if g is None else g.cpu().numpy()
            for name, g in zip(named, found, strict=True)
        }
        if all(not _different(ours[name], grads[name]) for name in departing):
            return cause.text
    return None


def _changed_if_fits(cause: Cause, call: Call) -> Any:
    """The call as the suspect changes it, or as it is where the suspect does not fit."""
    alike = [thunk for name, thunk in backward_suspects(call) if name == cause.text]
    return alike[cause.variant]() if len(alike) > cause.variant else call.plain()


# --------------------------------------------------------------------------------- statistics


def _batch_stats(case: Case, state: Tensors, batch: Batch) -> Diagnosis | None:
    with precision(case.dtype):
        ours = batch_stats.ours(case)(state, batch)
    theirs = batch_stats.theirs(case)(state, batch)
    errors = {name: relative_error(ours[name], theirs[name]) for name in theirs if name in ours}
    departing = [name for name, error in errors.items() if not error <= SAME]
    if not departing:
        return None
    first = departing[0]
    buffer = first.partition(" by batches")[0]
    agreeing = [name for name in list(errors)[: list(errors).index(first)]]
    before = agreeing[-1] if agreeing else None
    cause = _statistics_cause(case, state, batch, ours, _owner(buffer))
    before_error = errors[before] if before else None
    return _said(_owner(buffer), errors[first], before, before_error, cause, what=f"{buffer}, that")


def _statistics_cause(
    case: Case, state: Tensors, batch: Batch, ours: Tensors, owner: str
) -> str | None:
    """The change of the layer's call that gives JAX's statistics after all batches."""
    module = case.torch_model(state)
    size, views = batch_stats.sequences(case, state, batch)[0]
    xs = [case.torch_batch(Batch(view, batch.labels))[0] for view in views]
    indices: list[int] = []
    counter = Intercept()

    def on_event(name: str, _: torch.Tensor) -> None:
        if name == owner:
            indices.append(counter.count - 1)

    with torch.no_grad(), _events(copied := copy.deepcopy(module), on_event), counter:
        copied(xs[0])
    for index in indices:
        for cause in _causes(module, xs[0], index, suspects):
            copied = copy.deepcopy(module)
            with contextlib.suppress(RuntimeError, ValueError, TypeError), torch.no_grad():
                for x in xs:
                    with Intercept(index, _changed(suspects, cause)):
                        copied(x)
                found = dict(copied.get_submodule(owner).named_buffers())
                wanted = {
                    name: ours[key]
                    for name in found
                    if (key := f"{owner}.{name} by batches of {size}") in ours
                }
                floats = [name for name in wanted if found[name].is_floating_point()]
                if floats and all(
                    not _different(wanted[name], found[name].cpu().numpy()) for name in floats
                ):
                    return cause.text
    return None


# --------------------------------------------------------------------------------------- loss


def _loss(case: Case, state: Tensors, batch: Batch) -> Diagnosis:
    with precision(case.dtype):
        ours = loss.ours(case)(state, batch)
    theirs = loss.theirs(case)(state, batch)
    errors = {name: relative_error(ours[name], theirs[name]) for name in theirs}
    departing = [name for name, error in errors.items() if not error <= SAME]
    if not departing:
        return _said(None)
    first = departing[0]
    labels = case.torch_batch(batch)[1]
    scaled = {f"{s:g}": torch.from_numpy(x) for s, x in loss.scaled(case, state, batch)}
    kind, _, scale = first.partition(", outputs times ")
    agrees_unscaled = not _different(
        ours[f"{kind}, outputs times 1"], theirs[f"{kind}, outputs times 1"]
    )
    cause = None
    if scale != "1" and agrees_unscaled:
        cause = "exp overflows: the largest output is not subtracted first"
    else:
        for name, function in _loss_suspects(kind):
            with contextlib.suppress(RuntimeError, ValueError):
                if not _different(ours[first], function(scaled[scale], labels).numpy()):
                    cause = name
                    break
    return _said("the loss", errors[first], cause=cause, what=f"{kind}")


def _loss_suspects(kind: str) -> Iterator[tuple[str, Callable[[Any, Any], torch.Tensor]]]:
    reduction = {"sum": "sum", "of each row": "none"}.get(kind, "mean")
    smoothing = 0.1 if "smoothing" in kind else 0.0

    def entropy(x: Any, y: Any, **changes: Any) -> torch.Tensor:
        options = {"reduction": reduction, "label_smoothing": smoothing, **changes}
        return F.cross_entropy(x, y, **options)

    if smoothing:
        yield "the label smoothing is ignored", lambda x, y: entropy(x, y, label_smoothing=0.0)

        def over_others(x: Any, y: Any) -> torch.Tensor:
            log, k = F.log_softmax(x, 1), x.shape[1]
            target = torch.full_like(log, smoothing / (k - 1))
            target.scatter_(1, y[:, None], 1 - smoothing)
            return -(target * log).sum(1).mean()

        yield "the label smoothing is shared by the other classes alone", over_others
        yield (
            "the label smoothing is added to a whole label",
            lambda x, y: F.cross_entropy(x, y) - smoothing * F.log_softmax(x, 1).mean(),
        )
    else:
        for value in (0.1, 0.05, 0.2):
            yield (
                f"labels are smoothed by {value:g}",
                lambda x, y, value=value: entropy(x, y, label_smoothing=value),
            )
    for other in {"sum", "mean"} - {reduction}:
        words = {"sum": "summed", "mean": "averaged", "none": "left for each row"}
        yield (
            f"the loss is {words[other]} and not {words[reduction]}",
            lambda x, y, other=other: entropy(x, y, reduction=other),
        )
    yield "the loss is averaged over the classes too", lambda x, y: entropy(x, y) / x.shape[1]
    yield "softmax is applied twice", lambda x, y: entropy(torch.softmax(x, 1), y)
    yield "softmax is missing", lambda x, y: F.nll_loss(x, y, reduction=reduction)
    yield "the logarithm is to the base 2", lambda x, y: entropy(x, y) / math.log(2)
    yield "the labels are shifted by one class", lambda x, y: entropy(x, (y + 1) % x.shape[1])
    yield "the labels are shifted by one class", lambda x, y: entropy(x, (y - 1) % x.shape[1])
    yield "the labels belong to other rows", lambda x, y: entropy(x, y.roll(1))
    yield "the labels belong to other rows", lambda x, y: entropy(x, y.roll(-1))
    yield "the sign is wrong", lambda x, y: -entropy(x, y)
    yield (
        "it is the mean square error of one-hot labels",
        lambda x, y: F.mse_loss(x, F.one_hot(y, x.shape[1]).to(x), reduction=reduction),
    )


# ---------------------------------------------------------------------------------- optimizer


def _optimizer(case: Case, state: Tensors) -> Diagnosis:
    """From the shared gradients of the optimizer rung."""
    shared = list(optimizer.shared_gradients(case, state))
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
        if not error <= 1e-12:
            break
    cause = None if spec is None else optimizer_causes.cause(spec, params, shared, observed)
    return _said("the optimizer", error, cause=cause, what=f"{worst} at step {step}, by the update")


def spec_of(made: torch.optim.Optimizer) -> OptimizerSpec | None:
    """What describes a PyTorch optimizer; None for one that this project does not know."""
    names = {cls: name for name, cls in torch_ref.train.OPTIMIZERS.items()}
    name = names.get(type(made))
    if name is None or len(made.param_groups) != 1:
        return None
    unset = {field: value for field, value in made.defaults.items() if field in OPTIONS}
    return OptimizerSpec(name, float(unset.pop("lr")), unset)


# ----------------------------------------------------------------------------------- training


def _training(case: Case, state: Tensors, batches: Sequence[Batch], steps: int = 4) -> Diagnosis:
    """All parts agree, and training does not: what the loop does with them."""
    with precision(case.dtype):
        stepper = case.stepper()
    ours, theirs = trajectory.jax_run(case, state, stepper), trajectory.torch_run(case, state)
    looks, logged = [], []
    first, error, worst = None, 0.0, None
    for step in range(steps):
        batch = batches[step % len(batches)]
        logged.append(ours.step(batch))
        theirs.step(batch)
        looks.append(ours.look())
        reference = theirs.look()
        errors = {name: relative_error(looks[-1][name], reference[name]) for name in looks[-1]}
        if first is None and max(errors.values()) > 1e-7:  # Adam's first step is ill-conditioned
            first, worst = step + 1, max(errors, key=errors.__getitem__)
            error = errors[worst]
    if first is None:
        return _said(None)
    cause = None
    for name, variant in _loops(case, state):
        with contextlib.suppress(RuntimeError, ValueError):
            for step in range(steps):
                variant.step(batches[step % len(batches)])
                look = variant.look()
                if any(not relative_error(look[k], looks[step][k]) <= 1e-7 for k in looks[step]):
                    break
            else:
                cause = name
                break
    return _said(
        "the training step", error, cause=cause, what=f"{worst} after step {first}, by that"
    )


def _loops(case: Case, state: Tensors) -> Iterator[tuple[str, trajectory.Run]]:
    """Training loops with one thing wrong each."""

    def run(
        prepare: Callable[[torch.nn.Module, Any], None] = lambda module, optimizer: None,
        after: Callable[[torch.nn.Module, Any], None] = lambda module, optimizer: None,
        *,
        zero: bool = True,
        remake: bool = False,
        train: bool = True,
        twice: bool = False,
        scale: Callable[[Batch], float] = lambda batch: 1.0,
        shifted: bool = False,
        change: Callable[[Batch], Batch] = lambda batch: batch,
        clip: float | None = None,
    ) -> trajectory.Run:
        module = case.torch_model(state)
        held = [case.pair.optimizer.torch(module.parameters())]

        def step(batch: Batch) -> float:
            if remake:
                held[0] = case.pair.optimizer.torch(module.parameters())
            module.train(train)
            prepare(module, held[0])
            x, y = case.torch_batch(change(batch))
            if zero:
                held[0].zero_grad()
            outputs = module(x)
            y = (y + 1) % outputs.shape[1] if shifted else y
            value = scale(batch) * case.pair.loss.torch(outputs, y)
            value.backward()
            if clip is not None:
                torch.nn.utils.clip_grad_norm_(module.parameters(), clip)
            for _ in range(1 + twice):
                held[0].step()
            after(module, held[0])
            return value.item()

        def look() -> Tensors:
            return {name: value.cpu().numpy().copy() for name, value in module.state_dict().items()}

        return trajectory.Run(step, look, lambda batch: np.empty(0))

    def restored(names: Callable[[str], bool]):
        kept: dict[str, torch.Tensor] = {}

        def prepare(module: torch.nn.Module, _: Any) -> None:
            kept.update({k: v.clone() for k, v in module.state_dict().items() if names(k)})

        def after(module: torch.nn.Module, _: Any) -> None:
            with torch.no_grad():
                for name, value in module.state_dict().items():
                    if name in kept:
                        value.copy_(kept[name])

        return prepare, after

    parameters = case.pair.parameters
    yield "gradients are not set to zero: they add up from step to step", run(zero=False)
    yield "the optimizer's state is made anew for each step", run(remake=True)
    yield (
        "the running statistics are not carried on",
        run(*restored(lambda name: name not in parameters)),
    )
    yield "the model trains in eval mode", run(train=False)
    yield "each step is taken twice", run(twice=True)
    yield (
        "the loss is summed over the batch and not averaged",
        run(scale=lambda batch: float(len(batch.labels))),
    )
    yield (
        "biases are not trained",
        run(*restored(lambda name: name.endswith("bias") and name in parameters)),
    )
    yield (
        "the last example of each batch is left out",
        run(change=lambda b: Batch(b.images[:-1], b.labels[:-1])),
    )
    for shift in (1, -1):
        yield (
            "the labels belong to other examples",
            run(change=lambda b, s=shift: Batch(b.images, np.roll(b.labels, s, 0))),
        )
    yield "the labels are shifted by one class", run(shifted=True)
    for norm in (1.0, 0.5, 5.0, 0.1):
        yield f"gradients are clipped to a norm of {norm:g}", run(clip=norm)

    def decayed(factor: float):
        def after(module: torch.nn.Module, held: Any) -> None:
            for group in held.param_groups:
                group["lr"] *= factor

        return after

    for factor in (0.99, 0.95, 0.9, 0.5, 0.1):
        yield f"the learning rate is multiplied by {factor:g} each step", run(after=decayed(factor))
    for factor in (0.5, 2.0, 0.1, 10.0):
        yield f"the loss is scaled by {factor:g}", run(scale=lambda _, f=factor: f)


# ---------------------------------------------------------------------------------- precision


def _precision(pair: Pair, state: Tensors, batch: Batch, device: str, jit: bool) -> Diagnosis:
    """float64 agrees and float32 does not: one side rounds more than float32 does."""
    figures = {}
    sides: dict[str, Tensors] = {}
    for dtype in ("float64", "float32"):
        case = Case(pair, dtype, device, jit)
        with precision(dtype):
            sides[f"our {dtype}"] = forward.ours(case)(state, batch)
        sides[f"their {dtype}"] = forward.theirs(case)(state, batch)
    for name, value in sides["their float32"].items():
        if name in sides["our float32"]:
            ours = relative_error(sides["our float32"][name], sides["our float64"][name])
            theirs = relative_error(value, sides["their float64"][name])
            figures[name] = ours, theirs
    noisy = [
        name
        for name, (ours, theirs) in figures.items()
        if max(ours, theirs) > NOISE_MULTIPLE * max(min(ours, theirs), FLOAT32_EPS)
    ]
    if not noisy:
        return _said(None)
    first = noisy[0]
    index = list(figures).index(first)
    before = list(figures)[index - 1] if index else None
    ours, theirs = figures[first]
    side = "JAX" if ours > theirs else "PyTorch"
    cause = None
    if side == "JAX":
        cause = _rounding_cause(pair, state, batch, device, sides, first, ours)
    name = first.partition(" in ")[0]
    before_error = max(figures[before]) if before else None
    times = max(ours, theirs) / max(min(ours, theirs), FLOAT32_EPS)
    what = f"float32 noise of {side}, {times:.0f} times its twin's, in the output"
    before = before.partition(" in ")[0] if before else None
    return _said(name, max(ours, theirs), before, before_error, cause, what=what)


def _rounding_cause(
    pair: Pair,
    state: Tensors,
    batch: Batch,
    device: str,
    sides: dict[str, Tensors],
    name: str,
    noise: float,
) -> str | None:
    """The coarser arithmetic that gives PyTorch the noise that JAX shows."""
    case = Case(pair, "float32", device)
    module, (x, _) = case.torch_model(state), case.torch_batch(batch)
    key, _, mode = name.rpartition(" in ")
    module.train(mode == "train mode")
    key = "" if key == "outputs" else key
    nearest: tuple[float, str] | None = None
    for cause, change in _ROUNDINGS.items():
        found: dict[str, np.ndarray] = {}

        def on_event(unique: str, output: torch.Tensor, found: Any = found) -> None:
            found[unique] = output.detach().cpu().numpy().copy()

        copied = copy.deepcopy(module)
        with torch.no_grad(), _events(copied, on_event), _Everywhere(change):
            copied(x)
        own = relative_error(found[key], sides["their float64"][name])
        apart = abs(math.log(max(own, 1e-300) / noise))
        if apart < math.log(4) and (nearest is None or apart < nearest[0]):
            nearest = apart, cause
    return nearest[1] if nearest else None


class _Everywhere(Intercept):
    """Changes every known call."""

    def __init__(self, change: Callable[[Call], Any]):
        super().__init__(change=change)

    def wanted(self, index: int) -> bool:
        return True


def _rounded(bits: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """float32 to so many bits of mantissa, to nearest."""

    def cut(x: torch.Tensor) -> torch.Tensor:
        mantissa, exponent = torch.frexp(x)
        return torch.ldexp(
            torch.round(torch.ldexp(mantissa, torch.tensor(bits + 1))), exponent - bits - 1
        )

    return cut


def _products(bits: int) -> Callable[[Call], Any]:
    cut = _rounded(bits)

    def change(call: Call) -> Any:
        if call.name not in ("conv2d", "linear", "matmul"):
            return call.plain()
        operands = [cut(x) if isinstance(x, torch.Tensor) else x for x in call.args[:2]]
        return call.function(*operands, *call.args[2:], **call.kwargs)

    return change


def _one_pass(call: Call) -> Any:
    if call.name != "batch_norm" or not call.given["training"]:
        return call.plain()
    a, shape = call.given, (1, -1, 1, 1)
    x = a["input"]
    mean, square = x.mean((0, 2, 3)), x.square().mean((0, 2, 3))
    out = (x - mean.view(shape)) / (square - mean.square() + a["eps"]).sqrt().view(shape)
    return out * a["weight"].view(shape) + a["bias"].view(shape)


_ROUNDINGS: dict[str, Callable[[Call], Any]] = {
    "products are computed in TF32, 10 bits of mantissa": _products(10),
    "products are computed in bfloat16, 7 bits of mantissa": _products(7),
    "the variance is computed in one pass, as E[x^2] - E[x]^2": _one_pass,
}


# --------------------------------------------------------------------------------------- init


def _init(pair: Pair) -> Diagnosis:
    ours, theirs = init.samples(pair, 0)
    worst: dict[str, float] = {}
    for name in ours:
        worst[name] = min(init.parameter_tests(ours[name], theirs[name]).values())
    limit = init.FALSE_ALARM / (4 * len(worst))
    departing = [name for name, p in worst.items() if p < limit]
    if not departing:
        return _said(None)
    first = departing[0]
    before = list(worst)[list(worst).index(first) - 1] if list(worst).index(first) else None
    # The most values tell schemes of one deviation apart.
    largest = max(departing, key=lambda name: (len(ours[name]), name == first))
    told = first if len(ours[largest]) == len(ours[first]) else largest
    cause = _init_cause(ours[told], pair.parameters, told)
    text = f"first departs: the initial {first}"
    text += f", {init._told(ours[first])} in JAX and {init._told(theirs[first])} in PyTorch"
    text += f". Cause: {cause}." if cause else ". No usual scheme has this distribution."
    return Diagnosis(_owner(first), None, _owner(before) if before else None, None, cause, text)


def _init_cause(values: np.ndarray, shapes: dict[str, tuple[int, ...]], name: str) -> str | None:
    if not np.ptp(values):
        return f"it is {values[0] + 0.0:g} everywhere"
    shape = shapes[name]
    weight = shapes.get(name.rpartition(".")[0] + ".weight", shape)
    shape = weight if len(shape) < 2 <= len(weight) else shape
    fan_in = math.prod(shape[1:]) if len(shape) > 1 else math.prod(shape)
    fan_out = math.prod((*shape[:1], *shape[2:]))
    rng = np.random.default_rng(0)
    best: tuple[float, str] | None = None
    for scheme, std, kind in _schemes(fan_in, fan_out):
        sample = _sample(rng, kind, std, 20_000)
        p = init.same_distribution(values, sample)
        if p > 1e-3 and (best is None or p > best[0]):
            best = p, scheme
    return f"it is drawn as {best[1]}" if best else None


def _sample(rng: np.random.Generator, kind: str, std: float, size: int) -> np.ndarray:
    if kind == "uniform":
        return rng.uniform(-math.sqrt(3) * std, math.sqrt(3) * std, size)
    if kind == "normal":
        return rng.normal(0, std, size)
    if kind == "positive":
        return rng.uniform(0, std, size)
    values = rng.normal(0, 1, 2 * size)
    values = values[np.abs(values) < 2][:size]
    return values * std / 0.87962566103423978


def _schemes(fan_in: int, fan_out: int) -> list[tuple[str, float, str]]:
    scales = {
        "PyTorch's default, U(+-1 / sqrt(fan_in))": (1 / (3 * fan_in), "uniform"),
        "LeCun's truncated normal, Flax's default": (1 / fan_in, "truncated"),
        "LeCun's normal": (1 / fan_in, "normal"),
        "LeCun's uniform": (1 / fan_in, "uniform"),
        "He's normal of fan_in": (2 / fan_in, "normal"),
        "He's normal of fan_out": (2 / fan_out, "normal"),
        "He's truncated normal of fan_in": (2 / fan_in, "truncated"),
        "He's truncated normal of fan_out": (2 / fan_out, "truncated"),
        "He's uniform of fan_in": (2 / fan_in, "uniform"),
        "He's uniform of fan_out": (2 / fan_out, "uniform"),
        "Glorot's normal": (2 / (fan_in + fan_out), "normal"),
        "Glorot's truncated normal": (2 / (fan_in + fan_out), "truncated"),
        "Glorot's uniform": (2 / (fan_in + fan_out), "uniform"),
        "U(+-1 / sqrt(fan_out))": (1 / (3 * fan_out), "uniform"),
        "N(0, 0.01)": (1e-4, "normal"),
        "N(0, 0.02)": (4e-4, "normal"),
        "N(0, 1)": (1.0, "normal"),
    }
    found = [(name, math.sqrt(variance), kind) for name, (variance, kind) in scales.items()]
    return [*found, ("U(0, 1)", 1.0, "positive")]
