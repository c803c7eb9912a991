"""`parity evaluate`: tests a trained model. Imports no PyTorch but where it computes."""

from jax_impl.data.archive import Split
from jax_impl.data.datasets import load_dataset
from jax_impl.errors import InputError, shown
from jax_impl.models.model import from_spec
from jax_impl.models.registry import MOST
from jax_impl.training.compilation import keep_compiled
from parity.pairs.classifier import Logits, classifier, log_probabilities
from parity.pairs.weight_source import Source, find, load
from parity.report.curves import FRAMEWORKS
from parity.report.evaluation import Evaluation
from parity.report.evaluation_pictures import pictures
from parity.shell import data_choice
from parity.shell.console import Console
from parity.shell.files import check_new, default_out, to_json, whole_directory
from parity.shell.provenance import provenance
from parity.shell.recipes import chosen_model
from parity.shell.run_directory import PACKAGES
from parity.shell.use_options import EvaluateOptions

JSON = "evaluation.json"
DATA = {"cifar10": "CIFAR-10", "digits": "the digits"}


def run(options: EvaluateOptions) -> None:
    """Tests, prints, and writes a folder that appears complete or not at all.

    Raises:
        InputError: no weights, or none of a model of this data; a place that is taken.
    """
    if not 1 <= options.batch_size <= MOST:
        given = shown(str(options.batch_size), 40)
        raise InputError(f"--batch-size is {given}: give 1 to {MOST}")
    out = options.out or default_out("evaluate")
    check_new(out)
    source = find(options.weights, options.model)
    chosen_model(str(source.spec))
    keep_compiled()
    model = from_spec(source.spec)
    variables = load(source, model)
    console = Console()
    wanted = source.data if options.data == "auto" and source.data else options.data
    choice = data_choice.resolve(wanted, options.data_dir, console.line)  # pyright: ignore
    console.paragraph(choice.reason)
    dataset = load_dataset(choice.name, options.data_dir)
    mirror = options.mirror or source.mirror
    how = f"{source.spec} in {FRAMEWORKS[options.framework]}"
    how += ", with mirror images" if mirror else ""
    console.line(f"weights: {source.path}, {how}")
    size = min(options.batch_size, len(dataset.test.labels))
    logits = classifier(options.framework, source.spec, model, variables, size, mirror)
    evaluation = _evaluated(logits, dataset.test, dataset.class_names, console)
    for line in evaluation.lines():
        console.line(line)
    told = _told(options, source, choice, mirror) | evaluation.as_json()
    share = f"{100 * evaluation.accuracy:.2f} %"
    title = f"{how}, {share} right of the test images of {DATA[choice.name]}"
    with whole_directory(out) as staging:
        (staging / JSON).write_text(to_json(told, indent=2) + "\n")
        for name, content in pictures(evaluation, dataset.test.images, title).items():
            (staging / name).write_bytes(content)
    console.line(f"written: {out}/{JSON}, confusion.png and errors.png")


def _evaluated(
    logits: Logits, split: Split, classes: tuple[str, ...], console: Console
) -> Evaluation:
    with console.bar("evaluating", len(split.labels)) as show:
        found = logits(split.images, show)
    return Evaluation(classes, split.labels, log_probabilities(found))


def _told(
    options: EvaluateOptions, source: Source, choice: data_choice.Choice, mirror: bool
) -> dict[str, object]:
    """What was evaluated, how and where."""
    return {
        "weights": str(source.path),
        "model": str(source.spec),
        "framework": options.framework,
        "precision": "float32",
        "data": choice.name,
        "data_reason": choice.reason,
        "mirror": mirror,
        "batch_size": options.batch_size,
        **provenance(PACKAGES[options.framework]),
    }
