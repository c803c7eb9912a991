"""One step of the recipe's optimizer.

In both precisions the optimizer alone, from gradients that both sides share, on the parameters and
from zeros, where the parameters after it are the step itself. In float64 also the whole training
step on the batch. Adam's first step, lr g / (|g| + eps), depends on little more than the sign of
the gradient g: where |g| is near eps = 1e-8, gradients that differ by rounding, 1e-17, give steps
that differ by lr / eps times that. `sensitivity` is the derivative that says by how much.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from torch.nn import functional as F

import torch_ref.train
from jax_impl import optim
from jax_impl.models import Variables
from jax_impl.train import create_state, make_train_step
from parity.pair import Batch, Case, Side, Tensors
from parity.rungs import gradients
from parity.weights import to_arrays, to_flax

SHARED = "from shared gradients: "
ZEROS = "from shared gradients and zeros: "
WHOLE = "whole step: "


def ours(case: Case) -> Side:
    model, recipe = case.pair.model, case.pair.recipe
    optimizer = optim.create_optimizer(recipe.optimizer, recipe.lr)
    train_step = make_train_step(model, optimizer)

    @jax.jit
    def step(params, gradients):
        updates, _ = optimizer.update(gradients, optimizer.init(params), params)
        return optax.apply_updates(params, updates)

    def steps(variables: Variables, batch: Batch) -> Tensors:
        gradients = _shared_gradients(case, variables) | to_arrays(
            Variables({}, variables.batch_stats), model
        )
        shared = to_flax(gradients, model).params
        params, stats = case.jax_variables(variables)
        found = {SHARED: step(params, shared)}
        found[ZEROS] = step(jax.tree.map(jnp.zeros_like, params), shared)
        tensors = {
            prefix + name: value
            for prefix, tree in found.items()
            for name, value in to_arrays(Variables(tree, {}), model).items()
        }
        if case.dtype == "float64":
            state = create_state(Variables(params, stats), optimizer)
            state, _ = train_step(state, *batch)
            tensors |= _prefixed(WHOLE, to_arrays(state.variables, model))
        return tensors

    return steps


def theirs(case: Case) -> Side:
    recipe = case.pair.recipe

    def steps(variables: Variables, batch: Batch) -> Tensors:
        shared = _shared_gradients(case, variables)
        tensors = {}
        for prefix, start in ((SHARED, 1), (ZEROS, 0)):
            module = case.torch_model(variables)
            with torch.no_grad():
                for name, parameter in module.named_parameters():
                    parameter.mul_(start)
                    parameter.grad = torch.from_numpy(shared[name]).to(parameter)
            torch_ref.train.create_optimizer(recipe.optimizer, module, recipe.lr).step()
            named = module.named_parameters()
            tensors |= {prefix + name: value.detach().cpu().numpy() for name, value in named}
        if case.dtype == "float64":
            module, (images, labels) = case.torch_model(variables), case.torch_batch(batch)
            F.cross_entropy(module(images), labels).backward()
            torch_ref.train.create_optimizer(recipe.optimizer, module, recipe.lr).step()
            state = {name: value.cpu().numpy() for name, value in module.state_dict().items()}
            tensors |= _prefixed(WHOLE, state)
        return tensors

    return steps


def sensitivity(case: Case, variables: Variables, batch: Batch) -> Tensors:
    """|d step / d gradient| times the largest gradient, for each parameter after a whole step.

    An error of that, times 1e-12, is what gradients that are off by 1e-12 of their largest value
    cause in an exact optimizer.
    """
    recipe = case.pair.recipe
    adaptive = recipe.optimizer in ("adam", "adamw")
    found = {}
    for name, value in gradients.theirs(case)(variables, batch).items():
        slope = 1e-8 / (np.abs(value) + 1e-8) ** 2 if adaptive else np.ones_like(value)
        found[WHOLE + name] = recipe.lr * slope * np.abs(value).max()
    return found


def _shared_gradients(case: Case, variables: Variables) -> Tensors:
    """Random ones in PyTorch's layout, of magnitudes from 1e-8 to 1."""
    rng = np.random.default_rng(0)
    parameters = to_arrays(Variables(variables.params, {}), case.pair.model)
    return {
        name: (rng.choice((-1, 1), value.shape) * 10 ** rng.uniform(-8, 0, value.shape))
        .astype(np.float32)
        .astype(case.dtype)
        for name, value in parameters.items()
    }


def _prefixed(prefix: str, tensors: Tensors) -> Tensors:
    return {prefix + name: value for name, value in tensors.items()}
