"""`parity train`: trains a Flax model. Imports no PyTorch."""

import base64
import contextlib
import dataclasses
import itertools
import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jax_impl.data.datasets
from jax_impl.data.archive import Split
from jax_impl.errors import InputError, NotFinite
from jax_impl.models.model import Model, from_spec
from jax_impl.models.registry import Spec
from jax_impl.torch_random.generator import Generator
from jax_impl.training.averaging import averaged
from jax_impl.training.compilation import keep_compiled
from jax_impl.training.epoch import make_train_epoch
from jax_impl.training.evaluate import make_evaluate
from jax_impl.training.fit import START, Epoch, Progress, fit
from jax_impl.training.precision import be_deterministic, set_precision
from jax_impl.training.resume import Checkpoints, newest
from jax_impl.training.schedules import Schedule
from jax_impl.training.state import TrainState, create_state
from parity.pairs.jax_recipe import learning_rate, make_optimizer, visits
from parity.pairs.weights import to_arrays
from parity.report.training_log import TrainingLog
from parity.shell import data_choice
from parity.shell.chosen import chosen_training
from parity.shell.console import Console
from parity.shell.earlier import check_same, settings
from parity.shell.options import TrainOptions
from parity.shell.recipes import IMAGE_SIZE, Recipe, check_validation, one_image
from parity.shell.run_directory import CHECKPOINTS, RunDirectory, check_space, config_of
from parity.shell.saving import Saving, check_digest, digest, stop_requests, told_interrupts

PACE = 2.0
"""Seconds after which the bar moves on and a request to stop is answered, about."""


@dataclasses.dataclass(frozen=True)
class Training:
    """What is trained, on what, and how."""

    options: TrainOptions
    spec: Spec
    recipe: Recipe
    dtype: Any
    train: Split
    held_out: Split
    test: Split
    model: Model
    rate: float | Schedule
    optimizer: optax.GradientTransformation
    of: str

    @property
    def batches(self) -> int:
        """Of an epoch."""
        return -(-len(self.train.labels) // self.recipe.batch_size)

    def lr(self, step: int) -> float:
        """The learning rate of a batch, counted from 0."""
        taken = step // self.recipe.accumulate
        return float(self.rate(jnp.int32(taken)) if callable(self.rate) else self.rate)


def run(options: TrainOptions) -> int:
    """Trains, evaluates, and fills the run directory; 1 if it stopped at a loss that is none."""
    spec, recipe = chosen_training(options)
    keep_compiled()
    if options.deterministic:
        be_deterministic()
    device = choose_device(options.device)
    dtype = set_precision(options.precision, device.platform)
    console = Console()
    choice = data_choice.resolve(options.data, options.data_dir, console.line)
    check_same(options, str(spec), recipe, choice.name)
    console.line(choice.reason)
    dataset = jax_impl.data.datasets.load_dataset(choice.name, options.data_dir)
    check_validation(recipe.validation, len(dataset.train.labels))
    train, held_out = split_off(dataset.train, recipe.validation)
    model = from_spec(spec)
    check_batches(model, len(train.labels), recipe.batch_size)
    batches = -(-len(train.labels) // recipe.batch_size)
    of = digest([settings(options, choice.name), str(spec), dataclasses.asdict(recipe)])
    rate, optimizer = learning_rate(recipe, batches), make_optimizer(recipe, batches)
    tested = held_out if recipe.validation else dataset.test
    data = train, tested, dataset.test
    training = Training(options, spec, recipe, dtype, *data, model, rate, optimizer, of)
    place, going_on = options.resume or options.out, options.resume is not None
    with RunDirectory(place, str(spec), "jax", going_on) as directory:
        if not going_on:
            told = config_of(options, spec, recipe, choice, "jax", device.device_kind)
            count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(model.shapes.params))
            directory.config(told | {"parameters": count})
        console.line(f"{spec} on {device.device_kind}, run directory {directory.path}")
        with told_interrupts(directory):
            return _train(training, directory, console)


def _train(training: Training, directory: RunDirectory, console: Console) -> int:
    options, recipe, model = training.options, training.recipe, training.model
    # As after torch.manual_seed: the weights' draws, then those of the shuffling loader.
    generator = Generator(options.seed)
    state = create_state(model.init(generator, options.init), training.optimizer)
    start, folder = START, directory.path / CHECKPOINTS
    if options.resume:
        told = newest(folder, state, partial(check_digest, training.of), console.line)
        state, start = told.state, Progress(**told.progress["progress"])
        generator.set_state(_unpacked(told.progress["random"]))
        directory.again(told.progress["rows"])
        console.line(f"going on at step {start.step:,}, in epoch {start.epoch}")
    store = None
    if options.checkpoint_every:
        check_space(directory.path, sum(x.nbytes for x in jax.tree.leaves(state)), options.keep)
        store = Checkpoints(folder, options.keep)
    log = TrainingLog(directory, console, str(training.spec), "jax", recipe, options.tensorboard)
    evaluate = make_evaluate(model, dtype=training.dtype, mirror=recipe.mirror)
    random, now = [generator.get_state()], [state]

    def save(progress: Progress, accuracy: float | None) -> None:
        if store is None or not (options.keep_going or _finite(now[0].params)):
            return  # the next step's loss will say so
        rows, within = directory.rows, progress.done > 0
        told = {
            "step": progress.step,
            "progress": dataclasses.asdict(progress),
            "random": _packed(random[0] if within else generator.get_state()),
            "rows": rows,
            "of": training.of,
        }
        store.save(progress.step, now[0], told, accuracy)

    places = directory.path, console.line, start.step
    saving = Saving(store, save, options.checkpoint_every, training.batches, recipe.epochs, *places)
    size, total = len(training.train.labels), recipe.epochs * training.batches
    orders = visits(
        size,
        generator,
        recipe.augment,
        by_torch=recipe.random == "torch",
        seed=options.seed,
        epoch=start.epoch,
        before=lambda state: random.__setitem__(0, state),
    )
    with contextlib.ExitStack() as stack:
        stack.callback(log.close)
        if store:
            stack.callback(store.close)
        asked = stack.enter_context(stop_requests())
        show = stack.enter_context(console.bar("compiling", total))

        def on_steps(progress: Progress, state: TrainState) -> None:
            now[0] = state
            show(progress.step, log.bar_text(progress))
            saving.after_steps(progress, asked)

        def on_epoch(epoch: Epoch, state: TrainState) -> None:
            now[0], step = state, epoch.number * training.batches
            accuracy = evaluate(averaged(state), training.held_out)
            log.epoch(epoch, step, training.lr(step - 1), accuracy)
            saving.after_epoch(Progress(step, epoch.number + 1), accuracy, asked)

        try:
            state, _ = fit(
                make_epoch(training),
                state,
                training.train,
                itertools.islice(orders, recipe.epochs - start.epoch + 1),
                start=start,
                keep_going=options.keep_going,
                seconds=PACE,
                on_epoch=on_epoch,
                on_steps=on_steps,
            )
        except NotFinite as stop:
            lr = training.lr((stop.epoch - 1) * training.batches + stop.step - 1)
            console.line(directory.stopped(stop, lr, saving.saved))
            return 1
        saving.end()
        variables = averaged(state)
        log.end(recipe.epochs, evaluate(variables, training.test))
        directory.weights(to_arrays(variables, model), training.spec, "jax")
    return 0


def make_epoch(training: Training) -> Any:
    """The compiled epoch of a training."""
    recipe, options = training.recipe, training.options
    return make_train_epoch(
        training.model,
        training.optimizer,
        recipe.batch_size,
        training.dtype,
        recipe.augment,
        options.seed,
        recipe.label_smoothing,
    )


def split_off(split: Split, images: int) -> tuple[Split, Split]:
    """All but the last so many images, and those."""
    at = len(split.labels) - images
    return (
        Split(split.images[:at], split.labels[:at]),
        Split(split.images[at:], split.labels[at:]),
    )


def check_batches(model: Model, images: int, batch_size: int) -> None:
    """Raises InputError if a batch is one image, and too few for the model's statistics."""
    if 1 not in (batch_size, images % batch_size):
        return
    batch = jax.ShapeDtypeStruct((1, *IMAGE_SIZE, 3), "float32")
    try:
        jax.eval_shape(partial(model.apply, train=True), model.shapes, batch)
    except InputError as error:
        raise one_image(images, batch_size) from error


def choose_device(wanted: str) -> Any:
    """Makes the first device of a platform JAX's default one, and returns it.

    Raises:
        InputError: JAX has no such platform here.
    """
    try:
        device = jax.devices(None if wanted == "auto" else wanted)[0]
    except RuntimeError as error:
        platforms = jax.default_backend()
        raise InputError(f"--device {wanted}: JAX sees only {platforms} here") from error
    jax.config.update("jax_default_device", device)
    return device


@jax.jit
def _all_finite(params: Any) -> jax.Array:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(params)]).all()


def _finite(params: Any) -> bool:
    return bool(_all_finite(params))


def _packed(state: np.ndarray) -> str:
    return base64.b64encode(state.tobytes()).decode()


def _unpacked(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), np.uint8)
