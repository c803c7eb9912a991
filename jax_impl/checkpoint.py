"""Variables as an Orbax checkpoint: a folder that appears complete or not at all."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax import tree_util

from jax_impl.errors import InputError, one_line
from jax_impl.models import Model, Variables


def save(path: Path, variables: Variables, metadata: dict[str, str]) -> None:
    """Writes `variables` as {"params": ..., "batch_stats": ...} to the new folder `path`.

    Raises:
      InputError: it exists, or cannot be written.
    """
    if path.exists():
        raise InputError(f"{path} exists: remove it, or name another folder")
    try:
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
            checkpointer.save(
                path.resolve(),
                args=ocp.args.PyTreeSave(variables._asdict()),  # pyright: ignore[reportCallIssue]
                custom_metadata=metadata,
            )
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or one_line(error)}") from error


def restore(path: Path, model: Model) -> Variables:
    """The variables of `model` in the checkpoint at `path`, as NumPy arrays in their own dtypes.

    Raises:
      InputError: it is no checkpoint, or one of another model; every entry that is missing,
        unexpected or of another shape is named.
    """
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        # Orbax and its storage meet damaged files with errors of many types.
        try:
            found = checkpointer.metadata(path.resolve()).item_metadata.tree
        except Exception as error:
            raise InputError(f"{path} is no Orbax checkpoint ({one_line(error)})") from error
        _check(found, model, path)
        arguments = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), found)
        try:
            tree = checkpointer.restore(
                path.resolve(),
                args=ocp.args.PyTreeRestore(restore_args=arguments),  # pyright: ignore
            )
        except Exception as error:
            raise InputError(f"{path} is damaged ({one_line(error)})") from error
    return Variables(tree["params"], tree.get("batch_stats", {}))


def _check(found: Any, model: Model, path: Path) -> None:
    ours, theirs = _by_path(model.shapes._asdict()), _by_path(found)
    missing = [name for name in ours if name not in theirs]
    unexpected = [name for name in theirs if name not in ours]
    problems = [f"missing {', '.join(missing)}"] if missing else []
    problems += [f"unexpected {', '.join(unexpected)}"] if unexpected else []
    problems += [
        f"{name} has shape {tuple(theirs[name].shape)}, not {leaf.shape}"
        for name, leaf in ours.items()
        if name in theirs and tuple(theirs[name].shape) != leaf.shape
    ]
    if problems:
        raise InputError(f"{path} does not hold {model.name}: {'; '.join(problems)}")


def _by_path(tree: Any) -> dict[str, Any]:
    flat = tree_util.tree_flatten_with_path(tree, is_leaf=lambda x: hasattr(x, "shape"))[0]
    return {"/".join(str(getattr(key, "key", key)) for key in keys): leaf for keys, leaf in flat}
