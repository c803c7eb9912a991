"""One training in JAX in its run directory: begun or gone on with, told, saved, and ended."""

import base64
import dataclasses
import itertools
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from jax_impl.data.archive import Split
from jax_impl.errors import InputError, NotFinite
from jax_impl.models.model import Model
from jax_impl.models.registry import Spec
from jax_impl.torch_random.generator import Generator
from jax_impl.torch_random.loader import Drawn
from jax_impl.training.averaging import averaged
from jax_impl.training.fit import START, Epoch, Progress
from jax_impl.training.hosts import ALONE, Hosts
from jax_impl.training.mesh import fetched, put_state
from jax_impl.training.resume import Checkpoints, Restored, newest, restore
from jax_impl.training.schedules import Schedule
from jax_impl.training.state import TrainState, create_state
from parity.commands.processes import agreed
from parity.pairs.jax_recipe import visits
from parity.pairs.weights import to_arrays
from parity.report.training_log import TrainingLog
from parity.shell.console import Console
from parity.shell.recipes import Recipe
from parity.shell.run_directory import CHECKPOINTS, RunDirectory, check_space
from parity.shell.saving import Elsewhere, Saving, anew, check_digest, going_on
from parity.shell.train_options import TrainOptions


@dataclasses.dataclass(frozen=True)
class Training:
    """What is trained, on what, and how; `of` tells it from others in its checkpoints.

    Without a `mesh` it is trained on one device, of a kind that is named `device`.
    """

    options: TrainOptions
    spec: Spec
    recipe: Recipe
    device: str
    dtype: Any
    train: Split
    held_out: Split
    test: Split
    model: Model
    rate: float | Schedule
    optimizer: optax.GradientTransformation
    evaluate: Callable[..., float]
    of: str
    mesh: Mesh | None = None
    hosts: Hosts = ALONE

    @property
    def batches(self) -> int:
        """Of an epoch."""
        return -(-len(self.train.labels) // self.recipe.batch_size)

    @property
    def steps(self) -> int:
        """Of all of it."""
        return self.recipe.epochs * self.batches

    def lr(self, step: int) -> float:
        """The learning rate of a batch, counted from 0."""
        taken = step // self.recipe.accumulate
        return float(self.rate(jnp.int32(taken)) if callable(self.rate) else self.rate)


class Run:
    """A training in its directory, at its start or at its newest checkpoint.

    Args:
        training: what is trained.
        directory: where it is told and saved.
        console: is told too.
        title: of its lines on the console.
        beside: trainings at once, itself included, whose checkpoints go to the same disk.

    `state` and `start` are where it stands. It has to be closed.

    Raises:
        InputError: there is no checkpoint to go on from, or no room for more.
    """

    def __init__(
        self,
        training: Training,
        directory: RunDirectory,
        console: Console,
        title: str = "",
        beside: int = 1,
    ):
        options, recipe = training.options, training.recipe
        self.training, self.directory = training, directory
        # As after torch.manual_seed: the weights' draws, then those of the shuffling loader.
        self._generator = Generator(options.seed)
        variables = training.model.init(self._generator, options.init)
        self.state, self.start = create_state(variables, training.optimizer), START
        folder = directory.path / CHECKPOINTS
        if options.resume:
            try:
                told = self._newest(folder, console)
            except InputError as error:
                raise InputError(f"{error}; {anew(directory.path)}") from error
            self.state, self.start = told.state, Progress(**told.progress["progress"])
            self._generator.set_state(_unpacked(told.progress["random"]))
            directory.again(told.progress["rows"])
            console.line(going_on(self.start, recipe.epochs))
        if training.mesh is not None:
            self.state = put_state(training.mesh, self.state)
        self._store = agreed(training.hosts, partial(self._room, folder, beside))
        self._random = self._generator.get_state()
        self._now: Callable[[], TrainState] = lambda: self.state
        about = str(training.spec), "jax", recipe, options.tensorboard
        self.log = TrainingLog(directory, console, *about, title=title)
        places = directory.path, console.line, self.start.step
        every = options.checkpoint_every, training.batches, recipe.epochs
        self._saving = Saving(self._store, self._save, *every, *places)

    def _newest(self, folder: Path, console: Console) -> Restored:
        """The first process looks for it, and the others read what it found."""
        hosts, check = self.training.hosts, partial(check_digest, self.training.of)

        def first() -> Restored | None:
            return None if hosts.rank else newest(folder, self.state, check, console.line)

        found = agreed(hosts, first)
        step = hosts.gathered(found.step if found else 0)[0]
        return agreed(hosts, lambda: found or restore(folder / str(step), self.state, step))

    def _room(self, folder: Path, beside: int) -> Checkpoints | Elsewhere | None:
        """Where the first process writes checkpoints, if any are wanted."""
        options = self.training.options
        if not options.checkpoint_every:
            return None
        if self.training.hosts.rank:
            return Elsewhere()
        size = sum(x.nbytes for x in jax.tree.leaves(self.state))
        check_space(self.directory.path, beside * size, options.keep)
        return Checkpoints(folder, options.keep)

    def orders(self) -> Iterator[tuple[np.ndarray, Drawn]]:
        """Of each epoch that is left the order, and what is drawn for it."""
        training, options, recipe = self.training, self.training.options, self.training.recipe
        found = visits(
            len(training.train.labels),
            self._generator,
            recipe.augment,
            by_torch=recipe.random == "torch",
            seed=options.seed,
            epoch=self.start.epoch,
            before=lambda state: setattr(self, "_random", state),
        )
        return itertools.islice(found, recipe.epochs - self.start.epoch + 1)

    def after_steps(
        self, progress: Progress, state: Callable[[], TrainState], asked: list[str]
    ) -> None:
        """Saves if it is time. Raises Stopped if that was `asked`. `state` gives what to save."""
        self._now = state
        self._saving.after_steps(progress, asked)

    def after_epoch(self, epoch: Epoch, state: TrainState, asked: list[str]) -> None:
        """Evaluates, tells, and saves if it is time. Raises Stopped if that was `asked`."""
        self._now, step = (lambda: state), epoch.number * self.training.batches
        accuracy = self.training.evaluate(averaged(state), self.training.held_out)
        self.log.epoch(epoch, step, self.training.lr(step - 1), accuracy)
        self._saving.after_epoch(Progress(step, epoch.number + 1), accuracy, asked)

    def stopped(self, stop: NotFinite) -> str:
        """Notes where a loss was not finite, and gives the line that says what to do."""
        lr = self.training.lr((stop.epoch - 1) * self.training.batches + stop.step - 1)
        return self.directory.stopped(stop, lr, self._saving.saved)

    def end(self, state: TrainState) -> None:
        """After the last epoch: the test accuracy, and the weights."""
        self._saving.end()
        training, variables = self.training, averaged(state)
        self.log.end(training.recipe.epochs, training.evaluate(variables, training.test))
        arrays = to_arrays(fetched(training.mesh, variables), training.model)
        self.directory.weights(arrays, training.spec, "jax")

    def close(self) -> None:
        """Waits for what is being saved, and draws the curves."""
        try:
            if self._store:
                self._store.close()
        finally:
            self.log.close()

    def _save(self, progress: Progress, accuracy: float | None) -> None:
        state = self._now()
        if self._store is None or not (self.training.options.keep_going or _finite(state.params)):
            return  # the next step's loss will say so
        told = {
            "step": progress.step,
            "progress": dataclasses.asdict(progress),
            "random": _packed(self._random if progress.done else self._generator.get_state()),
            "rows": self.directory.rows,
            "of": self.training.of,
        }
        whole = fetched(self.training.mesh, state)
        self._store.save(progress.step, whole, told, accuracy)


@jax.jit
def _all_finite(params: Any) -> jax.Array:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(params)]).all()


def _finite(params: Any) -> bool:
    return bool(_all_finite(params))


def _packed(state: np.ndarray) -> str:
    return base64.b64encode(state.tobytes()).decode()


def _unpacked(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), np.uint8)
