"""How precise a training's arithmetic is, and whether two runs are bit for bit the same."""

import os
from typing import Any

import jax
import jax.numpy as jnp

from jax_impl.errors import InputError

MATMUL = {"float32": "highest", "tf32": "tensorfloat32", "bf16": "default"}
"""JAX's precision of products: by default a GPU multiplies float32 in TF32, a TPU in bfloat16."""

DETERMINISTIC = "--xla_gpu_deterministic_ops=true"


def set_precision(name: str, platform: str) -> Any:
    """Pins the precision of products, and returns the dtype to compute in.

    Args:
        name: "float32", in full; "tf32", products of float32 rounded to 10 bits; "bf16", bfloat16
            with weights, statistics, loss and optimizer in float32.
        platform: of the device: "cpu", "gpu" or "tpu".

    Raises:
        InputError: no such precision, or TF32 on a CPU, which has none.
    """
    if name not in MATMUL:
        raise InputError(f"no precision {name!r}: choose one of {', '.join(MATMUL)}")
    if name == "tf32" and platform == "cpu":
        raise InputError("tf32: a CPU has none: choose float32 or bf16")
    jax.config.update("jax_default_matmul_precision", MATMUL[name])
    return jnp.dtype(jnp.bfloat16 if name == "bf16" else jnp.float32)


def be_deterministic() -> None:
    """Keeps XLA from kernels whose sums depend on the order in which threads finish.

    Only GPUs have such. To be called before JAX looks for devices, when it reads this flag.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} {DETERMINISTIC}".strip()
