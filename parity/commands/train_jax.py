"""`parity train`: trains a Flax model, or several from as many seeds at once. No PyTorch."""

import contextlib
import dataclasses
import math
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

import jax_impl.data.datasets
from jax_impl.data.archive import Split
from jax_impl.data.pipeline import Loader, held
from jax_impl.errors import InputError, NotFinite, one_line
from jax_impl.models.model import Model, from_spec
from jax_impl.models.registry import Spec
from jax_impl.training.compilation import keep_compiled
from jax_impl.training.epoch import make_train_epoch
from jax_impl.training.evaluate import make_evaluate
from jax_impl.training.fit import Epoch, Progress, fit, fit_together
from jax_impl.training.hosts import Hosts, join
from jax_impl.training.mesh import make_mesh
from jax_impl.training.mesh_axes import axes_of
from jax_impl.training.precision import be_deterministic, set_precision
from jax_impl.training.state import TrainState, stacked, unstacked
from parity.commands.jax_training import Run, Training
from parity.commands.processes import agreed, check_alike
from parity.pairs.jax_recipe import learning_rate, make_optimizer
from parity.shell import data_choice, watched
from parity.shell.chosen import chosen_training
from parity.shell.cli import INTERRUPTED
from parity.shell.console import Console
from parity.shell.earlier import check_same, devices_of, settings
from parity.shell.files import default_out
from parity.shell.recipes import IMAGE_SIZE, Recipe, check_validation, one_image, small_share
from parity.shell.run_directory import Followed, RunDirectory, config_of
from parity.shell.saving import all_of, digest, stop_requests, told_interrupts
from parity.shell.train_options import TrainOptions

PACE = 2.0
"""Seconds after which the bar moves on and a request to stop is answered, about."""


def run(options: TrainOptions) -> int:
    """Trains, evaluates, and fills the run directories; 1 if one stopped at a loss that is none.

    Of the processes on many hosts the first does so; the others train with it.
    """
    spec, recipe = chosen_training(options)
    keep_compiled()
    if options.deterministic:
        be_deterministic()
    hosts = _joined(options)
    try:
        status = _run(options, spec, recipe, hosts)
        hosts.any(False)  # what is to be written, is
        return status
    except KeyboardInterrupt:
        if hosts.rank == 0:
            raise
        return INTERRUPTED  # the first one says where
    except RuntimeError as error:
        if hosts.count > 1 and watched.is_of_others(error):
            watched.tell("lost", one_line(error))
            os._exit(1)  # what JAX does at its end waits for the others
        raise


def _joined(options: TrainOptions) -> Hosts:
    where, rank = options.coordinator, options.process_id
    if rank is not None:
        watched.tell("rank", rank)
    who = "this process" if rank is None else f"process {rank}"
    met = join(where, options.num_processes, rank, lambda: print(f"{who} waits for the others"))
    watched.tell("rank", met.rank)
    watched.tell("met", met.count)
    return met


def _run(options: TrainOptions, spec: Spec, recipe: Recipe, hosts: Hosts) -> int:
    console = Console(quiet=hosts.rank > 0)
    training, choice = agreed(hosts, lambda: _made(options, spec, recipe, hosts, console))
    check_alike(hosts, training.of)
    options = training.options
    going_on = options.resume is not None
    trainings = [training] if options.at_once == 1 else _by_seed(training, choice.name)
    with contextlib.ExitStack() as stack:
        directories = []
        for one in trainings:
            directory = stack.enter_context(_directory(one))
            directories.append(directory)
            if not going_on:
                told = config_of(one.options, spec, recipe, choice, "jax", training.device)
                leaves = jax.tree.leaves(training.model.shapes.params)
                told |= {"parameters": sum(math.prod(leaf.shape) for leaf in leaves)}
                if len(trainings) > 1:
                    told["trained_at_once"] = [other.options.seed for other in trainings]
                if hosts.count > 1:
                    told["processes"] = hosts.count
                directory.config(told)
        where = " and ".join(str(directory.path) for directory in directories)
        kind = "directory" if len(directories) == 1 else "directories"
        many = f"{training.mesh.size} of " if training.mesh is not None else ""
        by = f", {hosts.count} processes" if hosts.count > 1 else ""
        console.line(f"{spec} on {many}{training.device}{by}, run {kind} {where}")
        for directory in directories:
            stack.enter_context(told_interrupts(directory))
        if len(trainings) == 1:
            return _train(training, directories[0], console)
        return _train_together(trainings, directories, console)


def _made(
    options: TrainOptions, spec: Spec, recipe: Recipe, hosts: Hosts, console: Console
) -> tuple[Training, data_choice.Choice]:
    """What is trained, and why on these data."""
    device = choose_device(options.device)
    dtype = set_precision(options.precision, device.platform)
    choice = data_choice.resolve(options.data, options.data_dir, console.line)
    check_same(options, str(spec), recipe, choice.name)
    console.paragraph(choice.reason)
    datasets = jax_impl.data.datasets
    load = datasets.open_dataset if options.loader == "grain" else datasets.load_dataset
    dataset = load(choice.name, options.data_dir)
    check_validation(recipe.validation, len(dataset.train.labels))
    train, held_out = split_off(dataset.train, recipe.validation)
    devices = jax.devices(device.platform)
    if hosts.count > 1 and options.mesh is None:
        options = dataclasses.replace(options, mesh=f"data={len(devices)}")
    mesh = _mesh(options, devices, hosts)
    parts = devices_of(options) if options.batch_norm == "local" else 1
    model = from_spec(spec, parts)
    check_batches(model, len(train.labels), recipe.batch_size, parts)
    batches = -(-len(train.labels) // recipe.batch_size)
    training = Training(
        options,
        spec,
        recipe,
        device.device_kind,
        dtype,
        train,
        held(held_out) if recipe.validation else dataset.test,
        dataset.test,
        model,
        learning_rate(recipe, batches),
        make_optimizer(recipe, batches),
        make_evaluate(model, dtype=dtype, mirror=recipe.mirror, mesh=mesh),
        digest([settings(options, choice.name), str(spec), dataclasses.asdict(recipe)]),
        mesh,
        hosts,
    )
    return training, choice


def _directory(training: Training) -> RunDirectory:
    """Made by the first process, and followed by the others."""
    options, hosts = training.options, training.hosts
    place, going_on = options.resume or options.out, options.resume is not None

    def own() -> RunDirectory | None:
        return None if hosts.rank else RunDirectory(place, str(training.spec), "jax", going_on)

    made = agreed(hosts, own)
    path = Path(hosts.gathered(str(made.path if made else ""))[0])
    watched.tell("folder", path)
    return made or Followed(path, going_on)


def _train(training: Training, directory: RunDirectory, console: Console) -> int:
    with contextlib.closing(Run(training, directory, console)) as run:
        with stop_requests() as asked, console.bar("compiling", training.steps) as show:

            def agree_to_stop() -> None:
                if training.hosts.count > 1 and training.hosts.any(bool(asked)) and not asked:
                    asked.append("")

            def on_steps(progress: Progress, state: TrainState) -> None:
                agree_to_stop()
                show(progress.step, run.log.bar_text(progress))
                run.after_steps(progress, lambda: state, asked)

            def on_epoch(epoch: Epoch, state: TrainState) -> None:
                agree_to_stop()
                run.after_epoch(epoch, state, asked)

            try:
                state, _ = fit(
                    make_epoch(training, training.options.seed),
                    run.state,
                    training.train,
                    run.orders(),
                    start=run.start,
                    keep_going=training.options.keep_going,
                    seconds=PACE,
                    mesh=training.mesh,
                    loader=_loader(training),
                    on_epoch=on_epoch,
                    on_steps=on_steps,
                )
            except NotFinite as stop:
                console.line(run.stopped(stop))
                return 1
            run.end(state)
    return 0


def _loader(training: Training) -> Loader | None:
    options = training.options
    if options.loader == "device":
        return None
    return Loader(training.recipe.batch_size, options.workers)


def _by_seed(training: Training, data: str) -> list[Training]:
    """The trainings at once, each as it is on its own: with its seed, and its run directory."""
    options, recipe = training.options, training.recipe
    out = options.out or default_out(f"{training.spec.name}-jax")
    found = []
    for seed in range(options.seed, options.seed + options.at_once):
        place = out.with_name(f"{out.name}-{seed}")
        own = dataclasses.replace(options, seed=seed, at_once=1, out=place)
        of = digest([settings(own, data), str(training.spec), dataclasses.asdict(recipe)])
        found.append(dataclasses.replace(training, options=own, of=of))
    return found


def _train_together(
    trainings: Sequence[Training], directories: Sequence[RunDirectory], console: Console
) -> int:
    first, seeds = trainings[0], [training.options.seed for training in trainings]
    with contextlib.ExitStack() as stack:
        runs = []
        for training, directory in zip(trainings, directories, strict=True):
            title = f"seed {training.options.seed}: "
            made = Run(training, directory, console, title, len(trainings))
            runs.append(stack.enter_context(contextlib.closing(made)))
        asked = stack.enter_context(stop_requests())
        show = stack.enter_context(console.bar("compiling", first.steps))

        def on_steps(going: dict[int, Progress], states: TrainState) -> None:
            show(max(p.step for p in going.values()), runs[0].log.bar_text(*going.values()))
            stop = asked[:] if asked else []  # for all of them the same
            all_of(
                partial(runs[k].after_steps, progress, partial(unstacked, states, k), stop)
                for k, progress in going.items()
            )

        def on_epoch(epochs: dict[int, Epoch], states: TrainState) -> None:
            stop = asked[:] if asked else []
            all_of(
                partial(runs[k].after_epoch, epoch, unstacked(states, k), stop)
                for k, epoch in epochs.items()
            )

        states, going = fit_together(
            make_epoch(first, seeds),
            stacked([run.state for run in runs]),
            first.train,
            zip(*(run.orders() for run in runs), strict=True),
            keep_going=first.options.keep_going,
            seconds=PACE,
            on_epoch=on_epoch,
            on_steps=on_steps,
            on_stop=lambda k, stop: console.line(runs[k].stopped(stop)),
        )
        errors = []
        for k in going:
            try:
                runs[k].end(unstacked(states, k))
            except InputError as error:  # of its own place; the others have theirs
                errors.append(error)
        if errors:
            raise errors[0]
    return 1 if len(going) < len(runs) else 0


def make_epoch(training: Training, seed: int | Sequence[int]) -> Any:
    """The compiled epoch of a training by its seed, or of as many at once as there are seeds."""
    recipe = training.recipe
    return make_train_epoch(
        training.model,
        training.optimizer,
        recipe.batch_size,
        training.dtype,
        recipe.augment,
        seed,
        recipe.label_smoothing,
        training.mesh,
    )


def split_off(split: Split, images: int) -> tuple[Split, Split]:
    """All but the last so many images, and those."""
    at = len(split.labels) - images
    return (
        Split(split.images[:at], split.labels[:at]),
        Split(split.images[at:], split.labels[at:]),
    )


def check_batches(model: Model, images: int, batch_size: int, parts: int = 1) -> None:
    """Raises InputError if a batch has too few images for the statistics of each of its parts."""
    for size in {min(batch_size, images), images % batch_size or batch_size}:
        if size // parts > 1:
            continue
        batch = jax.ShapeDtypeStruct((size, *IMAGE_SIZE, 3), "float32")
        try:
            jax.eval_shape(partial(model.apply, train=True), model.shapes, batch)
        except InputError as error:
            alone = parts == 1
            problem = (
                one_image(images, batch_size) if alone else small_share(size, parts, "devices")
            )
            raise problem from error


def _mesh(options: TrainOptions, devices: Sequence[Any], hosts: Hosts) -> Mesh | None:
    if options.mesh is None:
        return None
    try:
        mesh = make_mesh(axes_of(options.mesh), devices)
    except InputError as error:
        raise InputError(f"--mesh {options.mesh}: {error}") from error
    if hosts.count > 1 and mesh.size < len(devices):
        raise InputError(
            f"--mesh {options.mesh}: {hosts.count} processes train on all of their {len(devices)} "
            "devices: give a mesh of so many, or leave it out"
        )
    return mesh


def choose_device(wanted: str) -> Any:
    """Makes the first device of a platform JAX's default one, and returns it.

    Raises:
        InputError: JAX has no such platform here.
    """
    try:
        device = jax.local_devices(backend=None if wanted == "auto" else wanted)[0]
    except RuntimeError as error:
        platforms = jax.default_backend()
        raise InputError(f"--device {wanted}: JAX sees only {platforms} here") from error
    jax.config.update("jax_default_device", device)
    return device
