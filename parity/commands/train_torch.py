"""`parity train --framework torch`: trains a PyTorch model as the notebook does."""

import copy
import dataclasses
import itertools
from typing import Any

import torch
from torch import nn

import jax_impl.data.datasets
import torch_ref.augment
import torch_ref.data
import torch_ref.models
import torch_ref.train
from parity.shell import data_choice
from parity.shell.chosen import chosen_training
from parity.shell.console import Console
from parity.shell.options import TrainOptions
from parity.shell.recipes import IMAGE_SIZE, Recipe, one_image
from parity.shell.run_directory import RunDirectory, config_of
from torch_ref.errors import InputError, NotFinite
from torch_ref.precision import be_deterministic, set_precision


def run(options: TrainOptions) -> int:
    """Trains, evaluates, and fills the run directory; 1 if it stopped at a loss that is none."""
    spec, recipe = chosen_training(options)
    device = choose_device(options.device)
    if options.deterministic:
        be_deterministic()
    console = Console()
    choice = data_choice.resolve(options.data, options.data_dir, console.line)
    console.line(choice.reason)
    data_dir = jax_impl.data.datasets.data_directory(options.data_dir)
    training_set, test_set = torch_ref.data.load(choice.name, data_dir)
    if recipe.augment:
        training_set.transform = torch_ref.augment.transform(
            IMAGE_SIZE[0], **dataclasses.asdict(recipe.augment)
        )
    torch.manual_seed(options.seed)
    model = torch_ref.models.create_model(spec.name, **dataclasses.asdict(spec.options)).to(device)
    trained = set_precision(model, options.precision, device)
    check_batches(model, len(training_set), recipe.batch_size, device)
    loader = torch_ref.data.make_loader(training_set, recipe.batch_size, shuffle=True)
    steps = len(loader)
    optimizer, scheduler = make_optimizer(model, recipe, steps)
    with RunDirectory(options.out, str(spec), "torch") as directory:
        directory.config(config_of(options, spec, recipe, choice, "torch", device))
        console.line(f"{spec} on {device}, run directory {directory.path}")

        loader = torch_ref.data.make_loader(training_set, recipe.batch_size, shuffle=True)

        steps = len(loader)
        optimizer, scheduler = make_optimizer(model, recipe, steps)

        def on_epoch(epoch: torch_ref.train.Epoch) -> None:
            directory.metrics(epoch=epoch.number, loss=epoch.loss, seconds=epoch.seconds)

        with console.bar("training", recipe.epochs * steps) as advance:
            try:
                torch_ref.train.train(
                    trained,
                    itertools.repeat(loader, recipe.epochs),
                    nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing),
                    optimizer,
                    device,
                    scheduler=scheduler,
                    clip_norm=recipe.clip_norm,
                    keep_going=options.keep_going,
                    print=console.line,
                    on_epoch=on_epoch,
                    on_steps=advance,
                )
            except NotFinite as stop:
                console.line(directory.stopped(stop))
                return 1
        loader = torch_ref.data.make_loader(test_set, 100)
        accuracy = torch_ref.train.test(trained, loader, device, print=console.line)
        directory.metrics(epoch=recipe.epochs, test_accuracy=accuracy)
        arrays = {name: value.cpu().numpy() for name, value in model.state_dict().items()}
        directory.weights(arrays, spec, "torch")
    return 0


def make_optimizer(model: nn.Module, recipe: Recipe, steps_an_epoch: int) -> tuple[Any, Any]:
    """What the recipe says of it, and the scheduler or None."""
    optimizer = torch_ref.train.create_optimizer(
        recipe.optimizer, model, recipe.lr, recipe.decay_norms, **recipe.optimizer_options
    )
    options = recipe.schedule_options(steps_an_epoch)
    return optimizer, torch_ref.train.create_scheduler(optimizer, **options)


def check_batches(model: nn.Module, images: int, batch_size: int, device: str) -> None:
    """Raises InputError if a batch is one image, and too few for the model's statistics."""
    if 1 not in (batch_size, images % batch_size):
        return
    try:
        copy.deepcopy(model).train()(torch.zeros(1, 3, *IMAGE_SIZE, device=device))
    except ValueError as error:
        raise one_image(images, batch_size) from error


def choose_device(wanted: str) -> str:
    """PyTorch's name for the device.

    Raises:
        InputError: PyTorch has no such device here.
    """
    if wanted == "tpu":
        raise InputError("--device tpu: PyTorch cannot use a TPU; --framework jax can")
    there = torch.cuda.is_available()
    if wanted == "gpu" and not there:
        raise InputError("--device gpu: PyTorch sees no GPU here: pass --device cpu")
    return "cuda" if there and wanted != "cpu" else "cpu"
