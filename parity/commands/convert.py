"""`parity convert`: weights from any of three kinds of file to any other.

Imports no PyTorch but for its own files. Every conversion goes through the Flax variables, so that
what is written is what the model has.
"""

import dataclasses
import pickle
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

from jax_impl.errors import InputError, one_line
from jax_impl.models import registry
from jax_impl.models.model import Model, Variables, from_spec
from jax_impl.training import checkpoint
from parity.pairs.weights import named_leaves, to_arrays, to_flax, to_tensor
from parity.shell.files import cannot_write, weights_metadata
from parity.shell.options import ConvertOptions

PICKLED = (".pth", ".pt")
NESTED = ("state_dict", "model_state_dict", "model")
"""Under which a training checkpoint keeps its state_dict."""


def run(options: ConvertOptions) -> None:
    """Reads, checks, writes under a temporary name, and renames."""
    spec = registry.parse(options.model)
    if options.output.exists() and not options.overwrite:
        raise InputError(f"{options.output} exists: pass --overwrite to replace it")
    if not options.input.exists():
        raise InputError(f"there is no {options.input}")
    if options.input.resolve() == options.output.resolve():
        raise InputError(f"{options.input} is both the input and the output")
    model = from_spec(spec)
    with jax.enable_x64(True):  # float64 weights stay float64
        new_head = model.init(options.seed) if options.drop_head else None
        variables = read(options.input, spec, model, new_head)
        if not options.allow_nan:
            _check_finite(variables, model, options.input)
        write(options.output, variables, spec, model)
    print(f"{options.output}: {len(jax.tree.leaves(variables))} tensors of {spec}")


def read(
    path: Path, spec: registry.Spec, model: Model, new_head: Variables | None = None
) -> Variables:
    """The variables of `model` in the file or folder `path`.

    Args:
        path: a .safetensors, .pth or .pt file, or under any other name a folder of Orbax.
        spec: of `model`; without a `new_head`, the file must not say that it holds another.
        model: whose variables are read.
        new_head: takes the place of the last linear layer, as in `to_flax`.

    Raises:
        InputError: unreadable, damaged, or not weights of this model.
    """
    kind = _kind(path)
    if path.is_dir() != (kind == "orbax"):
        found, wanted = ("folder", "file") if path.is_dir() else ("file", "folder")
        raise InputError(f"{path} is a {found}; of this name a {wanted} is read")
    if kind == "orbax":
        if new_head is not None:
            raise InputError("--drop-head reads PyTorch's layout: convert to .safetensors first")
        return checkpoint.restore(path, model)
    state: dict[str, Any]
    state, metadata = _read_safetensors(path) if kind == "safetensors" else (_unpickle(path), {})
    _check_metadata(metadata, spec, path, new_head)
    try:
        return to_flax(state, model, new_head)
    except InputError as error:
        advice, head = "", f"{'.'.join(model.head or ())}.weight has shape"
        if head in str(error):
            advice = f"; pass --model {spec.name}:num_classes=N, or --drop-head for a new head"
        raise InputError(f"{path}: {error}{advice}") from error


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
    try:
        new, kind = staging / path.name, _kind(path)
        if kind == "orbax":
            checkpoint.save(new, variables, metadata)
        elif kind == "safetensors":
            safetensors.numpy.save_file(to_arrays(variables, model), new, metadata)
            new.chmod(0o644)  # safetensors makes it private
        else:
            import torch

            arrays = to_arrays(variables, model)
            torch.save({name: to_tensor(value) for name, value in arrays.items()}, new)
        if path.is_dir() and not path.is_symlink():
            path.rename(staging / "old")
        new.rename(path)
    # PyTorch reports a full disk by a RuntimeError.
    except (OSError, RuntimeError, safetensors.SafetensorError) as error:
        raise InputError(f"cannot write {path}: {one_line(error)}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _kind(path: Path) -> str:
    if path.suffix in PICKLED:
        return "pickled"
    return "safetensors" if path.suffix == ".safetensors" else "orbax"


@dataclasses.dataclass(frozen=True)
class _Stored:
    """A tensor that is read from its open file when it is made an array, and not kept."""

    file: Any
    name: str
    shape: tuple[int, ...]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        del dtype, copy
        return self.file.get_tensor(self.name)


def _read_safetensors(path: Path) -> tuple[dict[str, _Stored], dict[str, str]]:
    assert ml_dtypes.bfloat16  # registered with NumPy by its import, as safetensors needs
    try:
        file: Any = safetensors.safe_open(path, "numpy")
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
        stored = {name: _Stored(file, name, shape) for name, shape in shapes.items()}
        return stored, file.metadata() or {}
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(f"cannot read {path}: {one_line(error)}") from error


def _unpickle(path: Path) -> dict[str, Any]:
    """The state_dict in a .pth file; only tensors and containers are ever unpickled."""
    try:
        import torch
    except ImportError as error:
        raise InputError(
            f"{path} needs PyTorch to be read: pip install 'jax-torch-parity[torch]'"
        ) from error
    try:
        try:
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # PyTorch's format of before 2020 cannot be mapped
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        code = re.search(r"GLOBAL ([\w.]+)", str(error))
        problem = f"the code {code[1]}, which is not run" if code else "no readable weights"
        raise InputError(f"{path} holds {problem}: save model.state_dict() alone") from error
    # Damaged files meet PyTorch with errors of many types.
    except Exception as error:
        raise InputError(f"cannot read {path}: {one_line(error)[:200]}") from error
    for name in NESTED:
        if isinstance(found, dict) and isinstance(found.get(name), dict):
            found = found[name]
            break
    if not isinstance(found, dict) or not found:
        raise InputError(f"{path} holds a {type(found).__name__}, not a state_dict")
    others = [str(name) for name, value in found.items() if not isinstance(value, torch.Tensor)]
    if others:
        raise InputError(f"{path} holds no state_dict: not tensors are {', '.join(others)}")
    return found


def _check_metadata(
    metadata: dict[str, str], spec: registry.Spec, path: Path, new_head: Variables | None
) -> None:
    """The model that the file says it is of must be the one that was asked for."""
    said = metadata.get("model")
    if said is None or new_head is not None:
        return
    try:
        same = registry.parse(said) == spec
    except InputError:
        same = False
    if not same:
        raise InputError(f"{path} says that it holds {said}, not {spec}: pass --model {said}")


def _check_finite(variables: Variables, model: Model, path: Path) -> None:
    bad = [
        name
        for name, leaf in named_leaves(variables, model)
        if not np.issubdtype(leaf.dtype, np.integer) and not np.isfinite(np.asarray(leaf)).all()
    ]
    if bad:
        raise InputError(
            f"{path} has values that are NaN or infinite in {', '.join(bad)}: pass --allow-nan to "
            "accept them"
        )
