"""What `platform.kept` keeps is the same array, and XLA does keep it."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from jax_impl.ops.platform import kept

DTYPES = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16, np.int8, np.int32]
SPECIAL = [0.0, -0.0, 1.0, -3.0, 1e30, np.inf, -np.inf, np.nan, -np.nan]


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
def test_no_bit_changes_whatever_comes_first(dtype):
    floats = jnp.issubdtype(dtype, jnp.floating)
    info = jnp.finfo(dtype) if floats else jnp.iinfo(dtype)
    values = [info.min, info.max, *(SPECIAL if floats else [0, 1, -1])]
    with jax.enable_x64(True), np.errstate(over="ignore"):
        for turn in range(len(values)):
            given = np.roll(np.array(values).astype(dtype), turn).reshape(1, -1, 1)
            found = np.asarray(jax.jit(kept)(given))
            assert found.dtype == given.dtype and found.tobytes() == given.tobytes()


def test_it_is_computed_once_for_all_its_readers():
    def readers(keep, x):
        root = keep(x * x)
        return root[:-1] + 2, root[1:] + 3, root[::2] + 1

    def products(keep) -> int:
        compiled = jax.jit(lambda x: readers(keep, x)).lower(jnp.ones(64)).compile()
        return (compiled.as_text() or "").count(" multiply(")

    if jax.default_backend() != "cpu":
        pytest.skip("what XLA does on a CPU")
    # Once, and of the first element alone; an XLA that does so by itself needs no `kept`.
    assert products(lambda x: x) == 3 and products(kept) == 2
