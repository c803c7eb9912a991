"""`parity run`: the rungs on the models, or on a pair of your own, and the report."""

import dataclasses
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import jax_impl.data.datasets
import torch_ref.data
from jax_impl.data.archive import Dataset
from jax_impl.errors import InputError
from jax_impl.training.compilation import keep_compiled
from parity.checking import RUNGS, climb_all
from parity.diagnosis import recipe as recipe_diagnosis
from parity.ladder.result import Result
from parity.ladder.rungs import accuracy, data, optimizers, processes, recipe, replay
from parity.pairs.blame import told
from parity.pairs.pair import Batch, ModelPair, Pair, create_pair
from parity.report import report
from parity.report.comparison import Row, compare
from parity.shell import data_choice
from parity.shell.console import Console
from parity.shell.environment import choose_device, describe, keep_freed_memory, pin_precision
from parity.shell.files import default_out
from parity.shell.options import RunOptions
from parity.shell.recipes import check_run, chosen_model

BATCHES = 8
"""Cycled through in training; at most so many are tried while a tie that rounding decides hides
the float32 difference."""


def run(options: RunOptions) -> int:
    """Climbs the ladder; returns the exit status: 0 if every check passed, 1 if one failed."""
    check_run(options)
    out = options.out or default_out("parity")
    place = out.absolute()  # a pair may change the current folder
    console = Console()
    keep_compiled()
    device = choose_device(options.device)
    pin_precision()
    results: list[Result] = []
    rows: list[Row] = []
    if options.pair is not None:
        keep_freed_memory()
        pair = load_pair(options.pair)
        about = {"name": "example_inputs", "reason": f"data: the examples of {options.pair}"}
        climbed = _climb_pair(options, pair, device, console)
    else:
        choice = data_choice.resolve(options.data, options.data_dir, console.line)
        about = dataclasses.asdict(choice)
        ours = jax_impl.data.datasets.load_dataset(choice.name, options.data_dir)
        directory = jax_impl.data.datasets.data_directory(options.data_dir)
        theirs = torch_ref.data.load(choice.name, directory)
        climbed = _climb(options, ours, theirs, device, console, rows)
    console.paragraph(about["reason"])
    stopped: BaseException | None = None
    try:
        for found in climbed:
            results.append(found)
            console.result(report.line(found), f"FAIL {report.name_of(found)}: ")
            if found.diagnosis is not None:
                console.paragraph(f"     {found.diagnosis.text}")
    except (Exception, KeyboardInterrupt) as error:  # what was found until then is reported
        stopped = error
    if stopped is not None and not results:
        raise stopped
    if not results:
        raise InputError(f"there is nothing to compare by --rungs {' '.join(options.rungs)} here")
    made = report.Report(describe(device), about, results, rows, _reason(stopped))
    report.write(made, place)
    report.show(made, console)
    console.line(f"report: {out / 'report.html'}, report.md and report.json")
    if stopped is not None:
        raise stopped
    return 0 if made.passed else 1


def _reason(stopped: BaseException | None) -> str | None:
    """What stopped the run, for the report."""
    if isinstance(stopped, KeyboardInterrupt):
        return "SIGTERM" if stopped.args else "Ctrl-C"
    return None if stopped is None else type(stopped).__name__


def load_pair(text: str) -> Pair:
    """The pair that MODULE:FUNCTION makes.

    Raises:
        InputError: it cannot be had, and why.
    """
    module, _, function = text.partition(":")
    if "/" in module or module.endswith(".py"):
        name = Path(module).stem
        raise InputError(f"--pair {text}: give a module's name, not a path: {name}:{function}")
    sys.path.insert(0, str(Path.cwd()))
    # A user's module fails in any way.
    try:
        made = getattr(importlib.import_module(module), function)()
    except (Exception, SystemExit) as error:
        raise InputError(f"--pair {text}: {told(error)}") from error
    if not isinstance(made, Pair):
        raise InputError(f"--pair {text} returns {type(made).__name__}, not a parity.Pair")
    return made


def _climb_pair(
    options: RunOptions,
    pair: Pair,
    device: str,
    console: Console,
    batches: list[Batch] | None = None,
) -> Iterator[Result]:
    """Those of the wanted rungs that any pair has."""
    rungs = [rung for rung in RUNGS if rung in options.rungs]
    if not rungs:
        return
    with console.status() as tell:
        yield from climb_all(
            pair,
            rungs,
            seed=options.seed,
            batches=batches,
            steps=options.steps,
            device=device,
            dtypes=options.dtypes or None,
            accept=options.accept,
            strict_float64=options.strict_float64,
            tell=tell,
        )


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
        with console.status("data"):
            found = list(data.run(ours, theirs, options.seed))
        yield from found
    if "optimizers" in options.rungs:
        with console.status("optimizers"):
            found = list(optimizers.run())
        yield from found
    for spec in dict.fromkeys(chosen_model(text) for text in options.models):
        pair = create_pair(spec)
        batches = _batches(pair, ours, options.seed)
        yield from _climb_pair(options, pair, device, console, batches)
        for name, find in replay.RUNGS.items():
            if name in options.rungs:
                with console.status(f"{pair.name}: {name}"):
                    one = find(pair, ours, theirs[0], options.seed, options.steps, device)
                yield one
        if "recipe" in options.rungs:
            with console.status(f"{pair.name}: recipe"):
                found = list(_recipe(pair, ours, options.seed, device))
            yield from found
        if options.processes > 1:
            with console.status(f"{pair.name}: {options.processes} processes"):
                found = list(processes.run(pair, ours.train, options.seed, options.processes))
            yield from found
        if "accuracy" in options.rungs:
            outcome = accuracy.run(
                pair,
                pair.model.init(options.seed),
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


def _recipe(pair: ModelPair, ours: Dataset, seed: int, device: str) -> Iterator[Result]:
    """The rung of that name; if it fails, with what departs."""
    found = list(recipe.run(pair, ours.train, seed, device))
    failed = [one for one in found if one.passed is False]
    why = recipe_diagnosis.find(pair, ours.train, seed, device) if failed else None
    for one in found:
        yield dataclasses.replace(one, diagnosis=why) if one in failed else one


def _batches(pair: ModelPair, dataset: Dataset, seed: int) -> list[Batch]:
    """Random training images, `BATCHES` times the recipe's batch."""
    size = pair.recipe.batch_size
    order = np.random.default_rng(seed).permutation(len(dataset.train.labels))
    chosen = order[: BATCHES * size].reshape(BATCHES, size)
    return [Batch(dataset.train.images[i], dataset.train.labels[i]) for i in chosen]
