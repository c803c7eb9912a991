"""`python -m parity.study.gradients RUN`: the loss's gradient at each layer, epoch by epoch.

Prints, of a training in JAX whose checkpoints are all there, a line of JSON for its start and for
each of them: the epoch, and of each convolution's and linear layer's weights the Euclidean norm of
the gradient of the mean loss of `IMAGES` training images, in train mode. The layers are in the
order in which they compute.
"""

import json
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_impl.data.datasets import load_dataset, normalize
from jax_impl.models.geometry import summary
from jax_impl.models.model import Model, Variables, from_spec
from jax_impl.torch_random.generator import Generator
from jax_impl.training.averaging import averaged
from jax_impl.training.compilation import keep_compiled
from jax_impl.training.resume import restore
from jax_impl.training.state import create_state
from jax_impl.training.step import loss_and_stats
from parity.pairs.jax_recipe import make_optimizer
from parity.pairs.weights import named_leaves
from parity.shell.earlier import read_earlier
from parity.shell.recipes import chosen_model
from parity.shell.run_directory import CHECKPOINTS

IMAGES = 256


def norms(
    model: Model, variables: Variables, images: np.ndarray, labels: np.ndarray
) -> dict[str, float]:
    """Of the gradient by each parameter, by its name in PyTorch.

    Args:
        model: what is trained.
        variables: of it.
        images: uint8 [n, h, w, 3].
        labels: int [n].
    """

    @jax.jit
    def gradient(variables: Variables, images: jax.Array, labels: jax.Array) -> Any:
        arguments = model, variables.batch_stats, normalize(images, jnp.float32), labels
        found = jax.grad(loss_and_stats, has_aux=True)(variables.params, *arguments)[0]
        return jax.tree.map(jnp.linalg.norm, jax.tree.map(jnp.ravel, found))

    found = Variables(gradient(variables, images, labels), {})
    return {name: float(norm) for name, norm in named_leaves(found, model)}


def main(run: Path) -> None:
    """Prints the lines."""
    earlier = read_earlier(run)
    spec, recipe = chosen_model(earlier.model), earlier.recipe
    keep_compiled()
    model, data_dir = from_spec(spec), earlier.habits.get("data_dir")
    train = load_dataset(earlier.settings["data"], data_dir).train
    images = len(train.labels) - recipe.validation
    batches = -(-images // recipe.batch_size)
    generator = Generator(earlier.settings["seed"])
    state = create_state(
        model.init(generator, earlier.settings["init"]), make_optimizer(recipe, batches)
    )
    states = {0: averaged(state)}
    folder = run / CHECKPOINTS
    steps = [int(path.name) for path in folder.glob("*") if path.name.isdecimal()]
    for step in sorted(steps):
        if step % batches == 0:
            states[step // batches] = averaged(restore(folder / str(step), state, step).state)
    kinds = {module.path: module.kind for module in summary(spec, None).modules}
    layers = [path for path, kind in kinds.items() if kind.startswith(("conv", "linear"))]
    for epoch, variables in states.items():
        found = norms(model, variables, train.images[:IMAGES], train.labels[:IMAGES])
        told = {layer: found[f"{layer}.weight"] for layer in layers}
        print(json.dumps({"epoch": epoch, "norms": told}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
