"""Embeddings: what porting one tends to get wrong."""

import torch

from parity.diagnosis.suspects.call import Call, Suspects


def embedding_suspects(call: Call) -> Suspects:
    """Scaled rows, other rows, rows of the padding's index, or without their largest norm."""
    a = call.given
    ids, table = a["input"], a["weight"]
    if not isinstance(ids, torch.Tensor) or ids.is_floating_point():
        return  # torch.embedding has the table first
    rows, width = table.shape[0], table.shape[-1]
    yield (
        "the rows are scaled by the root of their length",
        call.then(lambda out: out * width**0.5),
    )
    yield (
        "the rows are divided by the root of their length",
        call.then(lambda out: out / width**0.5),
    )
    pad = a["padding_idx"]
    for index in dict.fromkeys((0, rows - 1) if pad is None else (pad % rows,)):
        yield (
            f"row {index} is zero: it is taken for padding",
            call.then(lambda out, i=index: out * (ids != i)[..., None].to(out.dtype)),
        )
    for shift in (1, -1):
        yield (
            f"the ids are {'one more' if shift > 0 else 'one less'} than they should be",
            call.with_(input=lambda s=shift: (ids + s).clamp(0, rows - 1)),
        )
    if a["max_norm"] is not None:
        yield "max_norm is ignored", call.with_(max_norm=None, weight=lambda: table.clone())
    else:
        yield "the rows are brought to a length of one", lambda: _unit(call)
    yield "the table is in the other order", call.with_(weight=lambda: table.flip(0))
    if rows == width:
        yield "the table is transposed", call.with_(weight=lambda: table.T)
    elif rows > 1 and width > 1:
        yield (
            "the table's layout is changed by a reshape and not by a transposition",
            call.with_(weight=lambda: table.reshape(width, rows).T),
        )


def _unit(call: Call) -> torch.Tensor:
    out = call.plain()
    return out / torch.linalg.vector_norm(out, dim=-1, keepdim=True)


def embedding_bag_suspects(call: Call) -> Suspects:
    """Another reduction of a bag; weights or the padding's index ignored."""
    a = call.given
    ids, table = a["input"], a["weight"]
    if not isinstance(ids, torch.Tensor) or ids.is_floating_point():
        return
    for mode in ("mean", "sum", "max"):
        if mode != a["mode"] and (a["per_sample_weights"] is None or mode == "sum"):
            yield f"the {mode} in the place of the {a['mode']}", call.with_(mode=mode)
    if a["per_sample_weights"] is not None:
        yield "the weights of the samples are ignored", call.with_(per_sample_weights=None)
    if a["padding_idx"] is not None:
        yield "the padding is counted in the bag", call.with_(padding_idx=None)
    if a["max_norm"] is not None:
        yield "max_norm is ignored", call.with_(max_norm=None, weight=lambda: table.clone())
    yield (
        "the rows are scaled by the root of their length",
        call.then(lambda out: out * table.shape[-1] ** 0.5),
    )
    if ids.ndim == 2:
        yield "the first of each bag in the place of all", lambda: table[ids[:, 0]]
