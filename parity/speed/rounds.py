"""One task: every variant's worker is warmed up, then all are timed in turns."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jax_impl.errors import InputError
from parity.speed.processes import Worker, WorkerFailed, other_seconds
from parity.speed.variants import Variant
from parity.speed.workloads import Task

BENCH = "parity.speed.bench:BenchWorker"
AGREEMENT = 0.05
WARM_UP_BLOCKS = 5
START_SECONDS = 15
"""Of a variant's process, with its imports and compilation: the mean of those under benchmarks."""
FITTED = 4
"""Blocks that find the number of steps and warm up, about."""


@dataclasses.dataclass(frozen=True)
class Block:
    """Timed steps; `other_cores` is what other processes used meanwhile, None if not known.

    It is below zero where the kernel's clocks are a tick off.
    """

    seconds: float
    steps: int
    other_cores: float | None


@dataclasses.dataclass(frozen=True)
class Timing:
    """What was found of one variant at one task.

    `status` is "ok", "not available: why", "failed: why" or "wrong loss: how far". `first_seconds`
    is that of the first call, of `first_steps` steps, with compilation; `compile_seconds` is the
    compiler's own count of it. `ablation` is the variant's. `warm_up` has the seconds of a step in
    each warm-up block.
    """

    task: Task
    framework: str
    variant: str
    status: str = "ok"
    ablation: bool = False
    import_seconds: float | None = None
    build_seconds: float | None = None
    first_seconds: float | None = None
    first_steps: int | None = None
    compile_seconds: float | None = None
    threads: int | None = None
    peak_bytes: int | None = None
    base_bytes: int | None = None
    device_peak_bytes: int | None = None
    losses: tuple[float, ...] = ()
    warm_up: tuple[float, ...] = ()
    blocks: tuple[Block, ...] = ()

    @property
    def good(self) -> bool:
        """Whether the variant runs here and its losses are right."""
        return self.status == "ok"

    @property
    def name(self) -> str:
        """The framework's name and the variant's."""
        return f"{self.framework} {self.variant}"

    @property
    def throughputs(self) -> list[float]:
        """Images a second of each block."""
        return [self.task.batch_size * b.steps / b.seconds for b in self.blocks]


@dataclasses.dataclass(frozen=True)
class Conditions:
    """How a task is timed.

    Seconds of a block, rounds, the most seconds of a variant's warm-up, the device, the recipes'
    learning rate, and the directory of arrays.
    """

    seconds: float
    rounds: int
    limit: float
    device: str
    lr: float
    files: Path


def expected_seconds(
    chosen: Sequence[Task], variants: Sequence[Variant], conditions: Conditions
) -> float:
    """About how long `time_task` takes for these tasks, on a machine without other work."""
    gpu = conditions.device == "gpu"
    count = sum(
        v.unavailable(t, gpu) is None for t in chosen for v in variants if t.mode in v.modes
    )
    blocks = 2 * conditions.rounds + FITTED  # each timed one comes after an untimed one
    return count * (START_SECONDS + blocks * conditions.seconds)


def time_task(
    task: Task,
    variants: Sequence[Variant],
    conditions: Conditions,
    tell: Callable[[str], None],
    check: Callable[[Sequence[float]], str | None],
    after_round: Callable[[list[Timing]], None] = lambda timings: None,
    show: Callable[[int, str], None] = lambda done, what: None,
) -> list[Timing]:
    """A timing of each variant.

    Args:
        task: what is timed.
        variants: those that are timed at it.
        conditions: how it is timed.
        tell: gets a line of progress.
        check: says of a variant's losses how they are wrong, or None.
        after_round: gets the timings so far after every round.
        show: gets how many blocks were timed, and what is done next.
    """
    timings = {str(v): Timing(task, v.framework, v.name, ablation=v.ablation) for v in variants}
    steps: dict[str, int] = {}
    with contextlib.ExitStack() as stack:
        workers: dict[str, Worker] = {}

        def drop(name: str, status: str) -> None:
            timings[name] = dataclasses.replace(timings[name], status=status)
            if name in workers:
                workers.pop(name).stop()
            tell(f"{task}: {name}: {status}")

        for variant in variants:
            name = str(variant)
            why = variant.unavailable(task, conditions.device == "gpu")
            if why is not None:
                drop(name, f"not available: {why}")
                continue
            show(0, f"{task}: {name}: compiling, warming up")
            workers[name] = Worker(BENCH, conditions.files, conditions.device)
            stack.callback(workers[name].stop)
            try:
                found, steps[name] = warm_up(workers[name], variant, task, conditions)
            except (WorkerFailed, InputError) as error:
                drop(name, f"failed: {error}")
                continue
            timings[name] = dataclasses.replace(timings[name], **found)
            tell(f"{task}: {name}: first call {timings[name].first_seconds:.2f} s")
            wrong = check(timings[name].losses)
            if wrong is not None:
                drop(name, f"wrong loss: {wrong}")
        for number in range(conditions.rounds):
            names = list(workers)
            for turn, index in enumerate(round_order(len(names), number)):
                name = names[index]
                if name not in workers:
                    continue
                show(number * len(names) + turn, f"{task}: round {number + 1}: {name}")
                try:
                    block = timed_block(workers, name, steps[name], conditions.limit)
                except (WorkerFailed, InputError) as error:
                    drop(name, f"failed: {error}")
                    continue
                blocks = (*timings[name].blocks, block)
                timings[name] = dataclasses.replace(timings[name], blocks=blocks)
            after_round(list(timings.values()))
        for name, worker in list(workers.items()):
            try:
                facts = worker.ask("facts", conditions.limit)
            except (WorkerFailed, InputError) as error:
                drop(name, f"failed: {error}")
                continue
            timings[name] = dataclasses.replace(timings[name], **facts)
    return list(timings.values())


def warm_up(
    worker: Worker, variant: Variant, task: Task, conditions: Conditions
) -> tuple[dict[str, Any], int]:
    """What `BenchWorker.start` tells and the warm-up blocks, and a block's number of steps."""
    deadline = time.monotonic() + conditions.limit

    def ask(method: str, **arguments: Any) -> Any:
        return worker.ask(method, max(0.0, deadline - time.monotonic()), **arguments)

    found = ask(
        "start",
        maker=variant.maker,
        settings=dict(variant.settings),
        task=dataclasses.asdict(task),
        device=conditions.device,
        lr=conditions.lr,
        files=str(conditions.files),
    )
    steps = ask("fit", seconds=conditions.seconds)
    blocks: list[float] = []
    while len(blocks) < WARM_UP_BLOCKS and not _agree(blocks):
        blocks.append(ask("block", steps=steps) / steps)
    losses = tuple(found.pop("losses"))
    return {**found, "losses": losses, "warm_up": tuple(blocks)}, steps


def _agree(blocks: Sequence[float]) -> bool:
    return len(blocks) > 1 and abs(blocks[-1] - blocks[-2]) <= AGREEMENT * blocks[-2]


def timed_block(workers: Mapping[str, Worker], name: str, steps: int, limit: float) -> Block:
    """One block of one worker, and the work of other processes meanwhile.

    The block comes after an untimed one, while the other workers wait.
    """
    before, started = other_seconds(workers.values()), time.perf_counter()
    seconds = workers[name].ask("block_after_others", limit, steps=steps)
    after, wall = other_seconds(workers.values()), time.perf_counter() - started
    other = None if before is None or after is None else (after - before) / wall
    return Block(seconds, steps, other)


def round_order(count: int, number: int) -> list[int]:
    """The order of `count` variants in round `number`: a Williams design.

    Over `count` rounds, twice as many where it is odd, each variant follows every other one
    equally often, and comes equally often in each place.
    """
    if not count:
        return []
    first = [0]
    for step in range(1, count):
        first.append((first[-1] + (step if step % 2 else -step)) % count)
    order = [(place + number) % count for place in first]
    return order[::-1] if count % 2 and number // count % 2 else order
