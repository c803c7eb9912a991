"""Variables as an Orbax checkpoint: a folder that appears complete or not at all."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax import tree_util

from jax_impl.errors import InputError, mismatches, one_line
from jax_impl.models.model import Model, Variables


def save(path: Path, variables: Variables, metadata: dict[str, str]) -> None:
    """Writes `variables` as {"params": ..., "batch_stats": ...} to the new folder `path`.

    Raises:
        InputError: it exists, or cannot be written.
    """
    if path.exists():
        raise InputError(f"{path} exists: remove it, or name another folder")

    def write() -> None:
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
            checkpointer.save(
                path.resolve(),
                args=ocp.args.PyTreeSave(variables._asdict()),  # pyright: ignore[reportCallIssue]
                custom_metadata=metadata,
            )

    try:
        # Orbax's own threads write on after an interruption: here Ctrl-C waits for them.
        with ThreadPoolExecutor(1) as executor:
            executor.submit(write).result()
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
    ours, theirs = (
        {name: tuple(leaf.shape) for name, leaf in _by_path(tree).items()}
        for tree in (model.shapes._asdict(), found)
    )
    problems = mismatches(theirs, ours)
    if problems:
        raise InputError(f"{path} does not hold {model.name}: {'; '.join(problems)}")


def _by_path(tree: Any) -> dict[str, Any]:
    flat = tree_util.tree_flatten_with_path(tree, is_leaf=lambda x: hasattr(x, "shape"))[0]
    return {"/".join(str(getattr(key, "key", key)) for key in keys): leaf for keys, leaf in flat}
