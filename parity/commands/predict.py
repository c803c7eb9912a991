"""`parity predict`: what a trained model sees in images. Imports no PyTorch but where it computes.

Every image and all of the weights are read before anything is printed.
"""

import numpy as np

from jax_impl.errors import InputError
from jax_impl.models.model import from_spec
from jax_impl.training.compilation import keep_compiled
from parity.pairs.classifier import CIFAR10, DIGITS, classifier, image_size, probabilities
from parity.pairs.weight_source import Source, find, load
from parity.shell.console import Console
from parity.shell.images import read_image
from parity.shell.use_options import PredictOptions

TOP = 5
BATCH = 100


def run(options: PredictOptions) -> None:
    """Prints the likeliest classes of each image.

    Raises:
        InputError: no weights, an image that cannot be read, or logits that are no numbers.
    """
    if not options.images:
        raise InputError("no image is named: name one or more after the weights")
    source = find(options.weights, options.model)
    names, whose = _classes(options, source)
    size = image_size(source.spec)
    read = [read_image(path, size) for path in options.images]
    keep_compiled()
    model = from_spec(source.spec)
    images = np.stack([pixels for pixels, _ in read])
    logits = classifier(
        options.framework,
        source.spec,
        model,
        load(source, model),
        min(BATCH, len(images)),
        source.mirror,
    )(images)
    for path, row in zip(options.images, logits, strict=True):
        if not np.isfinite(row).all():
            raise InputError(f"{source.path} gives no numbers for {path}: name other weights")
    console = Console()
    console.line(f"weights: {source.path}, {source.spec}; classes: {whose}")
    for path, (_, (height, width)), row in zip(
        options.images, read, probabilities(logits), strict=True
    ):
        console.line(f"{path}, {width}x{height}:")
        for label in np.argsort(-row, kind="stable")[:TOP]:
            console.line(f"  {100 * row[label]:6.2f} %  {names[label]}")


def _classes(options: PredictOptions, source: Source) -> tuple[list[str], str]:
    """Names by label, and in words whose they are."""
    count = source.spec.options.num_classes
    wanted = options.classes
    if wanted == "auto":
        wanted = source.data or ("cifar10" if count == len(CIFAR10) else None)
    if wanted is None:
        return [f"class {label}" for label in range(count)], f"{count:,} without names"
    names = CIFAR10 if wanted == "cifar10" else DIGITS
    if len(names) != count:
        raise InputError(
            f"--classes {wanted} has {len(names)} names, and {source.spec} has {count:,} classes: "
            "leave --classes out"
        )
    whose = "CIFAR-10's" if wanted == "cifar10" else "the digits"
    said = source.data == wanted or options.classes != "auto"
    return list(names), whose if said else f"{whose}, for the weights do not say"
