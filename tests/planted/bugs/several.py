"""Two or three faults at once, in one module and in different ones."""

from functools import partial

from planted.bug import LOSS, OPTIMIZER, WHOLE, bug, fault, inside
from planted.bugs.optimizers import MAKERS
from planted.nets import (
    bert,
    conv_bn,
    gpt,
    lstm_text,
    mobilenet_v3,
    optimizers,
    resnet,
    segmentation,
    seq2seq,
    tcn,
    unet,
    vae,
    vit,
)
from planted.nets.recurrent import gru

BLOCKS, LAYERS, TEMPORAL = "block1 block2", "layers.0 layers.1", "block1 block2 block3"
NORMS = {"norm", *inside(BLOCKS, "norm1", "norm2")}

FORWARD = (
    bug(
        "gelu by tanh, and Flax's default eps",
        "vit",
        partial(vit.make, block={"approximate": True, "eps": 1e-6}),
        "forward",
        fault(inside(BLOCKS, "act"), "tanh", "approx"),
        fault(NORMS, "eps"),
    ),
    bug(
        "Keras's hard-sigmoid, and its eps",
        "mobilenet_v3",
        partial(mobilenet_v3.make, gate=mobilenet_v3.hard_sigmoid_of_keras, eps=1e-3),
        "forward",
        fault(inside("block1.se block2.se", "gate"), "0.2", "keras", "sigmoid & slope", "hard"),
        fault({"bn", *inside(BLOCKS, "bn1", "bn2", "bn3")}, "eps"),
    ),
    bug(
        "kernel not turned round, and output padding at the start",
        "unet",
        partial(unet.make, up=partial(unet.transposed, flip=False, extra_first=True)),
        "forward",
        fault("up", "flip", "mirror", "turned", "rotat", "180", "revers"),
        fault("up", "pad", "shift", "pixel"),
    ),
    bug(
        "mask inverted, and unbiased variance of LayerNorm",
        "bert",
        partial(bert.make, masked=bert.shown_padding, ddof=1),
        "forward",
        fault(inside(BLOCKS, "attention"), "mask"),
        fault(NORMS, "unbiased", "ddof", "n - 1", "n-1", "variance"),
    ),
    bug(
        "rotary positions side by side, and scale without 1",
        "gpt",
        partial(
            gpt.make,
            rotate=partial(gpt.rotated, interleaved=True),
            norm=partial(gpt.rms_norm, plus_one=False),
        ),
        "forward",
        fault(inside(LAYERS, "attn"), "rotary", "interleav", "rope", "rotat", "halves", "pairs"),
        fault(
            {"norm", *inside(LAYERS, "norm1", "norm2")},
            "1 +",
            "+ 1",
            "weight",
            "scale",
            "one is not added",
        ),
    ),
    bug(
        "no causal mask, embedding not scaled, key heads tiled",
        "gpt",
        partial(gpt.make, diagonal=None, embed_scale=1.0, repeat=gpt.tiled),
        "forward",
        fault(inside(LAYERS, "attn"), "causal", "mask"),
        fault({"embed", *WHOLE}, "scale", "factor", "sqrt", "multipl", "times"),
        fault(inside(LAYERS, "attn"), "heads", "group", "tile", "repeat"),
    ),
    bug(
        "gates in the order of TensorFlow, and bias of 1 of the forget gate",
        "lstm_text",
        partial(lstm_text.make, order="igfo", forget=1.0),
        "forward",
        fault("lstm", "order", "exchang", "swap"),
        fault("lstm", "forget", "bias & 1"),
    ),
    bug(
        "bias outside the reset gate, and a decoder that begins with zeros",
        "seq2seq",
        partial(seq2seq.make, cell=partial(gru, reset="without the bias"), from_zeros=True),
        "forward",
        fault("encoder decoder", "reset", "bias_hh", "b_hn"),
        fault("decoder", "zero", "initial state", "state", "start"),
    ),
    bug(
        "another slope, and flattened with channels last",
        "conv_bn",
        partial(conv_bn.make, slope=0.01, transposed=False),
        "forward",
        fault("act1 act2", "slope", "0.01"),
        fault({"fc", *WHOLE}, "flatten", "order", "hwc", "nhwc", "channels last", "layout"),
    ),
    bug(
        "symmetric padding, dilations that do not double, groups of every second channel",
        "tcn",
        partial(tcn.make, pad="both", dilations=(1, 2, 2), strided=True),
        "forward",
        fault(inside(TEMPORAL, "conv"), "pad", "causal", "same", "symmetric"),
        fault(inside("block3", "conv"), "dilat"),
        fault(inside(TEMPORAL, "norm"), "group"),
    ),
)

LATER = (
    bug(
        "stride in the second convolution, and labels not smoothed",
        "resnet",
        partial(resnet.make, stride_second=True, smoothing=0.0),
        "forward",
        fault(inside("block2", "conv1", "conv2"), "stride"),
        fault(LOSS, "smooth"),
    ),
    bug(
        "kernel not turned round, and the divergence twice",
        "vae",
        partial(
            vae.make,
            convert=partial(vae.to_flax, flip=False),
            jax_loss=partial(vae.loss, factor=1.0),
        ),
        "forward",
        fault("dec", "flip", "mirror", "turned", "rotat", "180", "revers"),
        fault(LOSS, "factor", "twice", "0.5", "half", "term", "weight", "2 times", "doubled"),
    ),
    bug(
        "ignored labels are counted, and classes are not weighted",
        "segmentation",
        partial(
            segmentation.make,
            jax_loss=partial(segmentation.loss, ignoring=False, weighted=False),
        ),
        "loss",
        fault(LOSS, "ignore", "255"),
        fault(LOSS, "weight"),
    ),
    bug(
        "Flax's default momentum, and its biased variance",
        "conv_bn",
        partial(
            conv_bn.make,
            norm1=partial(conv_bn.linen_own, momentum=0.99),
            norm2=partial(conv_bn.linen_own, momentum=0.99),
        ),
        "batch_stats",
        fault("bn1 bn2", "momentum", "0.99", "0.01"),
        fault("bn1 bn2", "biased", "n - 1", "n-1", "n/(n-1)"),
    ),
    bug(
        "Optax's RMSprop: decay of 0.9, and eps inside the root",
        "lstm_text",
        partial(MAKERS["lstm_text"], options={"optimizer": optimizers.rmsprop(0.9, True)}),
        "optimizer",
        fault(OPTIMIZER, "alpha", "decay", "0.9"),
        fault(OPTIMIZER, "eps", "inside"),
    ),
)

BUGS = (*FORWARD, *LATER)
