"""Normalisation: eps, groups, variances, momentum, running statistics."""

from functools import partial

from planted.bug import bug, fault, inside
from planted.nets import bert, conv_bn, densenet, gpt, tcn, vit
from planted.nets.flax_layers import BatchNorm

VIT = {"norm", *inside("block1 block2", "norm1", "norm2")}
BERT = {"norm", *inside("block1 block2", "norm1", "norm2")}
GPT = {"norm", *inside("layers.0 layers.1", "norm1", "norm2")}
TCN = inside("block1 block2 block3", "norm")
DENSE = {"norm", *inside("layer1 layer2 layer3", "norm")}

BUGS = (
    bug(
        "Flax's default eps",
        "vit",
        partial(vit.make, block={"eps": 1e-6}),
        "forward",
        fault(VIT, "eps"),
    ),
    bug(
        "eps outside the root",
        "gpt",
        partial(gpt.make, norm=partial(gpt.rms_norm, eps_inside=False)),
        "forward",
        fault(GPT, "eps"),
    ),
    bug(
        "unbiased variance of LayerNorm",
        "bert",
        partial(bert.make, ddof=1),
        "forward",
        fault(BERT, "unbiased", "ddof", "n - 1", "n-1", "n/(n-1)", "variance"),
    ),
    bug(
        "GroupNorm's groups of every second channel",
        "tcn",
        partial(tcn.make, strided=True),
        "forward",
        fault(TCN, "group"),
    ),
    bug(
        "Flax's default momentum",
        "conv_bn",
        partial(
            conv_bn.make,
            norm1=partial(BatchNorm, momentum=0.99),
            norm2=partial(BatchNorm, momentum=0.99),
        ),
        "batch_stats",
        fault("bn1 bn2", "momentum", "0.99", "0.01"),
    ),
    bug(
        "biased running variance",
        "conv_bn",
        partial(conv_bn.make, norm1=conv_bn.linen_own, norm2=conv_bn.linen_own),
        "batch_stats",
        fault("bn1 bn2", "biased", "n - 1", "n-1", "n/(n-1)"),
    ),
    bug(
        "statistics updated twice",
        "conv_bn",
        partial(conv_bn.make, norm1=partial(BatchNorm, turns=2)),
        "batch_stats",
        fault("bn1", "twice", "two times", "momentum", "0.19", "0.81", "2 times"),
    ),
    bug(
        "statistics of each half of the batch",
        "densenet",
        partial(densenet.make, norm=densenet.HalvedBatchNorm),
        "forward",
        fault(DENSE, "half", "halves", "part of the batch", "device", "ghost", "sub-batch"),
    ),
)
