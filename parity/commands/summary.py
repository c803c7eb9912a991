"""`parity summary`: every module of a model, in a table. Imports no framework."""

import dataclasses

from jax_impl.errors import InputError
from jax_impl.models import registry
from jax_impl.models.geometry import Module, Summary, summary
from parity.report.columns import columns
from parity.shell.look_options import SummaryOptions

MOST_BATCH = 1_048_576
BYTES = 4
"""Of a number in float32."""
HEADER = "module", "kind", "output", "parameters", "MFLOPs", "field", "stride"


def run(options: SummaryOptions) -> None:
    """Prints the table and the totals."""
    if not 1 <= options.batch_size <= MOST_BATCH:
        raise InputError(f"--batch-size is {options.batch_size}: give 1 to {MOST_BATCH}")
    spec, size = registry.parse(options.model), None
    if (side := options.image_size) is not None:
        size = side, side
        if isinstance(spec.options, registry.CNNOptions):
            spec = _of_size(spec, side)
    print("\n".join(lines(summary(spec, size), options.batch_size)))


def _of_size(spec: registry.Spec, side: int) -> registry.Spec:
    """The small CNN made for images of another size, if its name says nothing of that."""
    named, options = spec.options, dataclasses.asdict(spec.options)
    assert isinstance(named, registry.CNNOptions)
    if named.image_size not in ((side, side), registry.CNNOptions.image_size):
        raise InputError(
            f"{spec} and --image-size {side} both say how large the images are: give one"
        )
    return registry.create_spec(spec.name, **options | {"image_size": side})


def lines(told: Summary, batch_size: int) -> list[str]:
    """The table, of 80 columns at most where its numbers are not absurd, and the totals.

    Args:
        told: of one image.
        batch_size: images in a batch, of which are the outputs and the memory of activations.
    """
    rows = [_row(module, told, batch_size) for module in told.modules]
    table = columns(HEADER, rows, {"module", "kind", "output"}, gap=" ")
    height, width = told.image_size
    flops = f"{told.flops / 1e6:,.1f} million an image"
    if batch_size > 1:
        flops += f", {batch_size * told.flops / 1e6:,.1f} million a batch"
    statistics = ""
    if told.statistics:
        statistics = f", and {told.statistics:,} running means and variances"
    return [
        f"{told.model}, {height}x{width} images, batches of {batch_size}",
        "",
        table[0],
        "-" * max(map(len, table)),
        *table[1:],
        "",
        f"parameters   {told.parameters:,}{statistics}",
        f"FLOPs        {flops}, forward",
        f"memory       {_size(told.parameters)} of parameters, "
        f"{_size(batch_size * told.activations)} of activations",
        "",
        "Outputs are n x h x w x c. A multiplication and an addition are two FLOPs, and",
        "convolutions and linear layers are counted, without their biases. Activations",
        "are the outputs of all modules that hold no others; memory is of float32.",
        "field: pixels of the image, on each axis, that a pixel of the output depends",
        "on, padding included; stride: pixels from one to the next.",
    ]


def _row(module: Module, told: Summary, batch_size: int) -> tuple[str, ...]:
    output = "x".join(map(str, (batch_size, *module.shape)))
    return (
        module.path,
        module.kind,
        output,
        f"{module.parameters:,}" if module.parameters else "-",
        f"{module.flops / 1e6:,.2f}" if module.flops else "-",
        _field(module, told),
        "-" if module.stride is None else str(module.stride),
    )


def _field(module: Module, told: Summary) -> str:
    """One number where both axes have the same; "all" once it is the image and nothing else."""
    if module.stride is None and module.field == told.image_size:
        return "all"
    height, width = module.field
    return str(height) if height == width else f"{height}x{width}"


def _size(numbers: int) -> str:
    """Of so many float32, in units of a thousand."""
    size = float(BYTES * numbers)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:,.0f} {unit}" if unit == "B" else f"{size:,.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"
