"""`parity train --framework torch`: trains a PyTorch model as the notebook does."""

import contextlib
import copy
import dataclasses
import hashlib
import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Subset

import jax_impl.data.datasets
import jax_impl.errors
import torch_ref.augment
import torch_ref.data
import torch_ref.distributed
import torch_ref.models
import torch_ref.train
from jax_impl.models.registry import Spec
from parity.commands.processes import agreed, check_alike, lost_another
from parity.pairs.torch_recipe import make_optimizer
from parity.report.training_log import TrainingLog
from parity.shell import data_choice
from parity.shell.chosen import chosen_training
from parity.shell.cli import INTERRUPTED
from parity.shell.console import Console
from parity.shell.earlier import check_same, settings
from parity.shell.files import write_whole
from parity.shell.recipes import IMAGE_SIZE, Recipe, check_validation, one_image, small_share
from parity.shell.run_directory import CHECKPOINT, Followed, RunDirectory, check_space, config_of
from parity.shell.saving import (
    Saving,
    anew,
    check_digest,
    digest,
    going_on,
    stop_requests,
    told_interrupts,
)
from parity.shell.train_options import TrainOptions
from torch_ref.distributed import ALONE, Processes
from torch_ref.errors import InputError, NotFinite
from torch_ref.precision import be_deterministic, set_precision
from torch_ref.train import Epoch, Progress

AS_BEFORE = " (with torchrun, as before)"


@dataclasses.dataclass(frozen=True)
class Training:
    """What is trained, on what, and how; `trained` is `model` in its precision."""

    options: TrainOptions
    spec: Spec
    recipe: Recipe
    device: str
    train: Any
    held_out: Any
    test: Any
    model: nn.Module
    trained: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: Any
    average: Any
    of: str
    processes: Processes = ALONE

    @property
    def batches(self) -> int:
        """Of an epoch."""
        return -(-len(self.train) // self.recipe.batch_size)

    @property
    def averaged(self) -> nn.Module:
        """The model to evaluate and to keep."""
        return self.model if self.average is None else self.average.module

    def parts(self) -> dict[str, Any]:
        """What training changes, by name."""
        found = {"model": self.model, "optimizer": self.optimizer, "scheduler": self.scheduler}
        return {k: v for k, v in (found | {"average": self.average}).items() if v is not None}


def run(options: TrainOptions) -> int:
    """Trains, evaluates, and fills the run directory; 1 if it stopped before its end.

    Of the processes that `torchrun` started the first does so; the others train with it.
    """
    spec, recipe = chosen_training(options)
    device = choose_device(options.device)
    if options.deterministic:
        be_deterministic()
    with torch_ref.distributed.joined(device) as processes:
        console = Console(quiet=processes.rank > 0)
        try:
            told = options, spec, recipe, device, processes, console
            training, choice = agreed(processes, lambda: _made(*told))
            check_alike(processes, training.of)
            divided = torch_ref.distributed.divided(training.trained, processes, options.batch_norm)
            return _run(dataclasses.replace(training, trained=divided), choice, console)
        except KeyboardInterrupt:
            if processes.rank == 0:
                raise
            return INTERRUPTED  # the first one says where
        except RuntimeError as error:
            if not processes.lost(error):
                raise
            return lost_another(processes, how=AS_BEFORE)


def _made(
    options: TrainOptions,
    spec: Spec,
    recipe: Recipe,
    device: str,
    processes: Processes,
    console: Console,
) -> tuple[Training, data_choice.Choice]:
    """What is trained, at its start, and why on these data."""
    choice = data_choice.resolve(options.data, options.data_dir, console.line)
    check_same(options, str(spec), recipe, choice.name)
    console.paragraph(choice.reason)
    data_dir = jax_impl.data.datasets.data_directory(options.data_dir)
    train, held_out, test = _data(choice.name, data_dir, recipe, options.seed)
    torch.manual_seed(options.seed)
    model = torch_ref.models.create_model(spec.name, **dataclasses.asdict(spec.options)).to(device)
    check_batches(model, len(train), recipe.batch_size, device, processes, options.batch_norm)
    trained = set_precision(model, options.precision, device)
    optimizer, scheduler = make_optimizer(model, recipe, -(-len(train) // recipe.batch_size))
    average = None if recipe.ema is None else torch_ref.train.averaged(model, recipe.ema)
    of = digest([settings(options, choice.name), str(spec), dataclasses.asdict(recipe)])
    data, made = (train, held_out, test), (optimizer, scheduler, average)
    return Training(
        options, spec, recipe, device, *data, model, trained, *made, of, processes
    ), choice


def _run(training: Training, choice: data_choice.Choice, console: Console) -> int:
    options, spec, processes = training.options, training.spec, training.processes
    place, begun = options.resume or options.out, options.resume is not None

    def directory_of() -> RunDirectory | None:
        return None if processes.rank else RunDirectory(place, str(spec), "torch", begun)

    own = agreed(processes, directory_of)
    path = processes.gathered(None if own is None else own.path)[0]
    with own or Followed(path, begun) as directory:
        if not begun:
            told = config_of(options, spec, training.recipe, choice, "torch", training.device)
            count = sum(p.numel() for p in training.model.parameters())
            many = {"processes": processes.count} if processes.count > 1 else {}
            directory.config(told | {"parameters": count} | many)
        by = f", {processes.count} processes" if processes.count > 1 else ""
        console.line(f"{spec} on {training.device}{by}, run directory {directory.path}")
        with told_interrupts(directory):
            return _train(training, directory, console)


def _data(name: str, data_dir: Path, recipe: Recipe, seed: int) -> tuple[Any, Any, Any]:
    """The images to train on, to evaluate after each epoch, and to test."""
    training_set, test_set = torch_ref.data.load(name, data_dir)
    size = len(training_set)
    check_validation(recipe.validation, size)
    held_out: Any = test_set
    if recipe.validation:
        held_out = Subset(copy.copy(training_set), range(size - recipe.validation, size))
    if recipe.augment:
        training_set.transform = torch_ref.augment.transform(
            IMAGE_SIZE[0], **dataclasses.asdict(recipe.augment)
        )
    train: Any = Subset(training_set, range(size - recipe.validation))
    if recipe.augment.alternate:
        train = torch_ref.augment.Alternating(train, seed)
    return train, held_out, test_set


def _train(training: Training, directory: RunDirectory, console: Console) -> int:
    options, recipe = training.options, training.recipe
    start, path = torch_ref.train.START, directory.path / CHECKPOINT
    if options.resume:
        try:
            start, rows = agreed(training.processes, lambda: _restore(path, training))
        except InputError as error:
            raise InputError(f"{error}; {anew(directory.path)}") from error
        directory.again(rows)
        console.line(going_on(start, recipe.epochs))

    def room() -> _Store | None:
        if not options.checkpoint_every or training.processes.rank:
            return None
        size = sum(p.nbytes for p in training.model.parameters())
        check_space(directory.path, 4 * size, 1)
        return _Store(path)

    store = agreed(training.processes, room)
    events = options.tensorboard and training.processes.rank == 0
    log = TrainingLog(directory, console, str(training.spec), "torch", recipe, events)
    random = [torch.get_rng_state()]

    def save(progress: Progress, accuracy: float | None) -> None:
        if store is None or not (options.keep_going or _finite(training.model)):
            return  # the next step's loss will say so
        within = progress.done > 0
        told = {"progress": progress._asdict(), "rows": directory.rows, "of": training.of}
        parts = {name: part.state_dict() for name, part in training.parts().items()}
        state = random[0] if within else torch.get_rng_state()
        store.write({"told": json.dumps(told), "random": state, **parts})

    places = directory.path, console.line, start.step
    saving = Saving(store, save, options.checkpoint_every, training.batches, recipe.epochs, *places)
    held_out = torch_ref.data.make_loader(training.held_out, 100, seed=0)  # draws of its own
    evaluated = set_precision(training.averaged, options.precision, training.device)

    def test(loader: Any) -> float:
        if training.processes.rank:
            return math.nan  # the first one's to tell
        return torch_ref.train.test(
            evaluated, loader, training.device, mirror=recipe.mirror, print=_silent
        )

    def loaders() -> Iterator[Any]:
        loader = torch_ref.data.make_loader(training.train, recipe.batch_size, shuffle=True)
        for number in range(start.epoch, recipe.epochs + 1):
            training.train.epoch = number  # which of the flips that alternate are made
            random[0] = torch.get_rng_state()
            yield loader

    with contextlib.ExitStack() as stack:
        stack.callback(log.close)
        asked = stack.enter_context(stop_requests())
        show = stack.enter_context(console.bar("training", recipe.epochs * training.batches))

        def agree_to_stop() -> None:
            if training.processes.count == 1:
                return
            if training.processes.any(bool(asked), training.device) and not asked:
                asked.append("")

        def on_steps(progress: Progress) -> None:
            agree_to_stop()
            show(progress.step, log.bar_text(progress))
            if progress.step % recipe.accumulate == 0:  # gradients are not saved
                saving.after_steps(progress, asked)

        def on_epoch(epoch: Epoch) -> None:
            step = epoch.number * training.batches
            accuracy = test(held_out)
            agree_to_stop()
            log.epoch(epoch, step, epoch.lr, accuracy)
            if step % recipe.accumulate == 0 or epoch.number == recipe.epochs:
                saving.after_epoch(Progress(step, epoch.number + 1), accuracy, asked)

        try:
            torch_ref.train.train(
                training.trained,
                loaders(),
                nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing),
                training.optimizer,
                training.device,
                scheduler=training.scheduler,
                clip_norm=recipe.clip_norm,
                accumulate=recipe.accumulate,
                average=training.average,
                start=start,
                keep_going=options.keep_going,
                processes=training.processes,
                print=_silent,
                on_epoch=on_epoch,
                on_steps=on_steps,
            )
        except NotFinite as stop:
            lr = training.optimizer.param_groups[0]["lr"]
            console.line(directory.stopped(stop, lr, saving.saved))
            return 1
        except RuntimeError as error:
            if not training.processes.lost(error):
                raise
            return lost_another(training.processes, directory, AS_BEFORE)
        saving.end()
        log.end(recipe.epochs, test(torch_ref.data.make_loader(training.test, 100, seed=0)))
        state = training.averaged.state_dict()
        arrays = {name: value.cpu().numpy() for name, value in state.items()}
        directory.weights(arrays, training.spec, "torch")
    return 0


class _Store:
    """One file, which the next checkpoint replaces."""

    def __init__(self, path: Path):
        self._path = path
        self._failure: str | None = None

    def write(self, content: dict[str, Any]) -> None:
        inner, outer = io.BytesIO(), io.BytesIO()
        torch.save(content, inner)
        whole = inner.getvalue()
        held = torch.frombuffer(bytearray(whole), dtype=torch.uint8)
        torch.save({"content": held, "sha256": hashlib.sha256(whole).hexdigest()}, outer)
        try:
            write_whole(self._path, outer.getvalue())
        except ValueError as error:
            self._failure = str(error)

    def failure(self) -> str | None:
        """Why the last one could not be written, told once."""
        told, self._failure = self._failure, None
        return told

    def wait(self) -> None:
        """Nothing is written in the background."""


class _Damaged(ValueError):
    """What a checkpoint says of itself is not so."""


def _restore(path: Path, training: Training) -> tuple[Progress, list[dict[str, Any]]]:
    """Makes a training's parts those of a checkpoint; gives where it stands, and its rows.

    Raises:
        InputError: there is no whole one of this training.
    """
    try:
        outer = torch.load(path, map_location="cpu", weights_only=True)
        whole = outer["content"].numpy().tobytes()
        if hashlib.sha256(whole).hexdigest() != outer["sha256"]:
            raise _Damaged("its checksum is another")
        content = torch.load(io.BytesIO(whole), map_location="cpu", weights_only=True)
        told = json.loads(content["told"])
        check_digest(training.of, told)
        for name, part in training.parts().items():
            part.load_state_dict(content[name])
        torch.set_rng_state(content["random"])
        return Progress(**told["progress"]), told["rows"]
    except FileNotFoundError as error:
        raise InputError(f"{path} is no checkpoint to go on from: it is not there") from error
    # Damaged files meet PyTorch with errors of many types, and advice that is none here.
    except Exception as error:
        known = isinstance(error, jax_impl.errors.InputError | _Damaged)
        why = (
            jax_impl.errors.one_line(error, 200)
            if known
            else "it is damaged, or PyTorch's of something else"
        )
        raise InputError(f"{path} is no checkpoint to go on from: {why}") from error


def _finite(model: nn.Module) -> bool:
    return all(bool(torch.isfinite(p).all()) for p in model.parameters())


def _silent(_: str) -> None:
    """Takes what is told otherwise."""


def check_batches(
    model: nn.Module,
    images: int,
    batch_size: int,
    device: str,
    processes: Processes = ALONE,
    batch_norm: str = "global",
) -> None:
    """Raises InputError if a batch is too small for the processes, or the model's statistics."""
    sizes = min(batch_size, images), images % batch_size or batch_size
    if (least := min(sizes)) < processes.count:
        raise InputError(
            f"the {'last ' * (sizes[0] > least)}batch of an epoch has {least} images, not one for "
            f"each of {processes.count} processes: give another --batch-size"
        )
    if least // (parts := processes.count if batch_norm == "local" else 1) > 1:
        return
    try:
        copy.deepcopy(model).train()(torch.zeros(1, 3, *IMAGE_SIZE, device=device))
    except ValueError as error:
        alone = parts == 1
        problem = one_image(images, batch_size) if alone else small_share(least, parts, "processes")
        raise problem from error


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
