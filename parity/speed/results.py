"""All that a run found, and what follows from it. Imports no framework."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from parity.speed import load, roofline, statistics
from parity.speed.checks import Reference
from parity.speed.notebook import Training
from parity.speed.roofline import Ceilings, Floor, Work
from parity.speed.rounds import AGREEMENT, Block, Timing
from parity.speed.statistics import Estimate
from parity.speed.variants import FrameworkName
from parity.speed.workloads import Task

EPOCH = 50_000
"""Images of CIFAR-10's training split."""

BASELINE = "eager"
FRAMEWORKS: tuple[FrameworkName, ...] = ("JAX", "PyTorch")


@dataclasses.dataclass(frozen=True)
class TaskResult:
    """The timings of a task's variants, its reference losses, its work and the floor of it.

    Without them, None, the reference or the count failed, and `problem` says how.
    """

    task: Task
    timings: tuple[Timing, ...]
    reference: Reference | None = None
    work: Work | None = None
    ceilings: Ceilings | None = None
    problem: str | None = None

    def best(self, framework: FrameworkName) -> Timing | None:
        """The framework's variant of the highest median throughput; None if there is none.

        Among those that computed the right loss and are no ablation.
        """
        found = [
            t
            for t in self.timings
            if t.framework == framework and t.good and t.blocks and not t.ablation
        ]
        return max(found, key=lambda t: throughput(t).median, default=None)

    def ratio(self, variant: str | None = None) -> Estimate | None:
        """The throughput of JAX's best over that of PyTorch's best, or of `variant` of PyTorch."""
        ours, theirs = self.best("JAX"), self.best("PyTorch")
        if variant is not None:
            named = [t for t in self.timings if (t.framework, t.variant) == ("PyTorch", variant)]
            theirs = next((t for t in named if t.good and t.blocks), None)
        if ours is None or theirs is None:
            return None
        return statistics.ratio(ours.throughputs, theirs.throughputs)

    @property
    def other_cores(self) -> float | None:
        """Cores' worth of work of others while blocks were timed; None where it is not known."""
        known = [b for b in self._blocks if b.other_cores is not None]
        if not known:
            return None
        total = sum(b.seconds for b in known)
        return max(0.0, sum((b.other_cores or 0.0) * b.seconds for b in known) / total)

    @property
    def invalid(self) -> str | None:
        """Why the timings say nothing of the frameworks; None if they do."""
        # The work of others is read over each block and the untimed one before it.
        seconds = 2 * sum(block.seconds for block in self._blocks)
        return load.invalid(self.other_cores, seconds, len(self._blocks))

    @property
    def _blocks(self) -> list[Block]:
        return [block for timing in self.timings for block in timing.blocks]

    @property
    def floor(self) -> Floor | None:
        """The floor of the task's work; None without the work or the ceilings."""
        if self.work is None or self.ceilings is None:
            return None
        return roofline.floor(self.work, self.ceilings)

    def nearness(self, framework: FrameworkName) -> float | None:
        """The share of the best's time that the floor is: 1 is as fast as the ceilings allow."""
        best, floor = self.best(framework), self.floor
        if best is None or floor is None:
            return None
        return floor.overlapped / step_seconds(best)


@dataclasses.dataclass(frozen=True)
class SpeedReport:
    """A run, or what there is of it so far.

    Args:
        busy_before: cores' worth of work of others, before it started.
        left_out: variants that could have been timed here and were not asked for.
        unfinished: what was not done; None at the end.
    """

    environment: dict[str, Any]
    data: dict[str, Any]
    options: dict[str, Any]
    busy_before: float
    results: tuple[TaskResult, ...]
    notebook: tuple[Training, ...] = ()
    notebook_problems: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    unfinished: str | None = None

    @property
    def timings(self) -> list[Timing]:
        """The timings of all tasks."""
        return [timing for result in self.results for timing in result.timings]

    @property
    def wrong(self) -> list[Timing]:
        """Variants that computed another loss."""
        return [t for t in self.timings if t.status.startswith("wrong loss")]

    @property
    def unmeasured(self) -> list[str]:
        """Tasks in which every variant of a framework failed."""
        found = []
        for result in self.results:
            for framework in FRAMEWORKS:
                tried = [
                    t
                    for t in result.timings
                    if t.framework == framework
                    and not t.ablation
                    and not t.status.startswith("not available")
                ]
                if tried and result.best(framework) is None:
                    found.append(f"{result.task} in {framework}")
        return found

    @property
    def passed(self) -> bool:
        """Whether anything was timed, and nothing is wrong, unmeasured, invalid or unfinished."""
        timed = any(timing.good and timing.blocks for timing in self.timings)
        bad = self.wrong or self.unmeasured or self.invalid or self.unfinished
        return timed and not bad

    @property
    def invalid(self) -> list[str]:
        """What was timed beside other work, and why it says nothing."""
        found = [f"{result.task}: {result.invalid}" for result in self.results if result.invalid]
        return found + [
            f"notebook: {t.framework} {t.variant}: {t.invalid}" for t in self.notebook if t.invalid
        ]

    def withheld(self, timed: TaskResult | Training) -> str | None:
        """Why no figure of it is shown; None if they are. `--busy` shows them."""
        return None if self.options["busy"] else timed.invalid

    @property
    def other_cores(self) -> float | None:
        """The most of any task, of the work of others while blocks were timed."""
        known = [r.other_cores for r in self.results if r.other_cores is not None]
        return max(known, default=None)

    @property
    def warnings(self) -> list[str]:
        """A line each."""
        found = [load.warning(self.busy_before)]
        for timing in self.timings:
            where = f"{timing.task}: {timing.name}"
            if timing.status.startswith(("wrong loss", "failed")):
                found.append(f"WARNING: {where}: {timing.status}")
            elif timing.blocks and not settled(timing):
                found.append(
                    f"WARNING: {where}: its last two warm-up blocks differ by more than "
                    f"{100 * AGREEMENT:.0f} %"
                )
        found += [f"WARNING: {r.task}: {r.problem}" for r in self.results if r.problem]
        found += [f"WARNING: notebook: {problem}" for problem in self.notebook_problems]
        found += [f"WARNING: {line}" for line in self.invalid]
        return [line for line in found if line]


def throughput(timing: Timing) -> Estimate:
    """Images a second, of a timing with blocks."""
    return statistics.estimate(timing.throughputs)


def step_seconds(timing: Timing) -> float:
    """Of a step or a batch, by the median throughput."""
    return timing.task.batch_size / throughput(timing).median


def settled(timing: Timing) -> bool:
    """Whether the warm-up ended because two blocks agreed."""
    last = timing.warm_up[-2:]
    return len(last) == 2 and abs(last[1] - last[0]) <= AGREEMENT * last[0]


def compile_overhead(timing: Timing) -> float:
    """Seconds that the first call took beyond its steps."""
    steps = (timing.first_steps or 0) * step_seconds(timing)
    return max(0.0, (timing.first_seconds or 0.0) - steps)


def epoch_seconds(timing: Timing, epochs: float) -> float:
    """Seconds of an epoch of CIFAR-10 with its share of compilation, when so many are trained."""
    return EPOCH / throughput(timing).median + compile_overhead(timing) / epochs


def shown(result: TaskResult) -> Sequence[Timing]:
    """Timings with blocks, the fastest first."""
    timed = [t for t in result.timings if t.blocks and t.good]
    return sorted(timed, key=lambda t: -throughput(t).median)
