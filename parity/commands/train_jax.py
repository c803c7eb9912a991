"""`parity train`: trains a Flax model. Imports no PyTorch."""

import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax

import jax_impl.data.datasets
from jax_impl.data.augmentation import NOTHING, Augmentation
from jax_impl.errors import InputError, NotFinite
from jax_impl.models.model import Model, from_spec
from jax_impl.torch_random.generator import Generator
from jax_impl.torch_random.loader import augmentation_draws, loader_orders
from jax_impl.training import build
from jax_impl.training.compilation import keep_compiled
from jax_impl.training.epoch import make_train_epoch
from jax_impl.training.evaluate import make_evaluate
from jax_impl.training.fit import Epoch, fit
from jax_impl.training.precision import be_deterministic, set_precision
from jax_impl.training.state import TrainState, create_state
from parity.pairs.weights import to_arrays
from parity.shell import data_choice
from parity.shell.chosen import chosen_training
from parity.shell.console import Console
from parity.shell.options import TrainOptions
from parity.shell.recipes import IMAGE_SIZE, Recipe, one_image
from parity.shell.run_directory import RunDirectory, config_of


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
    console.line(choice.reason)
    dataset = jax_impl.data.datasets.load_dataset(choice.name, options.data_dir)
    model, size = from_spec(spec), len(dataset.train.labels)
    check_batches(model, size, recipe.batch_size)
    optimizer = make_optimizer(recipe, -(-size // recipe.batch_size))
    with RunDirectory(options.out, str(spec), "jax") as directory:
        directory.config(config_of(options, spec, recipe, choice, "jax", device.device_kind))
        console.line(f"{spec} on {device.device_kind}, run directory {directory.path}")
        train_epoch = make_train_epoch(
            model,
            optimizer,
            recipe.batch_size,
            dtype,
            recipe.augment,
            options.seed,
            recipe.label_smoothing,
        )
        # As after torch.manual_seed: the weights' draws, then those of the shuffling loader.
        generator = Generator(options.seed)
        state = create_state(model.init(generator, options.init), optimizer)
        drawn = recipe.augment if recipe.random == "torch" else NOTHING
        orders = itertools.islice(visits(size, generator, drawn), recipe.epochs)

        def on_epoch(epoch: Epoch, state: TrainState) -> None:
            console.line(f"Epoch {epoch.number}, Loss: {epoch.loss:.3f}")
            directory.metrics(epoch=epoch.number, loss=epoch.loss, seconds=epoch.seconds)

        with console.bar("training", recipe.epochs * -(-size // recipe.batch_size)) as advance:
            try:
                state, _ = fit(
                    train_epoch,
                    state,
                    dataset.train,
                    orders,
                    keep_going=options.keep_going,
                    on_epoch=on_epoch,
                    on_steps=advance,
                )
            except NotFinite as stop:
                console.line(directory.stopped(stop))
                return 1
        accuracy = make_evaluate(model, dtype=dtype)(state.variables, dataset.test)
        console.line(f"Accuracy: {100 * accuracy:.2f} %")
        directory.metrics(epoch=recipe.epochs, test_accuracy=accuracy)
        arrays = to_arrays(state.variables, model)
        directory.weights(arrays, spec, "jax")
    return 0


def make_optimizer(recipe: Recipe, steps_an_epoch: int) -> Any:
    """What the recipe says of it."""
    rate = build.learning_rate(recipe.lr, **recipe.schedule_options(steps_an_epoch))
    return build.optimizer(
        recipe.optimizer,
        rate,
        decay_norms=recipe.decay_norms,
        clip_norm=recipe.clip_norm,
        **recipe.optimizer_options,
    )


def visits(size: int, generator: Generator, drawn: Augmentation) -> Iterator[Any]:
    """Each epoch's order, with what PyTorch would draw for `drawn` and the images in it."""
    for order in loader_orders(size, generator):
        if not drawn:
            yield order
            continue
        crop, flip, cutout = drawn.crop, drawn.flip, bool(drawn.cutout)
        side = IMAGE_SIZE[0]
        yield (
            order,
            augmentation_draws(generator, size, side, crop=crop, flip=flip, cutout=cutout),
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
