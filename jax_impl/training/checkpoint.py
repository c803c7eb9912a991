"""Variables as an Orbax checkpoint: a folder that appears complete or not at all."""

import contextlib
import dataclasses
import gc
import json
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax import tree_util

from jax_impl.errors import (
    InputError,
    listed,
    mismatches,
    one_line,
    shown,
    silence_logs,
    silent_logs,
)
from jax_impl.models.model import Model, Variables
from jax_impl.training.checksums import checker, checksums

OS_ERROR = re.compile(r"\[os_error_code='(\d+)'\]")
"""What Orbax's storage says the system said."""
_PROCESS = r"ocdbt\.process_\d+"
PARTS = re.compile(
    rf"({_PROCESS}/)?(manifest\.ocdbt|d|d/[0-9a-f]{{32}})|{_PROCESS}|array_metadatas(/process_\d+)?|"
    r"_CHECKPOINT_METADATA|_METADATA|_sharding|_strings\.json|commit_success\.txt"
)
"""The paths within a checkpoint."""


def handler() -> ocp.PyTreeCheckpointHandler:
    """Orbax's for a tree of arrays, of this process alone."""
    return ocp.PyTreeCheckpointHandler(multiprocessing_options=by_itself())


def _checkpointer() -> ocp.Checkpointer:
    return ocp.Checkpointer(handler(), multiprocessing_options=by_itself())


def by_itself() -> Any:
    """Orbax's options for a process that reads or writes alone, however many there are."""
    own = jax.process_index()
    if jax.process_count() == 1:
        return ocp.options.MultiprocessingOptions()
    return ocp.options.MultiprocessingOptions(
        primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"process_{own}"
    )


def foreign(path: Path) -> list[str]:
    """What a folder holds that is no part of a checkpoint; "_METADATA" if that is not there.

    Raises:
        OSError: it cannot be read.
    """
    found: list[str] = []
    for folder, folders, files in os.walk(path, onerror=_raised):
        for name in (*folders, *files):
            entry = Path(folder, name)
            relative = entry.relative_to(path).as_posix()
            if entry.is_symlink() or not PARTS.fullmatch(relative):
                found.append(relative)
    try:
        whole = "tree_metadata" in json.loads((path / "_METADATA").read_bytes())
    except (OSError, ValueError, TypeError, RecursionError):
        whole = False
    return sorted(found) if whole else [*sorted(found), "_METADATA"]


def _raised(error: OSError) -> None:
    raise error


def save(path: Path, variables: Variables, metadata: dict[str, str]) -> None:
    """Writes `variables` as {"params": ..., "batch_stats": ...} to the new folder `path`.

    Raises:
        InputError: it exists, or cannot be written.
    """
    if path.exists():
        raise InputError(f"{path} exists: remove it, or name another folder")

    def write() -> None:
        with _checkpointer() as checkpointer:
            checkpointer.save(
                path.resolve(),
                args=ocp.args.PyTreeSave(variables._asdict()),  # pyright: ignore[reportCallIssue]
                custom_metadata=metadata | checksums(_by_path(variables._asdict())),
            )

    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"cannot write {path}: Orbax takes names in UTF-8 alone") from error
    silence_closed_loops()
    try:
        # Orbax's own threads write on after an interruption: here Ctrl-C waits for them.
        with silent_logs(), ThreadPoolExecutor(1) as executor:
            try:
                executor.submit(write).result()
            except BaseException:
                silence_logs()
                raise
    # Orbax's storage meets a full disk with a ValueError.
    except (OSError, ValueError) as error:
        problem = problem_of(error)
        with _quiet():
            error.__traceback__ = error.__cause__ = error.__context__ = None
        raise InputError(f"cannot write {path}: {problem}") from error


def restore(path: Path, model: Model) -> Variables:
    """The variables of `model` in the checkpoint at `path`, as NumPy arrays in their own dtypes.

    Raises:
        InputError: it is no checkpoint, or one of another model; every entry that is missing,
            unexpected or of another shape is named.
    """
    shapes = {name: tuple(leaf.shape) for name, leaf in _by_path(model.shapes._asdict()).items()}
    tree, told = _quietly(path, shapes, model.name)
    check = checker(told, path)
    for name, array in _by_path(tree).items():
        check(name, array)
    return Variables(tree["params"], tree.get("batch_stats", {}))


def arrays(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint by name, in their own dtypes; those of `shapes` and no others.

    Raises:
        InputError: as `restore`.
    """
    return _by_path(_quietly(path, shapes, "such a state")[0])


def metadata(path: Path) -> dict[str, str]:
    """What was written with a checkpoint; nothing where there is none, or it cannot be read."""
    found: dict[str, Any] = {}
    with _quiet(), contextlib.suppress(Exception):  # `restore` tells what is wrong
        with _checkpointer() as checkpointer:
            found = checkpointer.metadata(path.resolve()).custom_metadata or {}
    return {key: value for key, value in found.items() if isinstance(value, str)}


def _quietly(path: Path, shapes: Mapping[str, tuple[int, ...]], what: str) -> tuple[Any, Any]:
    silence_closed_loops()
    with _quiet():
        try:
            return _restored(path, shapes, what)
        except InputError as error:
            problem = str(error)
    raise InputError(problem)


def _restored(path: Path, shapes: Mapping[str, tuple[int, ...]], what: str) -> tuple[Any, Any]:
    """What a checkpoint of `what` holds, and its metadata."""
    with _checkpointer() as checkpointer:
        # Orbax and its storage meet damaged files with errors of many types.
        try:
            metadata = checkpointer.metadata(path.resolve())
        except Exception as error:
            raise InputError(f"{path} is no Orbax checkpoint ({one_line(error)})") from error
        if metadata.item_metadata is None:
            raise InputError(f"{path} is no Orbax checkpoint, or its list of tensors is damaged")
        found = metadata.item_metadata.tree
        _check(found, shapes, what, path)
        arguments = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), found)
        try:
            tree = checkpointer.restore(
                path.resolve(),
                args=ocp.args.PyTreeRestore(restore_args=arguments),  # pyright: ignore
            )
        except Exception as error:
            raise InputError(f"{path} is damaged ({one_line(error)})") from error
    return tree, metadata.custom_metadata or {}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What Orbax began before an error of its own, and never ended, goes without a word."""
    with silent_logs(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            gc.collect()


def problem_of(error: BaseException) -> str:
    """What a file could not be written for, in the system's words where they are in there."""
    code = OS_ERROR.search(str(error))
    told = os.strerror(int(code[1])) if code else getattr(error, "strerror", None)
    return told or one_line(error, 200)


def silence_closed_loops() -> None:
    """From here on nothing is told of what Orbax began, and ends after an error of its own.

    It closes its event loop at the first error, and its storage's threads do not know.
    """
    if not isinstance(sys.unraisablehook, _Unraisable):
        sys.unraisablehook = _Unraisable(sys.unraisablehook)


@dataclasses.dataclass(frozen=True)
class _Unraisable:
    """`sys.unraisablehook`, but silent of that."""

    before: Callable[[Any], Any]

    def __call__(self, told: Any) -> None:
        if str(told.exc_value) != "Event loop is closed":
            self.before(told)


def _check(found: Any, shapes: Mapping[str, tuple[int, ...]], what: str, path: Path) -> None:
    leaves = _by_path(found)
    others = [shown(name) for name, leaf in leaves.items() if not hasattr(leaf, "shape")]
    if others:
        raise InputError(f"{path} holds more than arrays: {listed(others)}")
    theirs = {name: tuple(leaf.shape) for name, leaf in leaves.items()}
    problems = mismatches(theirs, shapes)
    if problems:
        raise InputError(f"{path} does not hold {what}: {'; '.join(problems)}")


def _by_path(tree: Any) -> dict[str, Any]:
    flat = tree_util.tree_flatten_with_path(tree, is_leaf=lambda x: hasattr(x, "shape"))[0]
    return {"/".join(str(getattr(key, "key", key)) for key in keys): leaf for keys, leaf in flat}
