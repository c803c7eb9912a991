"""The state_dict in a .pth or .safetensors file, whole and undamaged, or why not.

Imports PyTorch for its own files alone.
"""

import dataclasses
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import safetensors

from jax_impl.errors import InputError, listed, one_line, shown
from jax_impl.training.checksums import checker
from parity.pairs import legacy_pth

NESTED = ("state_dict", "model_state_dict", "model")
"""Under which a training checkpoint keeps its state_dict."""
KNOWN = frozenset(
    {"F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL"}
)
"""Types of safetensors that NumPy has."""


@dataclasses.dataclass(frozen=True)
class _Stored:
    """A tensor that is read from its open file when it is made an array, and not kept.

    Raises InputError where it has not the checksum that the file says.
    """

    file: Any
    name: str
    shape: tuple[int, ...]
    check: Callable[[str, np.ndarray], None]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        del dtype, copy
        array = self.file.get_tensor(self.name)
        self.check(self.name, array)
        return array


def read_safetensors(path: Path) -> tuple[dict[str, _Stored], dict[str, str]]:
    """The tensors of a .safetensors file, and its metadata.

    Raises:
        InputError: it cannot be read, or holds tensors that NumPy has no type for.
    """
    assert ml_dtypes.bfloat16  # registered with NumPy by its import, as safetensors needs
    try:
        file: Any = safetensors.safe_open(path, "numpy")
        slices = {name: file.get_slice(name) for name in file.keys()}
        metadata = file.metadata() or {}
        kinds = {name: str(each.get_dtype()) for name, each in slices.items()}
        shapes = {name: tuple(each.get_shape()) for name, each in slices.items()}
    except (OSError, safetensors.SafetensorError, ValueError) as error:
        raise InputError(f"cannot read {path}: {one_line(error)}") from error
    others = [f"{shown(name)} is {kind}" for name, kind in kinds.items() if kind not in KNOWN]
    if others:
        raise InputError(f"{path} holds no weights of floats: {listed(others)}")
    check = checker(metadata, path)
    return {name: _Stored(file, name, shape, check) for name, shape in shapes.items()}, metadata


def read_pickled(path: Path) -> dict[str, Any]:
    """The state_dict in a .pth file; only tensors and containers are ever unpickled.

    Raises:
        InputError: it cannot be read, is damaged, holds code, or no state_dict.
    """
    try:
        import torch
    except ImportError as error:
        raise InputError(
            f"{path} needs PyTorch to be read: pip install 'jax-torch-parity[torch]'"
        ) from error
    try:
        zipped = zipfile.is_zipfile(path)
        if zipped:
            _check_zip(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is wrong with the file is told in one line
            # Not mapped: then PyTorch would not compare a tensor's size with its part's.
            file = path if zipped else legacy_pth.checked(path)
            found = torch.load(file, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except pickle.UnpicklingError as error:
        code = re.search(r"GLOBAL ([\w.]+)", str(error))
        problem = f"the code {shown(code[1])}, which is not run" if code else "no readable weights"
        advice = "save model.state_dict() alone, by torch.save's default protocol"
        raise InputError(f"{path} holds {problem}: {advice}") from error
    # Damaged files meet PyTorch with errors of many types.
    except Exception as error:
        raise InputError(f"cannot read {path}: {one_line(error, 200)}") from error
    for name in NESTED:
        if isinstance(found, dict) and isinstance(found.get(name), dict):
            found = found[name]
            break
    if not isinstance(found, dict) or not found:
        raise InputError(f"{path} holds a {type(found).__name__}, not a state_dict")
    unnamed = [shown(str(name)) for name in found if not isinstance(name, str)]
    if unnamed:
        raise InputError(f"{path} holds no state_dict: not text are the names {listed(unnamed)}")
    others = [shown(name) for name, value in found.items() if not isinstance(value, torch.Tensor)]
    if others:
        raise InputError(f"{path} holds no state_dict: not tensors are {listed(others)}")
    odd = {name: kind for name, value in found.items() if (kind := _odd(value)) is not None}
    if odd:
        texts = [f"{shown(name)} is {kind}" for name, kind in odd.items()]
        raise InputError(f"{path} holds no plain tensors: {listed(texts)}")
    return found


def _odd(tensor: Any) -> str | None:
    """What a tensor is that has no plain numbers in memory."""
    if tensor.is_meta:
        return "on the meta device, without numbers"
    if tensor.is_nested:
        return "nested"
    if tensor.is_quantized:
        return "quantized"
    if str(tensor.layout) != "torch.strided":
        return f"sparse ({tensor.layout})"
    kind = str(tensor.dtype).removeprefix("torch.")
    return kind if kind.startswith(("float8", "float4", "complex", "bits")) else None


def _check_zip(path: Path) -> None:
    """Refuses a zip of PyTorch's with a wrong checksum, or compressed, which is read as it lies."""
    try:
        with zipfile.ZipFile(path) as file:
            packed = [e.filename for e in file.infolist() if e.compress_type != zipfile.ZIP_STORED]
            damaged = None if packed else file.testzip()
            # PyTorch takes what is marked as a folder for empty, and gives any memory as weights.
            marked = [e.filename for e in file.infolist() if e.external_attr & 0x10 and e.file_size]
            damaged = damaged or next(iter(marked), None)
    # zipfile meets damaged headers with errors of many types.
    except Exception as error:
        raise InputError(f"{path} is damaged ({one_line(error, 200)})") from error
    if packed:
        raise InputError(
            f"{path} is compressed ({shown(packed[0])}): save it again with torch.save"
        )
    if damaged is not None:
        raise InputError(f"{path} is damaged: the checksum of {shown(damaged)} is another")
