"""Weights from wherever they lie: a training's run directory, a file of any kind, a checkpoint.

Imports no PyTorch but for its own files.
"""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax_impl.errors import InputError, listed, one_line, shown
from jax_impl.models import registry
from jax_impl.models.model import Model, Variables
from jax_impl.training import checkpoint
from parity.pairs.weight_files import read_pickled, read_safetensors
from parity.pairs.weights import named_leaves, problem_of, to_flax
from parity.shell.earlier import CONFIG, read_earlier
from parity.shell.files import FORMAT_KEY
from parity.shell.run_directory import METRICS, WEIGHTS

PICKLED = (".pth", ".pt")


class Source(NamedTuple):
    """Where weights lie, and of which model.

    `data` and `mirror` are those of the training whose run directory was named: "cifar10" or
    "digits", and whether it evaluates each image with its mirror image; else None and False.
    """

    path: Path
    spec: registry.Spec
    data: str | None = None
    mirror: bool = False


def find(place: Path, model: str | None = None) -> Source:
    """The weights that a path names, before any of them is read.

    Args:
        place: a run directory, a .safetensors, .pth or .pt file, or an Orbax checkpoint.
        model: whose weights they are; by default what the run or the file says.

    Raises:
        InputError: there are none, or nothing says of which model they are.
    """
    given = None if model is None else registry.parse(model)
    try:
        if not place.exists():
            raise InputError(f"there is no {place}")
        folder, run = place.is_dir(), (place / CONFIG).is_file()
        if not folder and not place.is_file():
            raise InputError(f"{place} is neither a file nor a folder")
        weights = folder and (place / WEIGHTS).is_file()
        known = run or weights or not folder or (place / "_METADATA").is_file()
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        raise InputError(f"cannot read {place}: {one_line(error)}") from error
    if not known:
        raise InputError(
            f"{place} is a folder without weights: name a run directory of `parity train`, an "
            "Orbax checkpoint or a file"
        )
    if run:
        earlier = read_earlier(place)
        if not weights:
            raise InputError(f"{place} has no {WEIGHTS}: {_unfinished(place)}")
        spec = given or registry.parse(earlier.model)
        return Source(place / WEIGHTS, spec, earlier.settings["data"], earlier.recipe.mirror)
    path = place / WEIGHTS if weights else place
    return Source(path, given or _said(path))


def _unfinished(run: Path) -> str:
    """Why a training has no weights, and what to do."""
    if (run / METRICS).exists() and "null" in (run / METRICS).read_text(errors="replace"):
        return "its training stopped at a loss that is no number; train anew"
    return f"its training has not ended; go on with it by `parity train --resume {run}`"


def _said(path: Path) -> registry.Spec:
    """The model that a file says its weights are of."""
    told: dict[str, str] = {}
    match kind_of(path):
        case "safetensors" if path.is_file():
            told = read_safetensors(path)[1]
        case "orbax" if path.is_dir():
            told = checkpoint.metadata(path)
            told = told if FORMAT_KEY in told else {}  # others' may mean anything
    if "model" not in told:
        raise InputError(
            f"{path} does not say of which model its weights are: pass --model, as in "
            "--model resnet18:stem=cifar"
        )
    return _parsed(told["model"], path)


def _parsed(said: str, path: Path) -> registry.Spec:
    """The model that a file's metadata names."""
    try:
        return registry.parse(said)
    except InputError as error:
        raise InputError(
            f"{path} is not of this program, or damaged: it says that it holds {shown(said)!r}"
        ) from error


def load(source: Source, model: Model) -> Variables:
    """The variables of `model` in float32, whatever the file has, on JAX's default device.

    Raises:
        InputError: as `read`, or values that are NaN or infinite: nothing that is computed of them
            means anything.
    """
    with jax.enable_x64(True):  # float64 weights are rounded here, and not before
        found = read(source.path, source.spec, model)
    with np.errstate(over="ignore"):  # told as infinite
        variables = jax.tree.map(_float32, found)
    if bad := not_finite(variables, model):
        raise InputError(
            f"{source.path} has values that are NaN or infinite in {listed(bad)}: what such a "
            "model computes means nothing; name other weights"
        )
    return variables


def _float32(leaf: Any) -> jax.Array:
    array = np.asarray(leaf)
    whole = np.issubdtype(array.dtype, np.integer)
    return jnp.asarray(array if whole else array.astype(np.float32))


def read(
    path: Path,
    spec: registry.Spec,
    model: Model,
    new_head: Variables | None = None,
    advice: str = "",
) -> Variables:
    """The variables of `model` in the file or folder `path`, bit for bit.

    Args:
        path: a .safetensors, .pth or .pt file, or under any other name a folder of Orbax.
        spec: of `model`; without a `new_head`, the file must not say that it holds another.
        model: whose variables are read.
        new_head: takes the place of the last linear layer, as in `to_flax`.
        advice: ends the line that says that the last layer is one of other classes.

    Raises:
        InputError: unreadable, damaged, or not weights of this model.
    """
    kind = kind_of(path)
    if path.is_dir() != (kind == "orbax"):
        found, wanted = ("folder", "file") if path.is_dir() else ("file", "folder")
        raise InputError(f"{path} is a {found}; of this name a {wanted} is read")
    if kind == "orbax":
        if new_head is not None:
            raise InputError("--drop-head reads PyTorch's layout: convert to .safetensors first")
        if FORMAT_KEY in (told := checkpoint.metadata(path)):  # others' may mean anything
            _check_metadata(told, spec, path, None)
        variables = checkpoint.restore(path, model)
        found = (problem_of(name, leaf) for name, leaf in named_leaves(variables, model))
        if problems := [text for text in found if text is not None]:
            raise InputError(f"{path}: these are not weights of {model.name}: {listed(problems)}")
        return variables
    state: dict[str, Any]
    state, metadata = read_safetensors(path) if kind == "safetensors" else (read_pickled(path), {})
    _check_metadata(metadata, spec, path, new_head)
    try:
        return to_flax(state, model, new_head)
    except InputError as error:
        if str(path) in str(error):
            raise
        told, head = "", f"{'.'.join(model.head or ())}.weight has shape"
        if head in str(error):
            told = f"; pass --model {spec.name}:num_classes=N{advice}"
        raise InputError(f"{path}: {error}{told}") from error


def kind_of(path: Path) -> str:
    """What a name is read and written as: "pickled", "safetensors" or "orbax"."""
    if path.suffix in PICKLED:
        return "pickled"
    return "safetensors" if path.suffix == ".safetensors" else "orbax"


def not_finite(variables: Variables, model: Model) -> list[str]:
    """The leaves that hold NaN or infinity, by their names in PyTorch."""
    return [
        name
        for name, leaf in named_leaves(variables, model)
        if not np.issubdtype(leaf.dtype, np.integer) and not np.isfinite(np.asarray(leaf)).all()
    ]


def _check_metadata(
    metadata: dict[str, str], spec: registry.Spec, path: Path, new_head: Variables | None
) -> None:
    """The model that the file says it is of must be the one that was asked for."""
    said = metadata.get("model")
    if said is None or new_head is not None:
        return
    if _parsed(said, path) != spec:
        raise InputError(f"{path} says that it holds {said}, not {spec}: pass --model {said}")
