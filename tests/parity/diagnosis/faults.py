"""A fault's value, by NumPy or JAX, and the one suspect of a PyTorch call that gives it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import torch

from parity.diagnosis.suspects import Call, Intercept, suspects
from parity.diagnosis.suspects.call import NOT_LEGAL


class Fault(NamedTuple):
    """A call of PyTorch, what a faulty port of it gives, and a part of the suspect's text."""

    call: Callable[[], Any]
    port: Callable[[], Any]
    part: str
    name: str = ""
    """Of the function, where the call reaches others after it."""


def array(tensor: Any) -> np.ndarray:
    """A tensor as NumPy has it."""
    return tensor.detach().numpy() if isinstance(tensor, torch.Tensor) else np.asarray(tensor)


def softmax(x: np.ndarray, axis: int = -1) -> np.ndarray:
    """By NumPy."""
    x = np.exp(x - x.max(axis, keepdims=True))
    return x / x.sum(axis, keepdims=True)


def first(value: Any) -> np.ndarray:
    """The first output of a call of several."""
    return array(value[0] if isinstance(value, tuple) else value)


def same(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two results agree to 1e-12."""
    return a.shape == b.shape and np.allclose(a, b, 1e-12, 1e-12 * (1 + np.abs(b).max(initial=0)))


def explained(fault: Fault) -> list[str]:
    """The texts of all suspects of the last known call that give the port's value."""
    calls: list[Call] = []
    interceptor = Intercept()
    interceptor.on_call = lambda _, call: calls.append(call)
    with torch.no_grad(), interceptor:
        fault.call()
    call = [c for c in calls if fault.name in ("", c.name)][-1]
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        wanted = first(fault.port())
    found = []
    with torch.no_grad():
        assert not same(first(call.plain()), wanted), "the port has no fault"
        for text, thunk in suspects(call):
            try:
                out = first(thunk())
            except NOT_LEGAL:
                continue
            if same(out, wanted):
                found.append(text)
    return found


def one_suspect(fault: Fault) -> None:
    """Fails unless one suspect alone gives the port's value, and has the text."""
    texts = explained(fault)
    assert len(texts) == 1, texts
    assert fault.part in texts[0]
