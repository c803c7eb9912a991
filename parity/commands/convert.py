"""`parity convert`: weights from any of three kinds of file to any other.

Imports no PyTorch but for its own files. Every conversion goes through the Flax variables, so that
what is written is what the model has.
"""

import os
import tempfile
from pathlib import Path

import jax
import safetensors
import safetensors.numpy

from jax_impl.errors import InputError, listed, one_line
from jax_impl.models import registry
from jax_impl.models.model import Model, Variables, from_spec
from jax_impl.training import checkpoint
from jax_impl.training.checksums import checksums
from parity.pairs.weight_source import kind_of, not_finite, read
from parity.pairs.weights import to_arrays, to_tensor
from parity.shell.files import cannot_write, exchange, remove, weights_metadata
from parity.shell.options import ConvertOptions
from parity.shell.recipes import check_seed

DROP = ", or --drop-head for a new head"


def run(options: ConvertOptions) -> None:
    """Reads, checks, writes under a temporary name, and renames."""
    spec = registry.parse(options.model)
    check_seed(options.seed)
    _check_places(options.input, options.output, options.overwrite)
    model = from_spec(spec)
    with jax.enable_x64(True):  # float64 weights stay float64
        new_head = model.init(options.seed) if options.drop_head else None
        variables = read(options.input, spec, model, new_head, DROP)
        if not options.allow_nan:
            _check_finite(variables, model, options.input)
        write(options.output, variables, spec, model)
    print(f"{options.output}: {len(jax.tree.leaves(variables))} tensors of {spec}")


def _check_places(source: Path, target: Path, overwrite: bool) -> None:
    """Raises InputError before anything is read, if the input or the output cannot be used.

    A folder is replaced only if it holds a checkpoint of Orbax's and nothing else.
    """
    try:
        if not source.exists():
            raise InputError(f"there is no {source}")
        there = source.resolve()
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        raise InputError(f"cannot read {source}: {one_line(error)}") from error
    try:
        if os.path.lexists(target) and not overwrite:
            raise InputError(f"{target} exists: pass --overwrite to replace it")
        place = target.resolve()
        folder = target.is_dir() and not target.is_symlink()
        others = checkpoint.foreign(target) if folder else []
    except (OSError, RuntimeError) as error:
        raise InputError(f"cannot write {target}: {one_line(error)}") from error
    if there == place:
        raise InputError(f"{source} is both the input and the output")
    if target.is_symlink():  # replaced would be the link, and not what it names
        what = "folder" if place.is_dir() else "file"
        raise InputError(f"{target} is a link to the {what} {place}: name the {what} itself")
    if place in there.parents:
        raise InputError(f"{target} holds the input {source}: name another output")
    if there in place.parents:
        raise InputError(f"{target} is inside of the input {source}: name another output")
    for path in (source, target):
        if path.exists() and not path.is_file() and not path.is_dir():
            raise InputError(f"{path} is neither a file nor a folder")
    if others:
        named = [name for name in others if name != "_METADATA"]
        what = f"holds {listed(named, 3)}" if named else "is no whole checkpoint"
        raise InputError(f"{target} is a folder that {what}: only a checkpoint is replaced")


def write(path: Path, variables: Variables, spec: registry.Spec, model: Model) -> None:
    """Writes the file or folder `path`, which appears complete or not at all.

    Raises:
        InputError: it cannot be written.
    """
    metadata = weights_metadata(spec)
    try:
        staging = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    except OSError as error:
        raise cannot_write(path, error) from error
    new, kind, done = staging / path.name, kind_of(path), False
    try:
        if kind == "orbax":
            checkpoint.save(new, variables, metadata)
        elif kind == "safetensors":
            arrays = to_arrays(variables, model)
            safetensors.numpy.save_file(arrays, new, metadata | checksums(arrays))
            new.chmod(0o644)  # safetensors makes it private
        else:
            import torch

            arrays = to_arrays(variables, model)
            torch.save({name: to_tensor(value) for name, value in arrays.items()}, new)
        _put_in_place(new, path, staging / "old")
        done = True
    except InputError as error:  # of the checkpoint, which has another name until it is whole
        raise InputError(str(error).replace(str(new), str(path))) from error
    except RuntimeError as error:  # PyTorch's, whatever the system says
        what = f"PyTorch cannot write all of it; is the disk full? ({one_line(error, 100)})"
        raise InputError(f"cannot write {path}: {what}") from error
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(f"cannot write {path}: {one_line(error, 200)}") from error
    finally:
        if os.path.lexists(path) or not (staging / "old").exists():
            remove(staging, 0.0 if done else 0.5)


def _put_in_place(new: Path, path: Path, kept: Path) -> None:
    """Renames `new` to `path`; a folder there changes places with it, or is `kept` meanwhile."""
    if not path.is_dir() or path.is_symlink():
        new.replace(path)
        return
    if exchange(new, path):
        return
    try:
        path.rename(kept)
        new.rename(path)
    except BaseException:
        if kept.exists() and not os.path.lexists(path):
            kept.rename(path)
        raise


def _check_finite(variables: Variables, model: Model, path: Path) -> None:
    if bad := not_finite(variables, model):
        raise InputError(
            f"{path} has values that are NaN or infinite in {', '.join(bad)}: pass --allow-nan to "
            "accept them"
        )
