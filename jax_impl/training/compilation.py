"""Compiled programs kept on disk: a model's second run starts without compiling anew."""

from pathlib import Path

import jax
import platformdirs


def keep_compiled() -> None:
    """Keeps what JAX compiles in the user's cache directory.

    Or where $JAX_COMPILATION_CACHE_DIR says; JAX_ENABLE_COMPILATION_CACHE=false turns it off.
    """
    given = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
    if given is None:
        directory = Path(platformdirs.user_cache_dir("jax-torch-parity")) / "compiled"
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError:  # no home to write to: then each run compiles anew
            return
        jax.config.update("jax_compilation_cache_dir", str(directory))
