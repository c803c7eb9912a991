"""Images prepared otherwise, and dropout of another rate, scale or mode."""

from functools import partial

from planted.bug import INPUTS, bug, fault
from planted.nets import bert, mobilenet_v3, regression

HALVES = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
DROP = "norm", "drop", "block1.drop", "block2.drop", "block1", "block2"

BUGS = (
    bug(
        "normalised by one half",
        "mobilenet_v3",
        partial(mobilenet_v3.make, inputs=HALVES),
        "data",
        fault(INPUTS, "normal", "0.5", "mean", "constants", "imagenet"),
    ),
    bug(
        "blue, green, red",
        "mobilenet_v3",
        partial(mobilenet_v3.make, inputs={"bgr": True}),
        "data",
        fault(INPUTS, "bgr", "blue, green", "channels & revers", "channels & order"),
    ),
    bug(
        "dropout of a half",
        "regression",
        partial(regression.make, drop=partial(regression.dropped, rate=0.5)),
        "forward",
        fault("drop", "rate", "0.5", "p is"),
    ),
    bug(
        "dropout that does not scale",
        "regression",
        partial(regression.make, drop=partial(regression.dropped, scaled=False)),
        "forward",
        fault("drop", "scale", "not divided", "1 / (1 - p)", "factor", "inverted", "rescal"),
    ),
    bug(
        "dropout left on",
        "bert",
        partial(bert.make, drop_in_eval=True),
        "forward",
        fault(DROP, "dropout & eval", "drop & eval", "dropout", "left on", "train mode"),
    ),
)
