"""Where a run takes place: versions, devices, memory, and how precision is pinned."""

import ctypes
import platform
import time
from typing import Any

import jax
import torch

from jax_impl.errors import InputError
from parity.shell.provenance import provenance
from torch_ref.precision import allow_tf32

PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "torch",
    "torchvision",
    "tensorflow-datasets",
    "numpy",
)

PRECISION = (
    "JAX matmul precision 'highest' (no TF32); PyTorch TF32 off for matmul and cuDNN; float64 with "
    "jax_enable_x64"
)

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of glibc's malloc.h."""


def pin_precision() -> None:
    """PyTorch computes float32 products in float32 on a GPU as well.

    JAX's side of this is `parity.pairs.pair.precision`.
    """
    allow_tf32(False)


def choose_device(wanted: str) -> str:
    """Makes "cpu" or "gpu" JAX's default device and returns PyTorch's name for it.

    "auto" is a GPU if both frameworks see one.

    Raises:
        InputError: a GPU is asked for that one of them does not see.
        RuntimeError: JAX has no device at all, as by a wrong JAX_PLATFORMS.
    """
    jax.devices()
    gpu = jax_device("gpu")
    if wanted == "gpu":
        missing = [
            n for n, there in (("JAX", gpu), ("PyTorch", torch.cuda.is_available())) if not there
        ]
        if missing:
            raise InputError(f"{' and '.join(missing)} cannot use a GPU here: pass --device cpu")
    both = gpu is not None and torch.cuda.is_available()
    on_gpu = both if wanted == "auto" else wanted == "gpu"
    jax.config.update("jax_default_device", gpu if on_gpu else jax_device("cpu"))
    return "cuda" if on_gpu else "cpu"


def jax_device(platform: str) -> Any:
    """JAX's first device of a platform (cpu, gpu or tpu), or None where there is none."""
    try:
        return jax.devices(platform)[0]
    except RuntimeError:
        return None


def keep_freed_memory() -> None:
    """Freed blocks of every size stay with the process for the next of their size (glibc only).

    By default glibc gives each block over 32 MiB back to the system, which then clears the pages
    of the next one: over half the time of a comparison of layers with tens of millions of weights.
    Over 64 MiB that lie free at the heap's end are given back, as by default (mallopt(3)).
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for option, value in ((M_MMAP_THRESHOLD, 2**31 - 1), (M_TRIM_THRESHOLD, 2**26)):
            libc.mallopt(option, value)


def describe(device: str) -> dict[str, Any]:
    """The environment for a report; `device` is PyTorch's name of the one in use."""
    return provenance(PACKAGES) | {
        "date": time.strftime("%Y-%m-%d"),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "precision": PRECISION,
    }
