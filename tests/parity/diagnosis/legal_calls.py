"""Legal calls of every function that has suspects, in the forms in which models make them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    """Numbers in float64, of both signs."""
    source = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(shape, generator=source, dtype=torch.float64)


def module(made: nn.Module, *inputs: Any, train: bool = True) -> Callable[[], Any]:
    """A call of a module, in float64, whose weights and statistics are drawn."""
    made = made.double().train(train)
    with torch.no_grad():
        for i, tensor in enumerate((*made.parameters(), *made.buffers())):
            if tensor.is_floating_point():
                tensor.copy_(draw(*tensor.shape, seed=i + 1).abs() + 0.1)
        for i, tensor in enumerate(made.parameters()):
            tensor.copy_(draw(*tensor.shape, seed=i + 9))
    return lambda: made(*inputs)


L, X, V = draw(2, 4, 9), 3 * draw(2, 4, 8, 6), draw(2, 4, 5, 6, 4)
S, M = draw(2, 5, 8), draw(5, 8)
IDS = torch.tensor([[1, 0, 2], [3, 3, 0]])
MASK = draw(5, 5) > 0
Q, K, W = draw(2, 2, 5, 4), draw(2, 2, 5, 4, seed=1), draw(2, 2, 5, 4, seed=2)
PADDED = torch.zeros(2, 5, dtype=torch.bool)
PADDED[1, 3:] = True


def _windows() -> dict[str, Callable[[], Any]]:
    calls: dict[str, Callable[[], Any]] = {}
    for n, x in ((1, L), (2, X), (3, V)):
        of = lambda kind, n=n: getattr(nn, f"{kind}{n}d")  # noqa: E731
        conv, up, norm = of("Conv"), of("ConvTranspose"), of("BatchNorm")
        calls |= {
            f"conv{n}d": module(conv(4, 4, 3, stride=2, padding=1), x),
            f"conv{n}d same": module(conv(4, 6, 2, padding="same", bias=False), x),
            f"conv{n}d valid": module(conv(4, 6, 2, padding="valid"), x),
            f"conv{n}d groups": module(conv(4, 8, 3, padding=2, dilation=2, groups=2), x),
            f"conv{n}d depthwise": module(conv(4, 8, 3, groups=4), x),
            f"conv{n}d without a batch": module(conv(4, 4, 3, padding=1), x[0]),
            f"conv{n}d reflect": module(conv(4, 4, 3, padding=1, padding_mode="reflect"), x),
            f"conv_transpose{n}d": module(up(4, 4, 3, 2, padding=1, output_padding=1), x),
            f"conv_transpose{n}d groups": module(up(4, 6, 2, 3, groups=2, bias=False), x),
            f"conv_transpose{n}d without a batch": module(up(4, 6, 4, 2, dilation=2), x[0]),
            f"max_pool{n}d": module(of("MaxPool")(2), x),
            f"max_pool{n}d padded": module(of("MaxPool")(3, 2, 1), x),
            f"max_pool{n}d dilated": module(of("MaxPool")(2, 1, dilation=2), x),
            f"max_pool{n}d indices": module(of("MaxPool")(2, return_indices=True), x),
            f"avg_pool{n}d": module(of("AvgPool")(2), x),
            f"avg_pool{n}d padded": module(of("AvgPool")(3, 2, 1, True, False), x[0]),
            f"adaptive average {n}": module(of("AdaptiveAvgPool")(3), x),
            f"adaptive average {n} to one": module(of("AdaptiveAvgPool")(1), x[0]),
            f"adaptive maximum {n}": module(of("AdaptiveMaxPool")(3), x),
            f"lp_pool{n}d": module(of("LPPool")(2, 2), x.abs()),
            f"instance_norm {n}": module(of("InstanceNorm")(4), x),
            f"instance_norm {n} tracked": module(
                of("InstanceNorm")(4, affine=True, track_running_stats=True), x, train=False
            ),
        }
        for train in (True, False):
            calls |= {
                f"batch_norm {n} {train}": module(norm(4), x, train=train),
                f"batch_norm {n} {train} bare": module(norm(4, affine=False), x, train=train),
                f"batch_norm {n} {train} cumulative": module(norm(4, momentum=None), x),
                f"batch_norm {n} {train} untracked": module(
                    norm(4, track_running_stats=False), x, train=train
                ),
            }
    return calls


def _norms() -> dict[str, Callable[[], Any]]:
    return {
        "batch_norm of features": module(nn.BatchNorm1d(8), M),
        "batch_norm by arguments": lambda: F.batch_norm(M, None, None, training=True),
        "layer_norm": module(nn.LayerNorm(8), S),
        "layer_norm of two": module(nn.LayerNorm([5, 8], elementwise_affine=False), S),
        "layer_norm of one axis": module(nn.LayerNorm(8), M[0]),
        "rms_norm": module(nn.RMSNorm(8), S),
        "rms_norm eps": module(nn.RMSNorm(8, eps=1e-6, elementwise_affine=False), S),
        "group_norm": module(nn.GroupNorm(2, 4), X),
        "group_norm bare": module(nn.GroupNorm(2, 8, affine=False), M),
        "group_norm of one": lambda: F.group_norm(input=X, num_groups=1),
        "local_response_norm": module(nn.LocalResponseNorm(3), X),
        "normalize": lambda: F.normalize(S),
        "normalize what is small": lambda: F.normalize(S * 1e-13),
        "rms_norm of what is small": module(nn.RMSNorm(8), S * 1e-7),
        "cosine of what is small": lambda: F.cosine_similarity(S * 1e-6, S.flip(0) * 1e-6),
        "normalize last": lambda: F.normalize(M, p=1, dim=-1),
        "normalize of a vector": lambda: F.normalize(M[0], dim=0),
    }


def _activations() -> dict[str, Callable[[], Any]]:
    made: list[nn.Module] = [
        nn.ReLU(), nn.ReLU6(), nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.ELU(), nn.CELU(),
        nn.SELU(), nn.Mish(), nn.Tanh(), nn.Sigmoid(), nn.LeakyReLU(0.2), nn.Hardswish(),
        nn.Hardsigmoid(), nn.Hardtanh(), nn.Softplus(2.0), nn.Softsign(), nn.Tanhshrink(),
        nn.Hardshrink(), nn.Softshrink(), nn.Threshold(0.1, 0.2), nn.LogSigmoid(), nn.RReLU(),
        nn.PReLU(), nn.GLU(), nn.Softmax(1), nn.LogSoftmax(-1), nn.Softmin(0), nn.Softmax2d(),
        nn.Dropout(0.3), nn.Dropout2d(0.3), nn.AlphaDropout(0.3),
    ]  # fmt: skip
    calls = {f"{m}": module(m, X) for m in made}
    calls |= {f"{m} eval": module(m, X, train=False) for m in made[-3:]}
    written: list[nn.Module] = [
        nn.ReLU(True), nn.ReLU6(True), nn.SiLU(True), nn.ELU(1.0, True), nn.LeakyReLU(0.1, True),
        nn.Hardswish(True), nn.Hardtanh(inplace=True), nn.SELU(True), nn.Dropout(0.2, True),
    ]  # fmt: skip
    calls |= {f"{m}": lambda m=m: m(X.clone()) for m in written}
    return {
        **calls,
        "prelu of channels": module(nn.PReLU(4), X),
        "prelu of a last axis": lambda: F.prelu(draw(2, 4, 4), torch.rand(4).double()),
        "relu of a number": lambda: torch.relu(draw()),
        "softmax of a number": lambda: torch.softmax(draw(), 0),
        "softmax by name": lambda: S.softmax(dim=-1),
        "softmax in float32": lambda: F.softmax(S, dim=1, dtype=torch.float32),
        "softmax without an axis": lambda: torch.softmax(input=M, dim=1),
        "relu_": lambda: S.clone().relu_(),
        "tanh_": lambda: S.clone().tanh_(),
        "sigmoid_": lambda: S.clone().sigmoid_(),
        "F.relu6": lambda: F.relu6(S),
        "elu_": lambda: F.elu_(S.clone()),
        "leaky_relu_": lambda: F.leaky_relu_(S.clone(), 0.2),
        "clamp": lambda: S.clamp(0.1),
        "clamp of both": lambda: torch.clamp(S, min=-1, max=1),
        "clamp by tensors": lambda: torch.clamp(S, min=S - 0.1),
        "clip_": lambda: S.clone().clip_(0, 1),
    }


def _attention() -> dict[str, Callable[[], Any]]:
    attend = F.scaled_dot_product_attention
    heads = nn.MultiheadAttention(8, 2, batch_first=True, dropout=0.1)
    return {
        "attention": lambda: attend(Q, K, W),
        "attention of three axes": lambda: attend(S, S.flip(0), S + 1, scale=0.3),
        "attention causal": lambda: attend(Q[:, :, :3], K, W, is_causal=True),
        "attention masked": lambda: attend(Q, K, W, attn_mask=MASK),
        "attention masked by numbers": lambda: attend(Q, K, W, draw(5, 5)),
        "attention masked by minus infinity": lambda: attend(
            Q, K, W, torch.zeros(5, 5).double().masked_fill(~MASK.tril(-1), -torch.inf)
        ),
        "attention dropped": lambda: attend(Q, K, W, dropout_p=0.5),
        "attention grouped": lambda: attend(
            draw(2, 4, 5, 4), K, W, enable_gqa=True, is_causal=True
        ),
        "heads": module(heads, S, S, S),
        "heads in eval": module(nn.MultiheadAttention(8, 2), S, S, S, train=False),
        "heads without biases": module(nn.MultiheadAttention(8, 4, bias=False), S, S, S),
        "heads without a batch": module(nn.MultiheadAttention(8, 2), M, M, M),
        "heads of others": module(
            nn.MultiheadAttention(8, 2, kdim=4, vdim=6, add_bias_kv=True, add_zero_attn=True),
            S, draw(2, 5, 4), draw(2, 5, 6),
        ),
        "heads padded": module(nn.MultiheadAttention(8, 2, batch_first=True), S, S, S, PADDED),
        "heads of a mask of numbers": lambda: nn.MultiheadAttention(8, 2).double()(
            S, S, S, attn_mask=draw(2, 2), need_weights=False
        ),
        "heads masked": lambda: nn.MultiheadAttention(8, 2, batch_first=True).double()(
            S, S, S, attn_mask=MASK, need_weights=False
        ),
        "masked_fill": lambda: draw(2, 5, 5).masked_fill(MASK, -torch.inf),
        "masked_fill_": lambda: draw(2, 5, 5).masked_fill_(MASK, draw()),
        "where": lambda: torch.where(MASK, draw(5, 5), 0.0),
        "where of numbers": lambda: torch.where(MASK, 1.0, 0.0),
        "where alone": lambda: torch.where(MASK),
        "where as a method": lambda: draw(5, 5).where(MASK, draw(5, 5, seed=1)),
        "tril": lambda: torch.tril(draw(5, 7)),
        "triu of a mask": lambda: torch.ones(5, 5, dtype=torch.bool).triu(1),
        "invert": lambda: ~MASK,
        "logical_not": lambda: torch.logical_not(MASK),
        "logical_not of numbers": lambda: torch.logical_not(M),
    }  # fmt: skip


def _recurrent() -> dict[str, Callable[[], Any]]:
    calls: dict[str, Callable[[], Any]] = {}
    packed = pack_padded_sequence(S, [5, 3], batch_first=True)
    for name, layer, cell in (
        ("lstm", nn.LSTM, nn.LSTMCell),
        ("gru", nn.GRU, nn.GRUCell),
        ("rnn", nn.RNN, nn.RNNCell),
    ):
        calls |= {
            name: module(layer(8, 3, batch_first=True), S),
            f"{name} deep": module(layer(8, 3, 2, bidirectional=True, dropout=0.2), S),
            f"{name} bare": module(layer(8, 3, bias=False), S, train=False),
            f"{name} without a batch": module(layer(8, 8), M),
            f"{name} packed": module(layer(8, 3, bidirectional=True), packed),
            f"{name} cell": module(cell(8, 3), M),
            f"{name} cell bare": module(cell(8, 3, bias=False), M),
        }
    calls["rnn of relu"] = module(nn.RNN(8, 3, nonlinearity="relu"), S)
    calls["rnn cell of relu"] = module(nn.RNNCell(8, 3, nonlinearity="relu"), M)
    return calls


def _resampling() -> dict[str, Callable[[], Any]]:
    calls: dict[str, Callable[[], Any]] = {
        f"interpolate {mode} {n}": lambda x=x, mode=mode: F.interpolate(
            x, scale_factor=1.7, mode=mode
        )
        for n, x, modes in (
            (1, L, ("nearest", "linear", "area")),
            (2, X, ("nearest", "nearest-exact", "bilinear", "bicubic", "area")),
            (3, V, ("nearest", "trilinear")),
        )
        for mode in modes
    }
    grid = draw(2, 3, 3, 2)
    return {
        **calls,
        "interpolate aligned": module(nn.UpsamplingBilinear2d(size=(5, 9)), X),
        "interpolate to less": lambda: F.interpolate(X, (3, 4), mode="bilinear"),
        "interpolate smaller": lambda: F.interpolate(X, (3, 4), mode="bicubic", antialias=True),
        "grid_sample": lambda: F.grid_sample(X, grid, align_corners=False),
        "affine_grid": lambda: F.affine_grid(draw(2, 2, 3), [2, 4, 3, 3], align_corners=True),
        "pad": lambda: F.pad(X, (1, 2)),
        "pad value": lambda: F.pad(X, [0, 1, 1, 0], value=-1.0),
        "pad reflect": module(nn.ReflectionPad2d((1, 2, 0, 1)), X),
        "pad circular": lambda: F.pad(L, (2, 1), mode="circular"),
        "pad of a vector": lambda: F.pad(M[0], (1, 1)),
        "pad less": lambda: F.pad(M, (-1, 1)),
        "embedding": module(nn.Embedding(4, 8, padding_idx=0), IDS),
        "embedding of a largest norm": module(nn.Embedding(8, 8, max_norm=1.0), IDS),
        "embedding by frequency": module(nn.Embedding(4, 3, scale_grad_by_freq=True), IDS),
        "torch.embedding": lambda: torch.embedding(draw(4, 3), IDS),
        "embedding_bag": module(nn.EmbeddingBag(4, 8), IDS),
        "embedding_bag of offsets": module(
            nn.EmbeddingBag(4, 8, mode="max", padding_idx=1), IDS[0], torch.tensor([0])
        ),
        "embedding_bag weighted": lambda: F.embedding_bag(
            IDS, draw(4, 8), mode="sum", per_sample_weights=draw(2, 3)
        ),
    }


def _products() -> dict[str, Callable[[], Any]]:
    square = draw(2, 5, 5)
    return {
        "linear": module(nn.Linear(8, 8), S),
        "linear of names": lambda: F.linear(input=S, weight=draw(3, 8)),
        "linear to one": lambda: F.linear(M, draw(8)),
        "bilinear": module(nn.Bilinear(8, 8, 3), M, M.flip(0)),
        "bilinear of others": module(nn.Bilinear(8, 5, 3, bias=False), M[:2], draw(2, 5)),
        "matmul": lambda: S @ S.transpose(1, 2),
        "matmul square": lambda: torch.matmul(square, square.flip(0)),
        "matmul of vectors": lambda: M[0] @ M[1],
        "bmm": lambda: torch.bmm(S, draw(2, 8, 5)),
        "mm": lambda: M.mm(M.t()),
        "mv": lambda: M.mv(M[0]),
        "addmm": lambda: torch.addmm(M[0], square[0], M),
        "baddbmm": lambda: torch.baddbmm(S, square, S),
        "einsum": lambda: torch.einsum("bij,bjk->bik", square, square),
        "einsum implicit": lambda: torch.einsum("bij,bjk", square, square),
        "einsum dots": lambda: torch.einsum("...ij->...ji", square),
        "einsum of a list": lambda: torch.einsum("bij->bji", [square]),
        "cosine": lambda: F.cosine_similarity(S, S.flip(0), dim=-1),
        "pairwise": lambda: F.pairwise_distance(M, M.flip(0)),
        "cdist": lambda: torch.cdist(M, M[:3]),
    }


def _shapes() -> dict[str, Callable[[], Any]]:
    return {
        "flatten": lambda: X.flatten(1),
        "flatten of three": lambda: torch.flatten(L, 1),
        "flatten of five": module(nn.Flatten(), V),
        "flatten of a number": lambda: draw().flatten(),
        "reshape to heads": lambda: S.reshape(2, 5, 2, 4),
        "reshape to three": lambda: draw(2, 5, 24).view(2, 5, 3, 2, 4),
        "reshape windows": lambda: draw(2, 4, 6, 3).view(2, 2, 2, 3, 2, 3),
        "reshape nothing": lambda: torch.zeros(0, 3, dtype=torch.float64).reshape(3, 0),
        "reshape of names": lambda: M.reshape(shape=(8, 5)),
        "view of bits": lambda: M.view(torch.int64),
        "view_as": lambda: M.view_as(draw(8, 5)),
        "unflatten": lambda: S.unflatten(2, (2, 4)),
        "permute": lambda: X.permute(0, 2, 3, 1),
        "permute of a tuple": lambda: torch.permute(S, (1, 0, 2)),
        "transpose": lambda: Q.transpose(1, 2),
        "transpose of a square": lambda: draw(2, 5, 5).transpose(-1, -2),
        "T": lambda: M.T,
        "mT": lambda: S.mT,
        "t": lambda: M.t(),
        "pixel_shuffle": lambda: F.pixel_shuffle(draw(2, 8, 3, 3), 2),
        "pixel_shuffle without a batch": module(nn.PixelShuffle(2), draw(8, 3, 3)),
        "pixel_unshuffle": lambda: F.pixel_unshuffle(X, 2),
        "channel_shuffle": lambda: F.channel_shuffle(draw(2, 6, 3, 3), 2),
        "unfold": lambda: F.unfold(X, (3, 2)),
        "Tensor.unfold": lambda: X.unfold(2, 2, 2),
        "fold": lambda: F.fold(draw(2, 8, 12), (4, 5), 2),
        "repeat": lambda: S.repeat(1, 2, 1),
        "repeat more axes": lambda: S.repeat((2, 1, 1, 2)),
        "repeat_interleave": lambda: S.repeat_interleave(2, dim=1),
        "repeat_interleave flat": lambda: S.repeat_interleave(2),
        "cat": lambda: torch.cat([S, S + 1, S + 2], dim=1),
        "cat of two": lambda: torch.cat((S, S[:, :2]), 1),
        "cat of one": lambda: torch.cat([S]),
        "stack": lambda: torch.stack([M, M + 1], -1),
        "stack of names": lambda: torch.stack(tensors=[M, M + 1], dim=0),
        "chunk": lambda: draw(2, 6).chunk(3, dim=-1),
        "chunk uneven": lambda: draw(2, 5).chunk(2, 1),
        "split": lambda: S.split(4, dim=2),
        "split of sizes": lambda: torch.split(S, [3, 5], dim=2),
        "unbind": lambda: draw(3, 2, 5).unbind(0),
        "roll": lambda: torch.roll(X, shifts=(-1, -2), dims=(2, 3)),
        "roll flat": lambda: M.roll(1),
        "flip": lambda: X.flip(2, 3),
        "index": lambda: S[:, -1],
        "index more": lambda: S[..., 0],
        "index of many": lambda: X[0, 1:, None, ::2],
        "index of a mask": lambda: M[M > 0],
        "index of ids": lambda: M[IDS],
        "index of a number": lambda: M[0, 1],
        "cumsum": lambda: S.cumsum(1),
        "cumprod": lambda: torch.cumprod(S, dim=-1),
    }


def _other_names() -> None:
    """The less usual names of functions."""
    made = [
        S.swapdims(0, 1), S.swapaxes(1, 2), S.moveaxis(0, 1), S.movedim(1, 2), S.tile(1, 2, 1),
        S.reshape_as(S), torch.concat([S, S + 1]), torch.concatenate([S, S + 1], 1),
        S.tensor_split(2, 2), torch.celu_(S.clone()), F.selu_(S.clone()), F.hardtanh_(S.clone()),
        S.clone().clamp_(-1, 1), S.clip(0, 1), S.clone().pow_(2), S.clone().sub_(1),
        S.clone().detach_(), S.true_divide(2), S.divide(S + 1), S.multiply(2),
        S.subtract(S + 1), S.float_power(3), torch.minimum(S, S.flip(0)),
        torch.bitwise_not(MASK), torch.dot(M[0], M[1]), F.dropout1d(L), F.dropout3d(V),
        F.feature_alpha_dropout(X, training=True), torch.std_mean(S, 1),
    ]  # fmt: skip
    assert len(made) == 29


def _arithmetic() -> dict[str, Callable[[], Any]]:
    positive = draw(2, 5).abs() + 0.1
    ones: list[str] = ["sqrt", "rsqrt", "square", "abs", "reciprocal", "exp", "log", "neg", "sin",
                       "cos", "log1p", "expm1", "round", "sign", "floor", "ceil"]  # fmt: skip
    return {
        **{name: lambda name=name: getattr(torch, name)(positive) for name in ones},
        **{f"{name} of all": lambda name=name: getattr(torch, name)(S)
           for name in ("mean", "sum", "max", "min", "amax", "var", "std", "var_mean")},
        **{f"{name} of one": lambda name=name: getattr(S, name)(1)
           for name in ("mean", "sum", "max", "amax", "amin", "logsumexp", "var", "std")},
        "mean of two": lambda: X.mean((2, 3), keepdim=True),
        "mean of names": lambda: torch.mean(S, **{"axis": 1, "keepdims": True}),
        "mean of a number": lambda: draw().mean(),
        "max of two tensors": lambda: torch.max(S, S + 1),
        "var biased": lambda: S.var(-1, False, True),
        "var of all biased": lambda: S.var(unbiased=False),
        "std corrected": lambda: torch.std(S, dim=1, correction=0),
        "norm": lambda: S.norm(dim=-1, keepdim=True),
        "vector_norm": lambda: (torch.linalg.vector_norm(S, dim=1), torch.linalg.norm(S)),
        "add": lambda: X + X.flip(0),
        "add a row": lambda: S + M[0],
        "add eps": lambda: positive + 1e-5,
        "add one": lambda: 1 + S,
        "add times alpha": lambda: torch.add(S, S, alpha=2),
        "add_": lambda: X.clone().add_(X),
        "add names": lambda: torch.add(input=S, other=S),
        "add a number": lambda: draw() + draw(seed=1),
        "add a mask": lambda: S + (S > 0),
        "sub": lambda: S - S.flip(0),
        "one less": lambda: 1 - S,
        "rsub": lambda: torch.rsub(S, 2),
        "mul": lambda: S * 0.5,
        "mul by a tensor": lambda: S * M,
        "mul by a mask": lambda: M[:, :5] * MASK,
        "mul_": lambda: S.clone().mul_(2),
        "div": lambda: S / 8**0.5,
        "div by a tensor": lambda: S / (M.abs() + 1),
        "div rounded": lambda: torch.div(S, 2, rounding_mode="floor"),
        "one by": lambda: 1 / positive,
        "div_": lambda: S.clone().div_(2),
        "pow": lambda: positive**2,
        "pow of a tensor": lambda: positive.pow(positive),
        "pow names": lambda: torch.pow(positive, exponent=3),
        "maximum": lambda: torch.maximum(S, S.flip(0)),
        "lerp": lambda: torch.lerp(S, S.flip(0), 0.3),
        "other names": _other_names,
        "detach": lambda: S.detach(),
        "data": lambda: S.data,
    }  # fmt: skip


LEGAL: dict[str, Callable[[], Any]] = {
    **_windows(), **_norms(), **_activations(), **_attention(), **_recurrent(), **_resampling(),
    **_products(), **_shapes(), **_arithmetic(),
}  # fmt: skip
