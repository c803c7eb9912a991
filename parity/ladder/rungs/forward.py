"""Logits in eval and in train mode, and the output of every module that both sides name."""

from collections.abc import Iterator

import torch
from torch import nn

from parity.pairs.pair import Batch, Case, Side, Tensors, to_numpy
from parity.pairs.taps import numbered

MODES = "eval", "train"


def ours(case: Case) -> Side:
    """JAX's side: the outputs and every module's, in both modes, in PyTorch's layout."""

    @case.compiled
    def forward(variables, inputs):
        found = {}
        for mode in MODES:
            outputs, _, modules = case.recorded(variables, inputs, mode == "train")
            found |= {f"{name} in {mode} mode": value for name, value in modules.items()}
            found[f"outputs in {mode} mode"] = outputs
        return found

    def outputs(state: Tensors, batch: Batch) -> Tensors:
        found = forward(case.variables(state), batch.images)
        return {
            name: case.to_torch_layout(value, name.partition("#")[0].partition(" in ")[0])
            for name, value in found.items()
        }

    return outputs


def theirs(case: Case) -> Side:
    """PyTorch's side: the outputs and every module's, in both modes."""

    def outputs(state: Tensors, batch: Batch) -> Tensors:
        module, (inputs, _) = case.torch_model(state), case.torch_batch(batch)
        tensors = {}
        for mode in MODES:
            module.train(mode == "train")
            with torch.no_grad():
                for name, value in module_outputs(module, inputs):
                    tensors[f"{name or 'outputs'} in {mode} mode"] = to_numpy(value)
        return tensors

    return outputs


def module_outputs(module: nn.Module, inputs: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """The output of every module in order of completion, the whole net's last, named ""."""
    found: dict[str, torch.Tensor] = {}

    def keep(name: str):
        def hook(_module, _inputs, output):
            if isinstance(output, torch.Tensor):  # a copy, for the next layer may work in place
                found[numbered(name, found)] = output.detach().clone()

        return hook

    handles = [child.register_forward_hook(keep(name)) for name, child in module.named_modules()]
    try:
        module(inputs)
    finally:
        for handle in handles:
            handle.remove()
    yield from found.items()


def common(ours: Tensors, theirs: Tensors) -> tuple[Tensors, Tensors]:
    """The tensors that both sides have, in PyTorch's order of completion."""
    names = [name for name in theirs if name in ours]
    return {name: ours[name] for name in names}, {name: theirs[name] for name in names}
