"""PyTorch's GRU and LSTM as scans, with the departures that other libraries' cells have."""

import jax
import jax.numpy as jnp

from planted.nets.functional import V


def gru(
    v: V,
    name: str,
    x: jax.Array,
    start: jax.Array,
    *,
    reset: str = "after",
    order: str = "rzn",
) -> tuple[jax.Array, jax.Array]:
    """(outputs [n, l, h], last state) of [n, l, c].

    `reset` is what the reset gate multiplies: "after" the product with its bias as PyTorch does,
    the product "without the bias", or the state "before" it. `order` is of the gates' rows.
    """
    w_i, w_h = v[f"{name}.weight_ih_l0"], v[f"{name}.weight_hh_l0"]
    b_i, b_h = v[f"{name}.bias_ih_l0"], v[f"{name}.bias_hh_l0"]
    size = start.shape[1]
    new = slice(order.index("n") * size, (order.index("n") + 1) * size)

    def step(h, given):
        i = dict(zip(order, jnp.split(given @ w_i.T + b_i, 3, -1), strict=True))
        g = dict(zip(order, jnp.split(h @ w_h.T + b_h, 3, -1), strict=True))
        r, z = jax.nn.sigmoid(i["r"] + g["r"]), jax.nn.sigmoid(i["z"] + g["z"])
        if reset == "after":
            inner = r * g["n"]
        elif reset == "without the bias":
            inner = r * (h @ w_h[new].T) + b_h[new]
        else:
            inner = (r * h) @ w_h[new].T + b_h[new]
        n = jnp.tanh(i["n"] + inner)
        h = z * h + (1 - z) * n
        return h, h

    last, outputs = jax.lax.scan(step, start, x.swapaxes(0, 1))
    return outputs.swapaxes(0, 1), last


def lstm(
    v: V,
    name: str,
    suffix: str,
    x: jax.Array,
    *,
    order: str = "ifgo",
    forget: float = 0.0,
) -> jax.Array:
    """Outputs [n, l, h]; `suffix` is the layer's and the direction's."""
    w_i, w_h = v[f"{name}.weight_ih_{suffix}"], v[f"{name}.weight_hh_{suffix}"]
    bias = v[f"{name}.bias_ih_{suffix}"] + v[f"{name}.bias_hh_{suffix}"]

    def step(carry, given):
        h, c = carry
        gates = dict(zip(order, jnp.split(given @ w_i.T + h @ w_h.T + bias, 4, -1), strict=True))
        i, f, o = (jax.nn.sigmoid(gates[k] + (forget if k == "f" else 0.0)) for k in "ifo")
        c = f * c + i * jnp.tanh(gates["g"])
        h = o * jnp.tanh(c)
        return (h, c), h

    zeros = jnp.zeros((len(x), w_h.shape[1]), x.dtype)
    _, outputs = jax.lax.scan(step, (zeros, zeros), x.swapaxes(0, 1))
    return outputs.swapaxes(0, 1)
