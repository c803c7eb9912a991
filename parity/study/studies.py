"""The studies there are. Imports no framework."""

from parity.study.description import Study, Training


def _cnn_vs_resnet() -> Study:
    notebook = {
        "simple_cnn": "notebook_cnn",
        "simple_cnn:channels=32,64,128": "notebook_cnn",
        "resnet18": "notebook_resnet",
        "resnet20": "notebook_resnet",
        "plain20": "notebook_resnet",
    }
    cases = [Training(f"{m}, notebook", m, r) for m, r in notebook.items()]  # pyright: ignore
    good = (*notebook, "resnet18:stem=cifar")
    cases += [Training(f"{m}, SGD", m, "resnet20_short") for m in good]
    return Study(
        "cnn-vs-resnet",
        "How does a ResNet compare with a conventional CNN, by the notebook's recipe and by one "
        "good recipe for all?",
        tuple(cases),
        3,
        "curves",
    )


def _notebook() -> Study:
    cells = {
        "simple_cnn, Adam 0.001": ("simple_cnn", "notebook_cnn", 20, 0.005),
        "resnet18, Adam 0.001": ("resnet18", "notebook_resnet_slow", 10, 0.01),
        "resnet18, Adam 0.01": ("resnet18", "notebook_resnet", 10, 0.01),
    }
    return Study(
        "notebook",
        "Do the notebook's trainings end at the same accuracy in both frameworks?",
        tuple(Training(g, m, r) for g, (m, r, _, _) in cells.items()),  # pyright: ignore
        tuple((group, seeds) for group, (_, _, seeds, _) in cells.items()),
        "pairs",
        ("jax", "torch"),
        tuple((group, margin) for group, (_, _, _, margin) in cells.items()),
    )


CHANNELS = (32, 64, 64, 64)
"""Of the convolutions: with the maps of one size, `fc1` has the same size from two of them on."""
POOLINGS = {
    "2x2 after each": {1: "1", 2: "1,2", 3: "1,2,3", 4: "1,2,3,4"},
    "2x2 twice": {3: "1,3", 4: "1,4"},
    "2x2 at the end": {2: "2"},
    "4x4 at most twice": {1: "1", 2: "1,2", 3: "1,3", 4: "1,4"},
}
"""The convolutions that a pool follows, by how many there are; no net is in two rows.

With two pools of 2x2 the last map has 8x8 pixels, whatever the depth.
"""
AXES = (
    ("convolutions", ("1", "2", "3", "4")),
    ("filter", ("3x3", "5x5", "7x7")),
    ("pooling", tuple(POOLINGS)),
    ("head", ("all pixels", "mean of each channel")),
)
NOTEBOOKS = {
    "convolutions": "2",
    "filter": "3x3",
    "pooling": "2x2 after each",
    "head": "all pixels",
}


def cnn(point: dict[str, str]) -> Training | None:
    """The notebook's CNN at a point of `AXES`, None where there is none.

    7x7 filters are for the notebook's depth alone, where they cost least.
    """
    depth, size = int(point["convolutions"]), point["filter"].split("x")[0]
    after = POOLINGS[point["pooling"]].get(depth)
    if after is None or (size == "7" and (depth != 2 or point["pooling"] == "2x2 at the end")):
        return None
    model = f"simple_cnn:channels={','.join(map(str, CHANNELS[:depth]))}:kernel_size={size}"
    model += f":pool_size={point['pooling'][0]}:pool_after={after}"
    if point["head"] != "all pixels":
        if point | {"head": "all pixels"} != NOTEBOOKS:
            return None
        model += ":global_average=true"
    name = "; ".join((f"{depth} conv", point["filter"], point["pooling"]))
    name += "" if point["head"] == "all pixels" else "; global average"
    return Training(name, model, "notebook_cnn", validated=True, point=tuple(point.items()))


def _points() -> list[dict[str, str]]:
    points: list[dict[str, str]] = [{}]
    for name, values in AXES:
        points = [point | {name: value} for point in points for value in values]
    return points


def _choose_cnn() -> Study:
    return Study(
        "choose-cnn",
        "How many convolutions, which filter and which pooling?",
        tuple(case for point in _points() if (case := cnn(point))),
        3,
        "grid",
        axes=AXES,
    )


def _residual() -> Study:
    small = ("plain20", "resnet20", "plain56", "resnet56")
    large = ("plain18", "resnet18", "plain34", "resnet34")
    epochs = ("epochs", "5")
    cases = [Training(m, m, "resnet20_short", (epochs, ("keep", "5"))) for m in small + large]
    return Study(
        "residual",
        "What does the shortcut do to training, and to the gradients?",
        tuple(cases),
        1,
        "gradients",
    )


STUDIES = {
    study.name: study for study in (_cnn_vs_resnet(), _notebook(), _choose_cnn(), _residual())
}
