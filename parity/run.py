"""`python -m parity run`: the rungs on the models, and the report."""

import dataclasses
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import jax_impl.data
import torch_ref.data
from jax_impl.archive import Dataset
from jax_impl.errors import InputError
from parity import prepare, report
from parity.comparison import Row, compare
from parity.console import Console
from parity.environment import choose_device, describe, pin_precision
from parity.ladder import climb
from parity.options import RunOptions
from parity.pair import Batch, Pair, create_pair, randomised
from parity.recipes import chosen_model
from parity.result import Result
from parity.rungs import NUMERIC, accuracy, data

BATCHES = 8
"""At most so many are tried while a tie that rounding decides hides the float32 difference."""


def run(options: RunOptions) -> int:
    """Climbs the ladder; returns the exit status: 0 if every check passed, 1 if one failed."""
    if not (options.models and options.rungs):
        raise InputError("--models and --rungs need at least one name each")
    if not 0 < options.budget < math.inf:
        raise InputError(f"--budget is {options.budget}: give minutes above 0")
    out = options.out or Path("runs") / time.strftime("parity-%Y%m%d-%H%M%S")
    report.check_new(out)
    console = Console()
    device = choose_device(options.device)
    pin_precision()
    choice = prepare.resolve(options.data, options.data_dir, console.line)
    console.line(choice.reason)
    ours = jax_impl.data.load(choice.name, options.data_dir)
    theirs = torch_ref.data.load(choice.name, jax_impl.data.data_directory(options.data_dir))
    results: list[Result] = []
    rows: list[Row] = []
    for found in _climb(options, ours, theirs, device, console, rows):
        results.append(found)
        console.line(report.line(found))
    made = report.Report(describe(device), dataclasses.asdict(choice), results, rows)
    report.write(made, out)
    report.show(made, console)
    console.line(f"report: {out / 'report.md'} and {out / 'report.json'}")
    return 0 if made.passed else 1


def _climb(
    options: RunOptions,
    ours: Dataset,
    theirs: accuracy.TorchData,
    device: str,
    console: Console,
    rows: list[Row],
) -> Iterator[Result]:
    """Results as they are found, in the order of the ladder; the accuracy rung adds to `rows`."""
    if "data" in options.rungs:
        yield from data.run(ours, theirs, options.seed)
    for spec in dict.fromkeys(chosen_model(text) for text in options.models):
        pair = create_pair(spec)
        initial = pair.model.init(options.seed)
        weights = randomised(initial, options.seed)
        batches = _batches(pair, ours, options.seed)
        for rung in NUMERIC:
            if rung in options.rungs:
                yield from climb(rung, pair, weights, batches, device)
        if "accuracy" in options.rungs:
            outcome = accuracy.run(
                pair,
                initial,
                ours,
                theirs,
                seed=options.seed,
                budget=60 * options.budget,
                full=options.full,
                device=device,
                console=console,
            )
            rows += compare(pair, outcome, len(ours.train.labels))
            yield from outcome.results


def _batches(pair: Pair, dataset: Dataset, seed: int) -> list[Batch]:
    """Random training images, `BATCHES` times the recipe's batch."""
    size = pair.recipe.batch_size
    order = np.random.default_rng(seed).permutation(len(dataset.train.labels))
    chosen = order[: BATCHES * size].reshape(BATCHES, size)
    return [Batch(dataset.train.images[i], dataset.train.labels[i]) for i in chosen]
