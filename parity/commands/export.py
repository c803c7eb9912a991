"""`parity export`: a trained model as one file that JAX alone runs. Imports no PyTorch."""

import math
import os
from pathlib import Path

import jax

from jax_impl.errors import InputError, one_line
from jax_impl.models.model import from_spec
from jax_impl.training.export import PLATFORMS, exported
from parity.pairs.classifier import image_size
from parity.pairs.weight_source import find, kind_of, load
from parity.shell.files import cannot_write, write_whole
from parity.shell.use_options import ExportOptions


def run(options: ExportOptions) -> None:
    """Reads, traces, and writes a file that appears complete or not at all.

    Raises:
        InputError: no weights, or a place that is taken or cannot be written.
    """
    source = find(options.weights, options.model)
    _check_place(options.output, source.path)
    model = from_spec(source.spec)
    variables = load(source, model)
    size = image_size(source.spec)
    content = exported(model, variables, size).serialize()
    _check_place(options.output, source.path)  # tracing takes a while
    write_whole(options.output, bytes(content))
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(model.shapes.params))
    print(
        f"{options.output}: {source.spec}, {count:,} parameters, {len(content) / 1e6:.1f} MB\n"
        f"uint8 images [batch, {size[0]}, {size[1]}, 3] -> float32 logits "
        f"[batch, {source.spec.options.num_classes}], on {', '.join(PLATFORMS)}"
    )


def _check_place(output: Path, weights: Path) -> None:
    """Raises InputError if something is at the output, or it could not be written."""
    try:
        if os.path.lexists(output):
            raise InputError(f"{output} exists: name another file, or remove it")
        parent = output.absolute().parent
        if not parent.is_dir():
            raise InputError(f"cannot write {output}: there is no folder {parent}")
        inside = kind_of(weights) == "orbax" and parent.resolve().is_relative_to(weights.resolve())
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        raise InputError(f"cannot write {output}: {one_line(error)}") from error
    if inside:
        raise InputError(f"{output} is inside of the checkpoint {weights}: name another place")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise cannot_write(output, PermissionError(13, "Permission denied"))
