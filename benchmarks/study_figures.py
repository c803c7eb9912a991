"""What the studies whose folders are kept under benchmarks/studies came to, for the pages."""

from benchmarks.speed_figures import ROOT, load, table, wrapped
from benchmarks.training_figures import metrics
from jax_impl.models import registry
from jax_impl.models.geometry import summary
from parity.study.judge import answers
from parity.study.studies import STUDIES
from parity.study.tables import extent

FOLDER = ROOT / "benchmarks" / "studies"
FAMILY = "resnet18", "resnet34", "resnet50", "resnet101", "resnet152"


def choose_cnn() -> str:
    """How many convolutions, which filter and pooling."""
    return study("choose-cnn")


def cnn_vs_resnet() -> str:
    """Both kinds of net by equal recipes."""
    return study("cnn-vs-resnet")


def notebook_study() -> str:
    """The notebook's trainings in both frameworks."""
    return study("notebook")


def residual() -> str:
    """Nets with and without shortcuts."""
    return study("residual")


def study(name: str) -> str:
    """Its sentences, its plots, and how much of it is done."""
    folder = FOLDER / name
    if not (folder / "study.json").exists():
        return wrapped(f"Not trained yet: `parity study {name}` does it, and writes the answer.")
    told = load(f"studies/{name}/study")
    done = f"{extent(told)} Command: `{told['command']}`. All of it: [study.md]"
    lines = [wrapped(f"{done}(../benchmarks/studies/{name}/study.md).")]
    sentences = answers(STUDIES[name], told["trainings"])
    lines += ["", *(wrapped(f"- {sentence}").replace("\n", "\n  ") for sentence in sentences)]
    for plot in sorted(folder.glob("*.svg")):
        title = plot.stem.replace("-", " ")
        lines += ["", f"![{title}](../benchmarks/studies/{name}/{plot.name})"]
    return "\n".join(lines)


def in_short() -> str:
    """The three sentences that a reader wants first."""
    report = load("cifar10/report")["comparison"]
    small = next(row for row in report if row["model"] == "simple_cnn")
    ends = [metrics(f"gpu/accuracy/{framework}")[-1] for framework in ("jax", "torch")]
    large = " and ".join(f"{100 * row['test_accuracy']:.2f} %" for row in ends)
    trained = metrics("training/resnet20_short")
    config = load("training/resnet20_short/config")
    deep = registry.parse("resnet18")
    return wrapped(
        "By the notebook's own recipes the two end alike, in one training each: the small CNN, "
        f"with {small['parameters']:,} parameters, at {100 * small['accuracy']:.2f} % of the test "
        f"images, and ResNet-18, with {summary(deep, None).parameters:,}, at {large} (in JAX and "
        f"in PyTorch). By a recipe that suits it a ResNet is far better: `{config['model']}`, with "
        f"{config['parameters']:,} parameters, ends at {100 * trained[-1]['test_accuracy']:.2f} % "
        f"after {config['epochs']} epochs of SGD with momentum, a falling rate, crops and flips. "
        "How much of that the small CNN gains by the same recipe, and how much is the shortcut's, "
        "are the studies' questions below."
    )


def resnets() -> str:
    """The family that the notebook names, at the size of its images."""
    rows = []
    for name in FAMILY:
        spec = registry.parse(name)
        told, cifar = summary(spec, None), summary(registry.parse(f"{name}:stem=cifar"), None)
        block = "two 3x3" if spec.entry.block == "basic" else "1x1, 3x3, 1x1"
        rows.append(
            (
                f"`{name}`",
                block,
                ", ".join(map(str, spec.entry.depths)),
                f"{told.parameters:,}",
                f"{told.flops / 1e6:,.1f}",
                f"{cifar.flops / 1e6:,.1f}",
            )
        )
    head = (
        "net", "convolutions of a block", "blocks of the stages", "parameters", "MFLOPs",
        "MFLOPs with `stem=cifar`",
    )  # fmt: skip
    return table(head, rows, right=(3, 4, 5))
