"""Small nets that are not this project's: each a PyTorch module and a correct port of it."""

from functools import partial

from planted.nets import (
    bert,
    conv3d,
    conv_bn,
    convnext,
    densenet,
    gpt,
    lstm_text,
    mixer,
    mobilenet_v2,
    mobilenet_v3,
    regression,
    resnet,
    segmentation,
    senet,
    seq2seq,
    siamese,
    super_resolution,
    tcn,
    unet,
    vae,
    vit,
)

NETS = {
    "conv_bn": conv_bn.make,
    "mobilenet_v2": mobilenet_v2.make,
    "mobilenet_v3": mobilenet_v3.make,
    "resnet": resnet.make,
    "senet": senet.make,
    "densenet": densenet.make,
    "convnext": convnext.make,
    "mixer": mixer.make,
    "vit": vit.make,
    "unet": unet.make,
    "unet_bilinear": partial(unet.make, "halves"),
    "unet_corners": partial(unet.make, "corners"),
    "segmentation": segmentation.make,
    "super_resolution": super_resolution.make,
    "siamese": siamese.make,
    "vae": vae.make,
    "regression": regression.make,
    "tcn": tcn.make,
    "conv3d": conv3d.make,
    "lstm_text": lstm_text.make,
    "seq2seq": seq2seq.make,
    "bert": bert.make,
    "gpt": gpt.make,
}
"""By name, what makes the correct pair."""

STYLES = {
    module.__name__.rpartition(".")[2]: module.STYLE
    for module in (
        bert,
        conv3d,
        conv_bn,
        convnext,
        densenet,
        gpt,
        lstm_text,
        mixer,
        mobilenet_v2,
        mobilenet_v3,
        regression,
        resnet,
        segmentation,
        senet,
        seq2seq,
        siamese,
        super_resolution,
        tcn,
        unet,
        vae,
        vit,
    )
}
"""By name of the net's module, how its port is written."""
