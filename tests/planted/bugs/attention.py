"""Attention: scale, masks, heads, positions; embeddings."""

from functools import partial

from planted.bug import WHOLE, bug, fault, inside
from planted.nets import bert, gpt, vit

VIT = inside("block1 block2", "attn")
BERT = inside("block1 block2", "attention")
GPT = inside("layers.0 layers.1", "attn")

BUGS = (
    bug(
        "scaled by the model's width",
        "vit",
        partial(vit.make, attention={"scale": vit.DIM**-0.5}),
        "forward",
        fault(VIT, "scale", "scaling", "sqrt", "width", "dim"),
    ),
    bug(
        "heads before queries, keys, values",
        "vit",
        partial(vit.make, attention={"split": vit.split_heads_first}),
        "forward",
        fault(VIT, "heads", "order", "qkv", "split"),
    ),
    bug(
        "heads of every fourth channel",
        "vit",
        partial(vit.make, attention={"split": vit.split_into_strided_heads}),
        "forward",
        fault(VIT, "heads", "split", "interleav", "strided"),
    ),
    bug(
        "mask inverted",
        "bert",
        partial(bert.make, masked=bert.shown_padding),
        "forward",
        fault(BERT, "mask & invert", "mask & revers", "mask & negat", "complement", "mask & not"),
    ),
    bug(
        "mask added as 0 and 1",
        "bert",
        partial(bert.make, masked=bert.mask_added),
        "forward",
        fault(BERT, "mask & add", "mask & bool", "mask & 1", "mask"),
    ),
    bug(
        "padding's embedding is trained",
        "bert",
        partial(bert.make, table=bert.as_it_is),
        "gradients",
        fault("words", "padding", "pad"),
    ),
    bug(
        "sees the next token",
        "gpt",
        partial(gpt.make, diagonal=1),
        "forward",
        fault(GPT, "causal", "mask", "diagonal", "next"),
    ),
    bug(
        "rotary positions of channels side by side",
        "gpt",
        partial(gpt.make, rotate=partial(gpt.rotated, interleaved=True)),
        "forward",
        fault(GPT, "rotary", "interleav", "rope", "rotat", "halves", "pairs"),
    ),
    bug(
        "key heads tiled and not repeated",
        "gpt",
        partial(gpt.make, repeat=gpt.tiled),
        "forward",
        fault(GPT, "heads", "group", "tile", "repeat"),
    ),
    bug(
        "embedding not scaled",
        "gpt",
        partial(gpt.make, embed_scale=1.0),
        "forward",
        fault({"embed", *WHOLE}, "scale", "factor", "sqrt", "multipl", "times"),
    ),
)
