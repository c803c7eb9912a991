"""Outputs in eval and in train mode, and the output of every module that both sides name."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from parity.ladder.alignment import Layout, Way, layout
from parity.pairs.case import Case, Side
from parity.pairs.pair import Batch, Tensors, to_numpy
from parity.pairs.taps import numbered
from parity.pairs.trees import leaves

OUTPUTS = "outputs"
"""What a model's own outputs are called, or `OUTPUTS.PATH` for each of several."""


def output_name(path: str) -> str:
    """What the output at `path` is called."""
    return f"{OUTPUTS}.{path}" if path else OUTPUTS


def ours(case: Case) -> Side:
    """JAX's side: the outputs and every module's, in the pair's modes, in JAX's own layout."""

    @case.compiled
    def forward(variables, inputs):
        found = {}
        made = case.jax_inputs(inputs)
        for mode in case.pair.modes:
            outputs, _, modules = case.recorded(variables, made, mode == "train")
            found |= {f"{name} in {mode} mode": value for name, value in modules.items()}
            for path, value in leaves(outputs).items():
                found[f"{output_name(path)} in {mode} mode"] = value
        return found

    def outputs(state: Tensors, batch: Batch) -> Tensors:
        found = forward(case.variables(state), batch.inputs)
        return {name: np.asarray(value) for name, value in found.items()}

    return outputs


def theirs(case: Case) -> Side:
    """PyTorch's side: the outputs and every module's, in the pair's modes."""

    def outputs(state: Tensors, batch: Batch) -> Tensors:
        module, (inputs, _) = case.torch_model(state), case.torch_batch(batch)
        tensors = {}
        for mode in case.pair.modes:
            module.train(mode == "train")
            with torch.no_grad():
                for name, value in module_outputs(case, module, inputs):
                    tensors[f"{name} in {mode} mode"] = to_numpy(value)
        return tensors

    return outputs


def module_outputs(
    case: Case, module: nn.Module, inputs: Any
) -> Iterator[tuple[str, torch.Tensor]]:
    """The output of every module in order of completion, the whole net's last.

    Of several outputs the first has the module's name, the others NAME[1], NAME[2], ...
    """
    found: dict[str, torch.Tensor] = {}

    def keep(name: str):
        def hook(_module, _inputs, output):
            for number, value in enumerate(leaves(output).values()):
                unique = numbered(f"{name}[{number}]" if number else name, found)
                found[unique] = value.detach().clone()  # the next layer may work in place

        return hook

    children = [(name, child) for name, child in module.named_modules() if name]
    handles = [child.register_forward_hook(keep(name)) for name, child in children]
    try:
        outputs = case.torch_call(module, inputs)
    finally:
        for handle in handles:
            handle.remove()
    yield from found.items()
    for path, value in leaves(outputs).items():
        yield output_name(path), value


def matched(
    case: Case, ours: Mapping[str, np.ndarray], theirs: Tensors, remarks: list[str]
) -> tuple[Tensors, Tensors]:
    """The tensors that both have, in PyTorch's order of completion and in its layout.

    Outputs that one side has alone are remarked. A module that is called another number of times
    in the two, with another shape each time, as once for a sequence and once for each of its steps,
    is remarked too, and not compared.
    """
    first: Tensors = {}
    skipped: dict[str, None] = {}
    ways = layouts(case, ours, theirs)
    for name in theirs:
        if name in ways:
            first[name] = ways[name](ours[name])
        elif name in ours:
            inner = not name.startswith(OUTPUTS)
            if inner and _calls(name, ours) != _calls(name, theirs):
                skipped[_bare(name).partition("#")[0]] = None
            else:
                first[name] = case.to_torch_layout(ours[name])
    if skipped:
        remarks.append(f"called another number of times, and not compared: {', '.join(skipped)}")
    lists = {"PyTorch": (theirs, ours), "JAX": (ours, theirs)}
    for side, (have, lack) in lists.items():
        alone = {_bare(n) for n in have if n.startswith(OUTPUTS) and n not in lack}
        if alone:
            remarks.append(f"{', '.join(sorted(alone))} of {side} alone: not compared")
    return first, {name: theirs[name] for name in first}


def _calls(name: str, tensors: Mapping[str, Any]) -> int:
    """How often the module of this tensor is called."""
    module, _, mode = name.partition(" in ")
    plain = module.partition("#")[0]
    return sum(
        n.partition("#")[0] == plain and m == mode
        for n, _, m in (each.partition(" in ") for each in tensors)
    )


def _channels_last(case: Case, name: str) -> bool:
    """Whether JAX alone has the channels last in this output."""
    module = _bare(name).partition("#")[0]
    return case.pair.channels_last and module not in case.pair.channels_last_in_torch


def layouts(case: Case, ours: Mapping[str, np.ndarray], theirs: Tensors) -> dict[str, Way]:
    """By name, the way from JAX's layout to PyTorch's of what both have and where there is one.

    Where neither shapes nor values tell, it is that of most tensors that agree.
    """

    def of(name: str, expected: str | None = None) -> Layout | None:
        inner = not name.startswith(OUTPUTS)
        return layout(ours[name], theirs[name], _channels_last(case, name), inner, expected)

    found = {name: made for name in theirs if name in ours and (made := of(name)) is not None}
    usual: dict[int, Counter[str]] = {}
    for name, made in found.items():
        if made.agrees:
            usual.setdefault(ours[name].ndim, Counter())[made.name] += 1
    for name, made in found.items():
        counted = usual.get(ours[name].ndim)
        if not made.agrees and counted:
            found[name] = of(name, counted.most_common(1)[0][0]) or made
    return {name: made.way for name, made in found.items()}


def _bare(name: str) -> str:
    return name.partition(" in ")[0]
