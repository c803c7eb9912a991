"""Blocks that are rematerialised, or scanned over."""

import flax.linen as linen
import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from torch import nn

import parity
from correct import common
from correct.common import integers, nnx_state, normal

WIDTH, DEPTH = 12, 3


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.fc1 = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 24)
        self.fc2, self.act = nn.Linear(24, WIDTH), nn.GELU("tanh")

    def forward(self, x):
        return x + self.fc2(self.act(self.fc1(self.norm(x))))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(*(Block() for _ in range(DEPTH)))
        self.fc = nn.Linear(WIDTH, 5)

    def forward(self, x):
        return self.fc(self.blocks(x))


class FlaxBlock(linen.Module):
    @linen.compact
    def __call__(self, x):
        y = linen.Dense(24, name="fc1")(linen.LayerNorm(epsilon=1e-5, name="norm")(x))
        return x + linen.Dense(WIDTH, name="fc2")(linen.gelu(y))


def pair(name, apply, to_flax, seed):
    return parity.Pair(
        name,
        Net,
        apply,
        to_flax,
        example_inputs=normal(seed, 8, WIDTH),
        labels=integers(seed, 5, 8),
    )


def linen_remat(seed: int) -> parity.Pair:
    """`linen.remat` of each block."""

    class FlaxNet(linen.Module):
        @linen.compact
        def __call__(self, x):
            for i in range(DEPTH):
                x = linen.remat(FlaxBlock)(name=f"block{i}")(x)
            return linen.Dense(5, name="fc")(x)

    def to_flax(state):
        return common.by_names({n.replace("blocks.", "block"): v for n, v in state.items()})

    return pair("linen.remat", FlaxNet().apply, to_flax, seed)


class NnxBlock(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.LayerNorm(WIDTH, epsilon=1e-5, rngs=rngs)
        self.fc1 = nnx.Linear(WIDTH, 24, rngs=rngs)
        self.fc2 = nnx.Linear(24, WIDTH, rngs=rngs)

    @nnx.remat
    def __call__(self, x):
        return x + self.fc2(nnx.gelu(self.fc1(self.norm(x))))


class NnxNet(nnx.Module):
    def __init__(self, rngs):
        self.blocks = nnx.List([NnxBlock(rngs) for _ in range(DEPTH)])
        self.fc = nnx.Linear(WIDTH, 5, rngs=rngs)

    def __call__(self, x):
        for block in self.blocks:
            x = block(x)
        return self.fc(x)


def nnx_remat(seed: int) -> parity.Pair:
    """`nnx.remat` of a block's call."""
    graph, like = nnx.split(NnxNet(nnx.Rngs(0)))
    return pair(
        "nnx.remat",
        lambda state, x: nnx.merge(graph, state)(x),
        lambda state: nnx_state(like, state),
        seed,
    )


def stacked(state):
    """(the blocks' entries with the blocks as their first axis, the other entries)."""
    names = [n.removeprefix("blocks.0.") for n in state if n.startswith("blocks.0.")]
    blocks = {n: [state[f"blocks.{i}.{n}"] for i in range(DEPTH)] for n in names}
    return blocks, {n: v for n, v in state.items() if not n.startswith("blocks.")}


class Step(linen.Module):
    @linen.compact
    def __call__(self, x, _):
        return FlaxBlock(name="block")(x), None


def linen_scan(seed: int) -> parity.Pair:
    """`linen.scan` over the blocks, whose weights are stacked."""

    class FlaxNet(linen.Module):
        @linen.compact
        def __call__(self, x):
            scan = linen.scan(
                Step, variable_axes={"params": 0}, split_rngs={"params": True}, length=DEPTH
            )
            return linen.Dense(5, name="fc")(scan(name="blocks")(x, None)[0])

    def to_flax(state):
        blocks, rest = stacked(state)
        each = [common.by_names({n: v[i] for n, v in blocks.items()}) for i in range(DEPTH)]
        joined = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
        variables = common.by_names(rest)
        variables["params"]["blocks"] = {"block": joined["params"]}
        return variables

    return pair("linen.scan", FlaxNet().apply, to_flax, seed)


def lax_scan(seed: int) -> parity.Pair:
    """A plain function over stacked weights, checkpointed."""

    @jax.checkpoint
    def block(x, p):
        centred = x - x.mean(-1, keepdims=True)
        y = centred * lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + 1e-5)
        y = y * p["norm.weight"] + p["norm.bias"]
        y = jax.nn.gelu(y @ p["fc1.weight"].T + p["fc1.bias"])
        return x + y @ p["fc2.weight"].T + p["fc2.bias"], None

    def apply(variables, x):
        x, _ = lax.scan(block, x, variables["blocks"])
        return x @ variables["fc.weight"].T + variables["fc.bias"]

    def to_flax(state):
        blocks, rest = stacked(state)
        joined = {n: jnp.stack([jnp.asarray(v) for v in values]) for n, values in blocks.items()}
        return {"blocks": joined, **common.as_they_are(rest)}

    return pair("lax.scan", apply, to_flax, seed)
