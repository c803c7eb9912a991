"""Small transformers: ViT, a causal language model with a tied head, BERT."""

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import parity
from correct import common
from correct.common import by_names, integers, linear, normal
from parity import tap

WIDTH, HEADS, TOKENS, WORDS = 16, 2, 8, 23


class Attention(nn.Module):
    def __init__(self, causal):
        super().__init__()
        self.qkv, self.proj, self.causal = (
            nn.Linear(WIDTH, 3 * WIDTH),
            nn.Linear(WIDTH, WIDTH),
            causal,
        )

    def forward(self, x):
        heads = self.qkv(x).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(*heads, is_causal=self.causal)
        return self.proj(y.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Pre-norm, as in GPT-2 and ViT."""

    def __init__(self, eps, approximate, causal):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH, eps), nn.LayerNorm(WIDTH, eps)
        self.att = Attention(causal)
        self.fc1, self.fc2 = nn.Linear(WIDTH, 32), nn.Linear(32, WIDTH)
        self.act = nn.GELU(approximate)

    def forward(self, x):
        x = x + self.att(self.norm1(x))
        return x + self.fc2(self.act(self.fc1(self.norm2(x))))


class FlaxAttention(linen.Module):
    causal: bool

    @linen.compact
    def __call__(self, x):
        n, t, _ = x.shape
        heads = linen.Dense(3 * WIDTH, name="qkv")(x).reshape(n, t, 3, HEADS, -1)
        q, k, v = heads.transpose(2, 0, 3, 1, 4)
        scores = q @ k.swapaxes(-1, -2) / (WIDTH // HEADS) ** 0.5
        if self.causal:
            scores = jnp.where(jnp.tri(t, dtype=bool), scores, -jnp.inf)
        y = (linen.softmax(scores) @ v).transpose(0, 2, 1, 3).reshape(x.shape)
        return linen.Dense(WIDTH, name="proj")(y)


class FlaxBlock(linen.Module):
    eps: float
    approximate: bool
    causal: bool

    @linen.compact
    def __call__(self, x):
        y = linen.LayerNorm(epsilon=self.eps, name="norm1")(x)
        x = x + FlaxAttention(self.causal, name="att")(y)
        y = linen.Dense(32, name="fc1")(linen.LayerNorm(epsilon=self.eps, name="norm2")(x))
        y = tap(f"{self.name}.act", linen.gelu(y, approximate=self.approximate))
        return x + linen.Dense(WIDTH, name="fc2")(y)


class ViT(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, 8, 8)
        self.cls = nn.Parameter(torch.randn(1, 1, WIDTH) * 0.1)
        self.pos = nn.Parameter(torch.randn(1, 17, WIDTH) * 0.1)
        self.block0, self.block1 = Block(1e-6, "none", False), Block(1e-6, "none", False)
        self.norm, self.head = nn.LayerNorm(WIDTH, 1e-6), nn.Linear(WIDTH, 10)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], 1) + self.pos
        return self.head(self.norm(self.block1(self.block0(x)))[:, 0])


class FlaxViT(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = linen.Conv(WIDTH, (8, 8), (8, 8), "VALID", name="patches")(x)
        x = x.reshape(len(x), -1, WIDTH)
        cls = self.param("cls", linen.initializers.zeros, (1, 1, WIDTH))
        pos = self.param("pos", linen.initializers.normal(0.02), (1, 17, WIDTH))
        x = jnp.concatenate([jnp.broadcast_to(cls, (len(x), 1, WIDTH)), x], 1) + pos
        for i in range(2):
            x = FlaxBlock(1e-6, False, False, name=f"block{i}")(x)
        return linen.Dense(10, name="head")(linen.LayerNorm(name="norm")(x)[:, 0])


def vit(seed: int) -> parity.Pair:
    """Patches, a class token, positions; AdamW."""
    return parity.Pair(
        "ViT",
        ViT,
        FlaxViT().apply,
        by_names,
        example_inputs=normal(seed, 4, 3, 32, 32),
        labels=integers(seed, 10, 4),
        channels_last=True,
        optimizer=common.adamw(),
    )


class GPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens, self.places = nn.Embedding(WORDS, WIDTH), nn.Embedding(TOKENS, WIDTH)
        self.block0, self.block1 = Block(1e-5, "tanh", True), Block(1e-5, "tanh", True)
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WORDS, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, ids):
        x = self.tokens(ids) + self.places(torch.arange(ids.shape[1], device=ids.device))
        return self.head(self.norm(self.block1(self.block0(x))))


class FlaxGPT(linen.Module):
    @linen.compact
    def __call__(self, ids):
        tokens = linen.Embed(WORDS, WIDTH, name="tokens")
        x = tokens(ids) + linen.Embed(TOKENS, WIDTH, name="places")(jnp.arange(ids.shape[1]))
        for i in range(2):
            x = FlaxBlock(1e-5, True, True, name=f"block{i}")(x)
        return tokens.attend(linen.LayerNorm(epsilon=1e-5, name="norm")(x))


def gpt(seed: int) -> parity.Pair:
    """A causal model of integers with a tied head and the next token's loss; GELU by tanh."""
    text = integers(seed, WORDS, 4, TOKENS + 1)

    def to_flax(state):
        kept = {name: value for name, value in state.items() if name != "head.weight"}
        return by_names(kept, embeddings=("tokens", "places"))

    return parity.Pair(
        "GPT",
        GPT,
        FlaxGPT().apply,
        to_flax,
        example_inputs=text[:, :-1],
        labels=text[:, 1:],
        loss=common.token_loss(),
        optimizer=common.adamw(),
    )


class BERT(nn.Module):
    """Post-norm, with a mask and a dict of outputs as transformers has them."""

    def __init__(self):
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, WIDTH, padding_idx=0), nn.Embedding(9, WIDTH)
        self.norm0 = nn.LayerNorm(WIDTH, eps=1e-12)
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.dense, self.norm1 = nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH, eps=1e-12)
        self.wide, self.narrow = nn.Linear(WIDTH, 32), nn.Linear(32, WIDTH)
        self.norm2 = nn.LayerNorm(WIDTH, eps=1e-12)
        self.pooler, self.classifier = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 3)

    def forward(self, input_ids, attention_mask):
        t = input_ids.shape[1]
        x = self.norm0(self.words(input_ids) + self.places.weight[:t])
        q, k, v = (
            layer(x).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        scores = q @ k.transpose(-1, -2) / (WIDTH // HEADS) ** 0.5
        scores = scores.masked_fill(attention_mask[:, None, None] == 0, -1e9)
        y = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
        x = self.norm1(x + self.dense(y))
        x = self.norm2(x + self.narrow(F.gelu(self.wide(x))))
        pooled = torch.tanh(self.pooler(x[:, 0]))
        return {"last_hidden_state": x, "pooled": pooled, "logits": self.classifier(pooled)}


def bert(seed: int) -> parity.Pair:
    """Inputs and outputs are dicts; row 0 of the embeddings is padding and is not trained."""

    def norm(p, name, x):
        centred = x - x.mean(-1, keepdims=True)
        y = centred * jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + 1e-12)
        return tap(name, y * p[f"{name}.weight"] + p[f"{name}.bias"])

    def apply(p, input_ids, attention_mask):
        def dense(name, x):
            return tap(name, linear(p, name, x))

        n, t = input_ids.shape
        words = p["words.weight"]
        words = words.at[0].set(jax.lax.stop_gradient(words[0]))
        x = norm(p, "norm0", tap("words", words[input_ids]) + p["places.weight"][:t])
        q, k, v = (
            dense(m, x).reshape(n, t, HEADS, -1).transpose(0, 2, 1, 3)
            for m in ("query", "key", "value")
        )
        scores = q @ k.swapaxes(-1, -2) / (WIDTH // HEADS) ** 0.5
        scores = jnp.where(attention_mask[:, None, None] == 0, -1e9, scores)
        y = (jax.nn.softmax(scores) @ v).transpose(0, 2, 1, 3).reshape(n, t, WIDTH)
        x = norm(p, "norm1", x + dense("dense", y))
        wide = jax.nn.gelu(dense("wide", x), approximate=False)
        x = norm(p, "norm2", x + dense("narrow", wide))
        pooled = jnp.tanh(dense("pooler", x[:, 0]))
        return {"last_hidden_state": x, "pooled": pooled, "logits": dense("classifier", pooled)}

    ids = integers(seed, WORDS - 1, 6, 9) + 1
    lengths = np.array([9, 5, 9, 7, 3, 8])
    mask = (np.arange(9) < lengths[:, None]).astype(np.int64)
    entropy = common.token_loss()
    return parity.Pair(
        "BERT",
        BERT,
        apply,
        common.as_they_are,
        example_inputs={"input_ids": ids * mask, "attention_mask": mask},
        labels=integers(seed, 3, 6),
        loss=parity.Loss(
            lambda o, y: F.cross_entropy(o["logits"], y), lambda o, y: entropy.jax(o["logits"], y)
        ),
        optimizer=common.adamw(),
    )
