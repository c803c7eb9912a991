"""`python -m parity speed`: from options to files and an exit status. Imports no framework."""

import dataclasses
import math
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jax_impl import registry
from jax_impl.errors import InputError
from parity import prepare
from parity.console import Console
from parity.options import SpeedOptions
from parity.recipes import recipe
from parity.speed import load, report
from parity.speed.checks import Reference, wrong_loss
from parity.speed.notebook import Training, alternating, to_training
from parity.speed.processes import Worker, WorkerFailed, started
from parity.speed.results import BASELINE, SpeedReport, TaskResult, throughput
from parity.speed.roofline import Ceilings, Work
from parity.speed.rounds import Conditions, Timing, time_task
from parity.speed.variants import VARIANTS, Variant, chosen_variants
from parity.speed.workloads import Task, Workload, chosen_workloads, tasks

PREPARE = "parity.speed.prepare:PrepareWorker"
REFERENCE = "parity.speed.checks:ReferenceWorker"
ROOFLINE = "parity.speed.roofline:RooflineWorker"
NOTEBOOK = "parity.speed.notebook:NotebookWorker"

TUNING = "CUDA_", "JAX_", "KMP_", "MKL_", "NVIDIA_TF32", "OMP_", "TORCH", "XLA_"
"""Environment variables that change how the frameworks run begin so."""

NOTEBOOK_BEST = 2
"""Of PyTorch's other variants, so many of the fastest train the notebook too."""

NOTEBOOK_DEFAULT = "fused_channels_last"
"""Trains it where none was timed at the notebook's task."""


def run(options: SpeedOptions, variants: Sequence[Variant] = VARIANTS) -> int:
    """Returns the exit status: 1 if a variant computed a wrong loss, or all of a framework failed.

    Args:
      variants: the registry to choose from.

    Raises:
      InputError: options that cannot be used.
    """
    chosen = _check(options, variants)
    out = options.out or Path("runs") / time.strftime("speed-%Y%m%d-%H%M%S")
    report.check_free(out)
    console = Console()
    busy_before = load.other_cores()
    if (line := load.warning(busy_before, None)) is not None:
        console.line(line)
    with tempfile.TemporaryDirectory(prefix="speed-", ignore_cleanup_errors=True) as directory:
        made = _Run(options, chosen, console, Path(directory), busy_before).report()
    report.write(made, out)
    report.show(made, console)
    console.line(f"report: {out / report.MARKDOWN}, {report.JSON} and plots")
    return 0 if made.passed else 1


def _check(options: SpeedOptions, variants: Sequence[Variant]) -> list[Variant]:
    """The chosen variants, when all options can be used."""
    for name in ("seconds", "compile_limit"):
        if not 0 < getattr(options, name) < math.inf:
            option = name.replace("_", "-")
            raise InputError(f"--{option} is {getattr(options, name)}: give a number above 0")
    for name in ("rounds", "notebook_repeats"):
        if getattr(options, name) < 1:
            option = name.replace("_", "-")
            raise InputError(f"--{option} is {getattr(options, name)}: give 1 or more")
    if not 0 <= options.seed < 2**32:
        raise InputError(f"--seed is {options.seed}: give 0 to 2^32 - 1")
    if not options.modes:
        raise InputError("--modes needs train, inference or both")
    chosen_workloads(options.workloads, gpu=False)
    return chosen_variants(options.variants, variants)


@dataclasses.dataclass(frozen=True)
class _Run:
    """What every part of a run needs. `files` is its scratch directory."""

    options: SpeedOptions
    variants: list[Variant]
    console: Console
    files: Path
    busy_before: float

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
            choice = prepare.resolve(options.data, options.data_dir, self.console.line)
            self.console.line(choice.reason)
            images = self.save(worker, choice.name, chosen)
        environment |= {
            "command": " ".join(["python -m parity", *sys.argv[1:]]),
            "precision": "as each task says; no TF32 in float32, in either framework",
            "variables": {k: v for k, v in os.environ.items() if k.startswith(TUNING)},
        }
        ceilings = {p: self.ceilings(p, device) for p in {task.precision for task in chosen}}
        results = tuple(
            self.task(task, device, images, ceilings[task.precision]) for task in chosen
        )
        trainings, problems = self.notebook(results, device) if options.notebook else ([], [])
        return SpeedReport(
            environment,
            dataclasses.asdict(choice),
            dataclasses.asdict(options),
            self.busy_before,
            results,
            tuple(trainings),
            tuple(problems),
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

    def task(self, task: Task, device: str, images: int, ceilings: Ceilings | None) -> TaskResult:
        """One task: its reference and its work, and then the timings."""
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
            with started(ROOFLINE, self.files, device) as worker:
                found = worker.ask(
                    "work", self.limit, task=asked, device=device, lr=lr, images=images
                )
            work = Work(**found)
        except WorkerFailed as error:
            problem = f"its work could not be counted: {error}"
        timings = time_task(
            task,
            variants,
            Conditions(
                self.options.seconds, self.options.rounds, self.limit, device, lr, self.files
            ),
            self.console.line,
            lambda losses: wrong_loss(losses, reference, task.precision),
        )
        for timing in timings:
            if timing.good and timing.blocks:
                self.console.line(
                    f"{task}: {timing.name}: {throughput(timing).median:,.0f} images/s"
                )
        return TaskResult(task, tuple(timings), reference, work, ceilings, problem)

    def notebook(
        self, results: Sequence[TaskResult], device: str
    ) -> tuple[list[Training], list[str]]:
        """The trainings from start to end, and what went wrong with others."""
        chosen, trainings, problems = recipe("simple_cnn"), [], []
        for variant, repeat in alternating(
            notebook_variants(results, self.variants), self.options.notebook_repeats
        ):
            try:
                with started(NOTEBOOK, self.files, device) as worker:
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
            except WorkerFailed as error:
                problems.append(f"{variant} failed: {error}")
                self.console.line(f"notebook: {problems[-1]}")
                continue
            trainings.append(to_training(variant, repeat, found))
            self.console.line(
                f"notebook: {variant}: {trainings[-1].seconds:.1f} s, accuracy "
                f"{100 * trainings[-1].epochs[-1].accuracy:.2f} %"
            )
        return trainings, problems


def notebook_variants(results: Sequence[TaskResult], variants: Sequence[Variant]) -> list[Variant]:
    """JAX's `scan`, PyTorch's `eager`, and PyTorch's fastest others at the notebook's own task.

    Those of them that are among `variants`; the fastest are by the run's own timings.
    """
    known = {variant.name: variant for variant in variants if variant.notebook}
    task = tasks([Workload("simple_cnn", recipe("simple_cnn").batch_size)], ["train"], None)[0]
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
    return [known[name] for name in names if name in known]
