"""`parity speed`: from options to files and an exit status. Imports no framework."""

import dataclasses
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jax_impl.errors import InputError
from jax_impl.models import registry
from parity.shell import data_choice
from parity.shell.console import Console, in_words
from parity.shell.files import default_out
from parity.shell.options import SpeedOptions
from parity.shell.recipes import recipe
from parity.speed import load, report
from parity.speed.checks import Reference, wrong_loss
from parity.speed.notebook import alternating, to_training
from parity.speed.processes import Worker, WorkerFailed, other_seconds, started
from parity.speed.results import BASELINE, SpeedReport, TaskResult, throughput
from parity.speed.roofline import Ceilings, Work
from parity.speed.rounds import Conditions, Timing, expected_seconds, time_task
from parity.speed.variants import VARIANTS, Variant, chosen_variants
from parity.speed.workloads import Task, Workload, chosen_workloads, tasks

PREPARE = "parity.speed.prepare:PrepareWorker"
REFERENCE = "parity.speed.checks:ReferenceWorker"
ROOFLINE = "parity.speed.roofline:RooflineWorker"
NOTEBOOK = "parity.speed.notebook:NotebookWorker"

TUNING = "CUDA_", "JAX_", "KMP_", "MKL_", "NVIDIA_TF32", "OMP_", "TORCH", "XLA_"
"""Environment variables that change how the frameworks run begin so."""

MOST = {"seconds": 3600, "compile_limit": 10_000, "rounds": 100_000, "notebook_repeats": 1000}
"""Of these options: more is a slip of the pen."""

NOTEBOOK_BEST = 2
"""Of PyTorch's other variants, so many of the fastest train the notebook too."""

NOTEBOOK_DEFAULT = "fused_channels_last"
"""Trains it where none was timed at the notebook's task."""


def run(options: SpeedOptions, variants: Sequence[Variant] = VARIANTS) -> int:
    """Times what `options` ask for, writes it as the run goes on, and returns the exit status.

    It is 1 if a variant computed a wrong loss, all of a framework failed, or the machine was busy
    with other work.

    Args:
        options: of the command line.
        variants: the registry to choose from.

    Raises:
        InputError: options that cannot be used.
    """
    chosen = _check(options, variants)
    out = options.out or default_out("speed")
    report.check_free(out)
    console = Console()
    busy_before = load.other_cores()
    if (line := load.warning(busy_before)) is not None:
        console.line(line)
    try:
        with tempfile.TemporaryDirectory(prefix="speed-", ignore_cleanup_errors=True) as scratch:
            files = Path(scratch)
            made = _Run(options, chosen, variants, console, files, busy_before, out).report()
    except KeyboardInterrupt as interrupt:
        if (out / report.JSON).exists():
            raise KeyboardInterrupt(f"what was timed is in {out}") from interrupt
        raise
    report.show(made, console)
    console.line(f"report: {out / report.MARKDOWN}, {report.JSON} and plots")
    return 0 if made.passed else 1


def _check(options: SpeedOptions, variants: Sequence[Variant]) -> list[Variant]:
    """The chosen variants, when all options can be used."""
    for name, most in MOST.items():
        value, option = getattr(options, name), name.replace("_", "-")
        if not 0 < value <= most:
            least = "1" if isinstance(value, int) else "a number above 0"
            raise InputError(f"--{option} is {value}: give {least} to {most}")
    if not 0 <= options.seed < 2**32:
        raise InputError(f"--seed is {options.seed}: give 0 to 2^32 - 1")
    if not options.modes:
        raise InputError("--modes needs train, inference or both")
    chosen_workloads(options.workloads, gpu=False)
    return chosen_variants(options.variants, variants)


@dataclasses.dataclass(frozen=True)
class _Run:
    """What every part of a run needs. `files` is its scratch directory, `out` the report's."""

    options: SpeedOptions
    variants: list[Variant]
    known: Sequence[Variant]
    console: Console
    files: Path
    busy_before: float
    out: Path

    @property
    def limit(self) -> float:
        """Seconds that an answer of a worker may take."""
        return 60 * self.options.compile_limit

    def report(self) -> SpeedReport:
        """Everything, one thing after another."""
        options = self.options
        with started(PREPARE, self.files, options.device) as worker:
            environment = worker.ask("environment", self.limit, device=options.device)
            device = environment.pop("kind")
            chosen = tasks(
                chosen_workloads(options.workloads, device == "gpu"),
                options.modes,
                options.precision,
            )
            choice = data_choice.resolve(options.data, options.data_dir, self.console.line)
            self.console.paragraph(choice.reason)
            images = self.save(worker, choice.name, chosen)
        environment |= {
            "command": " ".join(["parity", *sys.argv[1:]]),
            "precision": "as each task says; no TF32 in float32, in either framework",
            "variables": {k: v for k, v in os.environ.items() if k.startswith(TUNING)},
        }
        made = SpeedReport(
            environment,
            dataclasses.asdict(choice),
            dataclasses.asdict(options),
            self.busy_before,
            results=(),
            left_out=self.left_out(chosen, device),
        )
        seconds = expected_seconds(chosen, self.variants, self.conditions(device, 0.0))
        self.console.line(
            f"tasks to time: {len(chosen)}, {in_words(seconds)} where nothing else runs"
        )
        ceilings: dict[str, Ceilings | None] = {}
        if options.roofline:
            ceilings = {p: self.ceilings(p, device) for p in {task.precision for task in chosen}}
        for number, task in enumerate(chosen, 1):
            result = self.task(task, device, images, ceilings.get(task.precision), made, number)
            done = f"{number} of {len(chosen)} tasks are timed"
            last = number == len(chosen) and not options.notebook
            made = dataclasses.replace(
                made, results=(*made.results, result), unfinished=None if last else done
            )
            report.write(made, self.out)
        return self.notebook(made, device) if options.notebook else made

    def left_out(self, chosen: Sequence[Task], device: str) -> tuple[str, ...]:
        """The variants, ablations apart, that could be timed at one of the tasks and will not."""
        return tuple(
            str(v)
            for v in self.known
            if v not in self.variants
            and not v.ablation
            and any(t.mode in v.modes and not v.unavailable(t, device == "gpu") for t in chosen)
        )

    def save(self, worker: Worker, data: str, chosen: Sequence[Task]) -> int:
        """Has the arrays written that all workers read; returns the number of images."""
        directory = self.options.data_dir
        shared: dict[str, Any] = {
            "data": data,
            "data_dir": None if directory is None else str(directory),
            "seed": self.options.seed,
            "files": str(self.files),
        }
        images = worker.ask(
            "save",
            self.limit,
            models=sorted({task.model for task in chosen}),
            batch_sizes=sorted({task.batch_size for task in chosen}),
            **shared,
        )
        if self.options.notebook:
            epochs = recipe("simple_cnn").epochs
            worker.ask("save_notebook", self.limit, epochs=epochs, **shared)
        return images

    def ceilings(self, precision: str, device: str) -> Ceilings | None:
        """The machine's, or None where they cannot be measured."""
        seconds = min(0.5, self.options.seconds)
        try:
            with started(ROOFLINE, self.files, device) as worker:
                found = worker.ask(
                    "ceilings", self.limit, device=device, precision=precision, seconds=seconds
                )
        except WorkerFailed as error:
            self.console.line(f"ceilings of {precision}: failed: {error}")
            return None
        made = Ceilings(**found)
        self.console.line(
            f"ceilings of {precision}: {made.flops / 1e9:,.0f} GFLOP/s, "
            f"{made.bytes / 1e9:,.1f} GB/s"
        )
        return made

    def conditions(self, device: str, lr: float) -> Conditions:
        """How every task is timed."""
        options = self.options
        return Conditions(options.seconds, options.rounds, self.limit, device, lr, self.files)

    def task(
        self, task: Task, device: str, images: int, ceilings: Ceilings | None, made: SpeedReport,
        number: int,
    ) -> TaskResult:  # fmt: skip
        """One task: its reference and its work, and then the timings, written after every round.

        Args:
            task: what is timed.
            device: "cpu" or "gpu".
            images: in the data set that batches are taken from.
            ceilings: the machine's in the task's precision, None if not measured.
            made: the report of the tasks before it.
            number: the task's, from 1.
        """
        lr, asked = recipe(registry.parse(task.model).name).lr, dataclasses.asdict(task)
        variants = [v for v in self.variants if task.mode in v.modes]
        try:
            with started(REFERENCE, self.files, device) as worker:
                losses = worker.ask(
                    "losses",
                    self.limit,
                    task=asked,
                    device=device,
                    lr=lr,
                    files=str(self.files),
                    seed=self.options.seed,
                )
        except WorkerFailed as error:
            # Nothing can be trusted whose loss cannot be checked.
            problem = f"failed: the reference of its losses: {error}"
            self.console.line(f"{task}: {problem}")
            failed = tuple(Timing(task, v.framework, v.name, problem) for v in variants)
            return TaskResult(task, failed)
        reference = Reference(*map(tuple, losses))
        work = problem = None
        try:
            if self.options.roofline:
                with started(ROOFLINE, self.files, device) as worker:
                    found = worker.ask(
                        "work", self.limit, task=asked, device=device, lr=lr, images=images
                    )
                work = Work(**found)
        except WorkerFailed as error:
            problem = f"its work could not be counted: {error}"

        def result(timings: list[Timing]) -> TaskResult:
            return TaskResult(task, tuple(timings), reference, work, ceilings, problem)

        def after_round(timings: list[Timing]) -> None:
            rounds = max((len(t.blocks) for t in timings), default=0)
            unfinished = f"{rounds} of {self.options.rounds} rounds of task {number}"
            results = (*made.results, result(timings))
            report.write_samples(
                dataclasses.replace(made, results=results, unfinished=unfinished), self.out
            )

        with self.console.bar(str(task), len(variants) * self.options.rounds, still=True) as show:
            timings = time_task(
                task,
                variants,
                self.conditions(device, lr),
                self.console.line,
                lambda losses: wrong_loss(losses, reference, task.precision),
                after_round,
                show,
            )
        timed = result(timings)
        if (held := made.withheld(timed)) is not None:
            self.console.line(f"{task}: {held}")
            return timed
        for timing in timings:
            if timing.good and timing.blocks:
                self.console.line(
                    f"{task}: {timing.name}: {throughput(timing).median:,.0f} images/s"
                )
        return timed

    def notebook(self, made: SpeedReport, device: str) -> SpeedReport:
        """The report with the trainings from start to end, written after each of them."""
        chosen = recipe("simple_cnn")
        turns = alternating(
            notebook_variants(made.results, self.variants, device == "gpu"),
            self.options.notebook_repeats,
        )
        for number, (variant, repeat) in enumerate(turns, 1):
            done = f"{number} of {len(turns)} trainings from start to end"
            made = dataclasses.replace(made, unfinished=None if number == len(turns) else done)
            try:
                with started(NOTEBOOK, self.files, device) as worker:
                    before, since = other_seconds([worker]), time.perf_counter()
                    found = worker.ask(
                        "train",
                        None,
                        framework=variant.framework,
                        settings=dict(variant.settings),
                        device=device,
                        lr=chosen.lr,
                        batch_size=chosen.batch_size,
                        files=str(self.files),
                    )
                    after, wall = other_seconds([worker]), time.perf_counter() - since
            except WorkerFailed as error:
                problem = f"{variant} failed: {error}"
                made = dataclasses.replace(
                    made, notebook_problems=(*made.notebook_problems, problem)
                )
                self.console.line(f"notebook: {problem}")
            else:
                other = None if before is None or after is None else (after - before) / wall
                training = to_training(variant, repeat, found, other)
                made = dataclasses.replace(made, notebook=(*made.notebook, training))
                self.console.line(
                    f"notebook: {variant}: {made.withheld(training) or f'{training.seconds:.1f} s'}"
                    f", accuracy {100 * training.epochs[-1].accuracy:.2f} %"
                )
            report.write(made, self.out)
        return made


def notebook_variants(
    results: Sequence[TaskResult], variants: Sequence[Variant], gpu: bool
) -> list[Variant]:
    """The variants that train the notebook from start to end, of those among `variants`.

    JAX's `scan`, PyTorch's `eager`, PyTorch's fastest others at the notebook's own task, and on a
    GPU one with CUDA graphs. The fastest are by the run's own timings.
    """
    task = tasks([Workload("simple_cnn", recipe("simple_cnn").batch_size)], ["train"], None)[0]
    known = {variant.name: variant for variant in variants if not variant.unavailable(task, gpu)}
    fast = [
        timing.variant
        for result in results
        if result.task == task
        for timing in sorted(
            (t for t in result.timings if t.good and t.blocks and t.framework == "PyTorch"),
            key=lambda t: -throughput(t).median,
        )
        if timing.variant != BASELINE and timing.variant in known
    ]
    names = ["scan", BASELINE, *(fast[:NOTEBOOK_BEST] or [NOTEBOOK_DEFAULT])]
    graphs = [name for name, variant in known.items() if variant.settings.get("cuda_graph")]
    if graphs and not set(graphs) & set(names):
        names.append(next((name for name in fast if name in graphs), graphs[0]))
    return [known[name] for name in names if name in known]
