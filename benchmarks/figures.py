"""The pages' measured figures, from the files under benchmarks/: between markers, none by hand.

    python benchmarks/figures.py

Rewrites what stands between `<!-- figures: NAME -->` and `<!-- end -->`; a test holds the pages
to it.
"""

import dataclasses
import re
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import sample_figures
from benchmarks.gallery import gallery
from benchmarks.speed_figures import (
    ROOT,
    again,
    indented,
    level,
    load,
    lowerings,
    speed,
    table,
    timed,
    wrapped,
    xeon,
)
from benchmarks.study_figures import (
    choose_cnn,
    cnn_vs_resnet,
    in_short,
    notebook_study,
    residual,
    resnets,
)
from benchmarks.training_figures import metrics, trained, training
from jax_impl.errors import InputError
from parity.ladder.result import Result
from parity.report.report import Report, line
from parity.shell import cli
from parity.shell.files import write_whole

PAGES = (
    ROOT / "README.md",
    *(
        ROOT / "docs" / f"{name}.md"
        for name in (
            "speed",
            "cpu",
            "machines",
            "models",
            "training",
            "ports",
            "seeds",
            "cnn-vs-resnet",
            "results",
            "gpu",
            "gallery",
        )
    ),
)
BEGIN, END = "<!-- figures: ", "<!-- end -->"
REGION = re.compile(rf"({BEGIN}(\w+) -->\n)((?:(?!{BEGIN}).)*?)(\n{END})", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Options:
    """Writes the measured figures into README and the pages of docs."""

    pages: tuple[Path, ...] = PAGES
    """the pages with markers"""


def main(options: Options) -> None:
    """Rewrites the pages."""
    for page in options.pages:
        if not page.is_file():
            raise InputError(f"there is no {page}")
    pages = {page: filled(page.read_text()) for page in options.pages}
    for page, text in pages.items():
        write_whole(page, text.encode())


def filled(text: str) -> str:
    """The page with every region made anew.

    Raises:
        InputError: a marker names no figures or those of another, or has no other end.
    """
    names = [name for _, name, *_ in REGION.findall(text)]
    if not len(names) == text.count(BEGIN) == text.count(END):
        raise InputError(
            f"{text.count(BEGIN)} markers begin figures, {text.count(END)} end them, and "
            f"{len(names)} do both: write {BEGIN}NAME --> and {END}"
        )
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"the figures named {twice[0]} are there twice")

    def made(region: re.Match[str]) -> str:
        if region[2] not in SECTIONS:
            raise InputError(f"no figures named {region[2]}: choose of {', '.join(SECTIONS)}")
        return f"{region[1]}\n{SECTIONS[region[2]]()}\n{region[4]}"

    return REGION.sub(made, text)


def sample() -> str:
    """What the main job prints on CIFAR-10, in part."""
    report = load("cifar10/report")
    results = [Result(**row) for row in report["results"] if row["model"] == "simple_cnn"]
    lines = ["data: CIFAR-10, prepared in ~/.cache/jax-torch-parity from cifar-10-binary.tar.xz"]
    lines += [line(each) for each in results if each.rung == "forward"] + ["..."]
    for side in report["comparison"][:2]:
        lines += [f"{side['model']} in {side['framework']}:", *printed(side)]
    lines += [line(each) for each in results if each.rung == "accuracy"]
    lines += ["...", _verdict(report["results"])]
    day = report["environment"]["date"].replace("-", "")
    lines += [f"report: runs/parity-{day}-.../report.html, report.md and report.json"]
    return indented(lines)


def _verdict(results: list[dict[str, Any]]) -> str:
    found = [Result(**row) for row in results]
    return Report({}, {}, found, []).verdict


def printed(side: dict[str, Any]) -> list[str]:
    """The notebook's lines."""
    first, accuracy = side["losses"][0], side["accuracy"]
    return [f"Epoch 1, Loss: {first:.3f}", "...", f"Accuracy: {100 * accuracy:.2f} %"]


def planted() -> str:
    """How the suite itself is tested, in words."""
    own, others, alarms = mutants(), load("planted"), load("false_alarms")["summary"]
    tally = others["tally"]
    return wrapped(
        f"The suite is itself tested by {own['count']} planted bugs: {own['caught']} are caught at "
        f"the right rung, the module is named right for {own['modules']} and the cause for "
        f"{own['causes']}: [benchmarks/mutants.md](../benchmarks/mutants.md). Of {tally['bugs']} "
        "more in models that are not this project's (transformers, recurrent and generative nets, "
        "convolutions of one to three axes, in Linen, NNX and plain functions) "
        f"{tally['caught']} are caught, the module is right for {tally['right_module']}, the cause "
        f"for {tally['right_cause']}, and a wrong cause is told for {tally['wrong_cause']}: "
        "[benchmarks/planted.json](../benchmarks/planted.json). Of "
        f"{alarms['runs']} ladders of correct pairs {alarms['alarms']} fail: "
        "[benchmarks/false_alarms.md](../benchmarks/false_alarms.md)."
    )


def mutants() -> dict[str, int]:
    """The tally of the bugs planted in this project's own models."""
    rows = load("mutants")["mutants"]
    return {
        "count": len(rows),
        "caught": sum(row["caught"] for row in rows),
        "modules": sum(row["module"] == row["found_module"] for row in rows),
        "causes": sum(row["right_cause"] for row in rows),
    }


def results() -> str:
    """What was measured of parity, a row a command."""
    cifar, digits = load("cifar10/report"), load("digits/report")
    own, others, alarms = mutants(), load("planted"), load("false_alarms")["summary"]
    tally, several = others["tally"], others["tally"]["several_faults"]
    means, apart = load("accuracy")["summary"]["mean_accuracy"], load("accuracy")["summary"]
    replay, bars = load("replay")["figures"], load("replay")["bars"]
    rungs = load("rungs")["models"]
    good = sum(all(r["passed"] is not False for r in model["rungs"]) for model in rungs)
    rows = [
        (
            "the main job on CIFAR-10",
            "`CIFAR10_ARCHIVE=... make parity`",
            f"{passed(cifar)} checks passed; float64 at most {widest(cifar, FORMULAS)}, relative "
            "([report](../benchmarks/cifar10/report.md))",
        ),
        (
            "the main job on digits, without a network",
            "`make parity`",
            f"{passed(digits)} checks passed; float64 at most {widest(digits, FORMULAS)}, "
            f"optimizers {widest(digits, ['optimizers'])}; parameters after 60 steps "
            f"{widest(digits, ['trajectory'], 'simple_cnn')} for `simple_cnn` and "
            f"{widest(digits, ['trajectory'], 'resnet18')} for `resnet18` "
            "([report](../benchmarks/digits/report.md))",
        ),
        (
            "small CNN, CIFAR-10, 5 epochs, mean of three seeds",
            "`python benchmarks/accuracy.py`",
            f"{100 * means['JAX']:.2f} % in JAX, {100 * means['PyTorch']:.2f} % in PyTorch; epoch "
            f"losses at most {100 * apart['largest_loss_difference']:.2f} % apart "
            "([table](../benchmarks/accuracy.md))",
        ),
        (
            "float64 and float32 on the numeric rungs, model by model",
            "`python benchmarks/rungs.py`",
            f"{good} of {len(rungs)} models pass ([table](../benchmarks/rungs.md))",
        ),
        (
            "planted bugs",
            "`python benchmarks/mutants.py`",
            f"{own['caught']} of {own['count']} caught at the right rung; module right "
            f"{own['modules']}, cause right {own['causes']} ([tally](../benchmarks/mutants.md))",
        ),
        (
            "planted bugs in models that are not this project's",
            "`python benchmarks/planted.py`",
            f"{tally['caught']} of {tally['bugs']} caught; module right {tally['right_module']}, "
            f"cause right {tally['right_cause']}, a wrong cause told {tally['wrong_cause']}; of "
            f"{several} with two or three faults at once every cause for "
            f"{tally['several_faults_right_cause']}; {others['false_alarms']} of "
            f"{len(others['correct'])} correct pairs refused ([each](../benchmarks/planted.json))",
        ),
        (
            "correct pairs, whole ladders",
            "`python benchmarks/false_alarms.py --seeds 15`",
            f"{alarms['alarms']} of {alarms['runs']} refused, a rate below "
            f"{100 * alarms['upper_limit']:.2g} % with 95 % confidence "
            "([table](../benchmarks/false_alarms.md))",
        ),
        (
            "same seed and nothing else shared, small CNN on CIFAR-10",
            "`python benchmarks/replay.py`",
            f"{'' if load('replay')['passed'] else '**missed its bars**: '}losses in float64 at "
            f"most {replay['float64 losses']:.1e} apart (bar {bars['float64 losses']:.0e}); in "
            f"float32 of the first 20 steps {replay['first losses']:.1e} (bar "
            f"{bars['first losses']:.1e}), of five epochs {100 * replay['epoch losses']:.1f} % "
            f"(bar {100 * bars['epoch losses']:.0f} %), test accuracies "
            f"{replay['points a seed']:.2f} points a seed and "
            f"{replay['points in the mean']:.2f} in the mean of three (bars "
            f"{bars['points a seed']:.1f} and {bars['points in the mean']:.1f}) "
            f"([table](../benchmarks/replay.md)). {missed_wishes()}From weights moved by one "
            "rounding JAX itself "
            f"differs by up to {chaos('first losses'):.1e} and {100 * chaos('epoch losses'):.1f} %",
        ),
        (
            "the family in float64, every model and stem, three image sizes",
            "`python benchmarks/family.py`",
            family(),
        ),
        ("converting `resnet152`", "`python benchmarks/convert.py`", convert()),
    ]
    return table(("what", "command", "result"), rows)


FORMULAS = ["forward", "loss", "gradients", "batch_stats", "optimizer"]


def passed(report: dict[str, Any]) -> str:
    """Of a report's checks."""
    judged = [row["passed"] for row in report["results"] if row["passed"] is not None]
    return f"{sum(judged)} of {len(judged)}"


def widest(report: dict[str, Any], rungs: list[str], model: str | None = None) -> str:
    """The largest relative error of these rungs in float64."""
    found = (
        row["measured"]
        for row in report["results"]
        if row["dtype"] == "float64" and row["rung"] in rungs and model in (None, row["model"])
    )
    return f"{max(found):.1e}"


def chaos(name: str) -> float:
    """What JAX differs by from itself, of `replay`."""
    return load("replay")["figures"][f"JAX's own {name}"]


def missed_wishes() -> str:
    """How near the two of `replay` were meant to be, and are not."""
    replay = load("replay")
    missed = [
        f"{name} {wished:g}"
        for name, wished in replay["wishes"].items()
        if replay["figures"][name] > wished
    ]
    return f"**Missed** is what was wished for: {', '.join(missed)}. " if missed else ""


def itself() -> str:
    """The same, as a sentence."""
    return wrapped(
        "The small CNN in JAX, from weights moved by one rounding, differs from itself by up to "
        f"{chaos('first losses'):.1e} in the first 20 losses and by "
        f"{100 * chaos('epoch losses'):.1f} % in the epochs' (`python benchmarks/replay.py` "
        "measures it)."
    )


def ports() -> str:
    """What the suite says of ports that others published."""
    head = "port", "commit", "pair", "what the suite says", "time, memory"
    return table(head, (tuple(row.values()) for row in load("ports")["ports"]))


def large_pairs() -> str:
    """What the suite takes on two large models, and what it was meant to."""
    head = "pair", "rungs", "time", "memory", "meant"
    return table(head, (tuple(row.values()) for row in load("ports")["large"]))


def family() -> str:
    """The largest errors but for the comparison that misses its bar, and that one."""
    content = load("family")
    missed = {text.partition(":")[0] for text in content["missed"]}
    largest: dict[str, float] = {}
    for row in content["errors"]:
        if f"{row['model']} at {row['size']}" not in missed:
            largest[row["check"]] = max(largest.get(row["check"], 0.0), row["error"])
    told = ", ".join(f"{check} at most {error:.1e}" for check, error in largest.items())
    exact = content["from_exact"]
    return (
        f"{told}; **missed** by {'; '.join(content['missed'])}, where PyTorch itself is "
        f"{exact['pytorch_from_exact']:.1e} from the result in 80-bit arithmetic and JAX "
        f"{exact['jax_from_exact']:.1e} ([table](../benchmarks/family.md))"
    )


def convert() -> str:
    """Seconds and memory of each direction."""
    told = []
    for row in load("convert")["rows"]:
        times = row["peak_mb"] / row["weights_mb"]
        seconds = statistics.median(row["seconds"])
        told.append(f"{row['direction']} {seconds:.1f} s, {times:.1f} times the weights of memory")
    size = load("convert")["rows"][0]["weights_mb"]
    return f"{size:.0f} MB: {'; '.join(told)}, imports included ([table](../benchmarks/convert.md))"


def gpu() -> str:
    """What was measured on a GPU."""
    reports = [load(f"gpu/checks/{model}/report") for model in ("simple_cnn", "resnet18")]
    counted = [r["passed"] for report in reports for r in report["results"]]
    judged = [each for each in counted if each is not None]
    bits = (ROOT / "benchmarks/gpu/checks/deterministic.txt").read_text().splitlines()[-1].strip()
    losses, accuracies = {}, {}
    for framework in ("jax", "torch"):
        lines = metrics(f"gpu/accuracy/{framework}")
        losses[framework] = ", ".join(f"{row['loss']:.3f}" for row in lines if "loss" in row)
        found = [row["test_accuracy"] for row in lines if "test_accuracy" in row]
        accuracies[framework] = (
            f"test accuracy {100 * found[0]:.2f} %" if found else "cut off before its end"
        )
    rows = [
        (
            "numeric rungs of `simple_cnn` and `resnet18`, JAX's GPU against PyTorch's",
            "`benchmarks/gpu.sh checks`",
            f"{sum(judged)} of {len(judged)} checks; float64 at most "
            f"{max(widest(report, FORMULAS) for report in reports)}, parameters after 60 steps "
            f"{widest(reports[0], ['trajectory'])}",
        ),
        ("two trainings of `resnet18` by `--deterministic`", "`benchmarks/gpu.sh checks`", bits),
        timed("resnet18", "resnet"),
        timed("simple_cnn", "cnn"),
        timed("cifar", "cifar"),
        (
            "ResNet-18 by the notebook's recipe, CIFAR-10",
            "`benchmarks/gpu.sh accuracy`",
            f"JAX: losses {losses['jax']}, {accuracies['jax']}; PyTorch: {losses['torch']}, "
            f"{accuracies['torch']}",
        ),
    ]
    return table(("what", "command", "result"), rows)


SECTIONS: dict[str, Callable[[], str]] = {
    "sample": sample,
    "training": training,
    "trained": trained,
    "planted": planted,
    "gallery": gallery,
    "results": results,
    "speed": speed,
    "again": again,
    "xeon": xeon,
    "lowerings": lowerings,
    "level": level,
    "ports": ports,
    "large_pairs": large_pairs,
    "itself": itself,
    "gpu": gpu,
    "in_short": in_short,
    "resnets": resnets,
    "cnn_vs_resnet": cnn_vs_resnet,
    "choose_cnn": choose_cnn,
    "residual": residual,
    "notebook_study": notebook_study,
    **sample_figures.SECTIONS,
}


if __name__ == "__main__":
    cli.run(main, Options)
