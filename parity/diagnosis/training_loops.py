"""Training loops with one thing wrong each, which are tried where all parts of a training agree."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import optax
import torch

from jax_impl.errors import listed
from parity.ladder.rungs import runs
from parity.pairs.case import Case, precision
from parity.pairs.pair import Batch, Optimizer, Tensors, to_numpy
from parity.pairs.trees import leaves, map_arrays, rows, take


def _taken(batch: Batch, index: Any) -> Batch:
    return Batch(*(take(part, index, rows(batch.inputs)) for part in batch))


def _rolled(batch: Batch, shift: int) -> Batch:
    return Batch(batch.inputs, map_arrays(lambda leaf: np.roll(leaf, shift, 0), batch.labels))


def loops(
    case: Case, state: Tensors, still: list[str], largest: int
) -> Iterator[tuple[str, runs.Run]]:
    """Training loops in PyTorch with one thing wrong each, and what that is.

    `still` are the parameters that may not be trained, `largest` is the size of a full batch.
    """

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
        change: Callable[[Batch], Batch | None] = lambda batch: batch,
        clip: float | None = None,
        thaw: bool = False,
        average: float | None = None,
    ) -> runs.Run:
        module = case.torch_model(state)
        for parameter in module.parameters() if thaw else ():
            parameter.requires_grad_(True)
        trained = [p for p in module.parameters() if p.requires_grad]
        held = [case.pair.optimizer.torch(trained)]
        averages = {n: p.detach().clone() for n, p in module.named_parameters()}

        def step(batch: Batch) -> float:
            given = change(batch)
            if given is None:
                return 0.0
            if remake:
                held[0] = case.pair.optimizer.torch(trained)
            module.train(train and case.pair.trains)
            prepare(module, held[0])
            x, y = case.torch_batch(given)
            if zero:
                held[0].zero_grad()
            outputs = case.torch_call(module, x)
            y = (y + 1) % next(iter(leaves(outputs).values())).shape[1] if shifted else y
            value = scale(batch) * case.torch_loss(outputs, y)
            value.backward()
            if clip is not None:
                torch.nn.utils.clip_grad_norm_(module.parameters(), clip)
            for _ in range(1 + twice):
                held[0].step()
            after(module, held[0])
            if average is not None:
                with torch.no_grad():
                    for name, parameter in module.named_parameters():
                        averages[name].lerp_(parameter, 1 - average)
            return value.item()

        def look() -> Tensors:
            found = module.state_dict() | ({} if average is None else averages)
            return {name: to_numpy(value) for name, value in found.items()}

        return runs.Run(step, look, lambda batch: {})

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
        run(scale=lambda batch: float(rows(batch.inputs))),
    )
    yield (
        "biases are not trained",
        run(*restored(lambda name: name.endswith("bias") and name in parameters)),
    )
    if still:
        yield f"{listed(still, 4)}: not trained", run(*restored(lambda name: name in still))
    frozen = [n for n, p in case.torch_model(state).named_parameters() if not p.requires_grad]
    if frozen:
        yield f"{listed(frozen, 4)}: trained, and frozen in PyTorch (requires_grad)", run(thaw=True)
    yield (
        "the last example of each batch is left out",
        run(change=lambda b: _taken(b, slice(None, -1))),
    )
    for shift in (1, -1):
        yield (
            "the labels belong to other examples",
            run(change=lambda b, s=shift: _rolled(b, s)),
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
    for decay in (0.9, 0.99, 0.999, 0.9999, 0.95, 0.5):
        yield (
            f"what is given back is a moving average of the weights, of decay {decay:g}",
            run(average=decay),
        )
    yield from (
        (f"a batch of less than {largest} examples is {text}", run(**how))
        for text, how in _of_small_batches(largest)
    )


def with_optimizer_of_jax(case: Case, state: Tensors) -> runs.Run:
    """PyTorch's training with JAX's optimizer."""
    own = case.pair.optimizer
    changed = Optimizer(lambda params: _Optax(case, state, list(params)), own.jax)
    return runs.torch_run(
        dataclasses.replace(case, pair=dataclasses.replace(case.pair, optimizer=changed)), state
    )


class _Optax(torch.optim.Optimizer):
    """The pair's Optax transformation of parameters in the order of `Pair.parameters`."""

    def __init__(self, case: Case, state: Tensors, params: list[torch.Tensor]):
        super().__init__(params, {})
        self.case, self.leaf_map = case, case.pair.leaf_map
        self.held: Any
        with precision(case.dtype):
            self.held, _ = self.leaf_map.split(case.variables(state))
            self.kept = case.pair.optimizer.jax.init(self.held)

    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One update by the parameters' gradients; there is no closure."""
        del closure
        params = self.param_groups[0]["params"]
        named = dict(zip(self.case.pair.parameters, params, strict=True))
        found = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in named.items()}
        with precision(self.case.dtype), torch.no_grad():
            arrays = {name: to_numpy(gradient) for name, gradient in found.items()}
            gradients = self.leaf_map.gradients_to_jax(arrays, self.case.dtype)
            transformation = self.case.pair.optimizer.jax
            updates, self.kept = transformation.update(gradients, self.kept, self.held)
            self.held = optax.apply_updates(self.held, updates)
            for name, array in self.leaf_map.to_torch(self.held, True).items():
                if name in named:
                    named[name].copy_(torch.from_numpy(np.array(array)))


def _of_small_batches(largest: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """What is done to a batch that is not full, and the argument of a run that does it."""

    def filled(index: Callable[[int], np.ndarray]) -> dict[str, Any]:
        def change(batch: Batch) -> Batch:
            count = rows(batch.inputs)
            return _taken(batch, index(count)) if count < largest else batch

        return {"change": change}

    yield "left out", {"change": lambda b: b if rows(b.inputs) == largest else None}
    for text, index in (
        ("filled up with its first example", lambda n: np.r_[:n, np.zeros(largest - n, int)]),
        ("filled up with its last example", lambda n: np.minimum(np.arange(largest), n - 1)),
        ("filled up with its own examples, repeated", lambda n: np.arange(largest) % n),
    ):
        yield text, filled(index)
    yield (
        f"weighted by its size over {largest} (a mean over a full batch)",
        {"scale": lambda batch: rows(batch.inputs) / largest},
    )
    yield (
        "filled up with zeros of label 0",
        {"change": lambda b: b if rows(b.inputs) == largest else _with_zeros(b, largest)},
    )


def _with_zeros(batch: Batch, count: int) -> Batch:
    size = rows(batch.inputs)

    def longer(leaf: Any) -> np.ndarray:
        array = np.asarray(leaf)
        if not array.ndim or len(array) != size:
            return array
        return np.concatenate([array, np.zeros((count - size, *array.shape[1:]), array.dtype)])

    return Batch(*(map_arrays(longer, part) for part in batch))
