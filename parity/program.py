"""The commands of `parity`: each is one file of `parity.commands`."""

import functools
import importlib
import importlib.util
import operator
import shutil
import textwrap
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import tyro

from jax_impl.errors import InputError
from jax_impl.models import registry
from parity.shell import cli, watched
from parity.shell.chosen import chosen_training
from parity.shell.earlier import options_of
from parity.shell.look_options import (
    CompareOptions,
    SpeedCompareOptions,
    SpeedPlotOptions,
    SummaryOptions,
)
from parity.shell.options import (
    RUNG_PURPOSES,
    ConvertOptions,
    ListOptions,
    PrepareOptions,
    RecipeName,
    RecipesOptions,
    RunOptions,
    SpeedOptions,
)
from parity.shell.recipes import RECIPES, check_run
from parity.shell.study_options import StudyOptions
from parity.shell.train_options import TrainOptions
from parity.shell.use_options import EvaluateOptions, ExportOptions, PredictOptions

COMMANDS: dict[str, type] = {
    "run": RunOptions,
    "speed": SpeedOptions,
    "speed plot": SpeedPlotOptions,
    "speed compare": SpeedCompareOptions,
    "train": TrainOptions,
    "recipes": RecipesOptions,
    "evaluate": EvaluateOptions,
    "predict": PredictOptions,
    "export": ExportOptions,
    "convert": ConvertOptions,
    "prepare": PrepareOptions,
    "summary": SummaryOptions,
    "compare": CompareOptions,
    "study": StudyOptions,
    "list": ListOptions,
}
"""Their options, in the order in which the help names them."""


def _union(**defaults: Any) -> Any:
    """The options of every command as tyro takes them; of some with other defaults."""
    parts = []
    for name, kind in COMMANDS.items():
        given = {"default": defaults[name]} if name in defaults else {}
        parts.append(Annotated[kind, tyro.conf.subcommand(name, **given)])
    return functools.reduce(operator.or_, parts)


Options = _union()

EXAMPLES = {
    "": ("parity run --models simple_cnn", "parity train --model resnet18 --epochs 2"),
    "run": (
        "parity run --models resnet20 plain18:stem=cifar --rungs forward gradients",
        "parity run --pair my_port:make_pair",
    ),
    "speed": (
        "parity speed --workloads simple_cnn@32 --modes train",
        "parity speed --workloads resnet18@16 --variants scan eager fused_channels_last",
    ),
    "speed plot": (
        "parity speed plot runs/speed-20261128-101500",
        "parity speed plot laptop.json server.json --plot faster.svg",
    ),
    "speed compare": (
        "parity speed compare runs/speed-old runs/speed-new",
        "parity speed compare before.json after.json",
    ),
    "train": (
        "parity train --recipe resnet20_he --epochs 30 --schedule cosine --warmup 2",
        "parity train --framework torch --model simple_cnn:kernel_size=5 --data digits",
    ),
    "evaluate": (
        "parity evaluate runs/mine",
        "parity evaluate resnet20.pth --model resnet20 --framework torch --data cifar10",
    ),
    "predict": (
        "parity predict runs/mine cat.jpg ship.png",
        "parity predict resnet20.safetensors photo.jpg --model resnet20",
    ),
    "export": (
        "parity export runs/mine mine.jaxexport",
        "parity export resnet20.pth resnet20.jaxexport --model resnet20",
    ),
    "convert": (
        "parity convert resnet50.pth resnet50.safetensors --model resnet50:num_classes=1000",
        "parity convert runs/mine/weights.safetensors checkpoint --model simple_cnn",
    ),
    "prepare": (
        "parity prepare",
        "parity prepare --archive cifar-10-binary.tar.gz --data-dir ~/data",
    ),
    "recipes": ("parity recipes", "parity recipes resnet20_he"),
    "summary": (
        "parity summary resnet18:stem=cifar",
        "parity summary resnet50 --image-size 224 --batch-size 32",
    ),
    "compare": (
        "parity compare runs/one runs/two",
        "parity compare runs/resnet20-* --plot resnet20.svg",
    ),
    "study": (
        "parity study choose-cnn --dry-run",
        "parity study cnn-vs-resnet --only simple_cnn resnet20 --seeds 1",
    ),
    "list": ("parity list", "parity list --table"),
}
"""The end of each command's help."""


def main(options: Any, arguments: Sequence[str] = ()) -> int | None:
    """Returns the exit status. A typo is told before a framework is loaded.

    Options are those of the command line's `arguments`.
    """
    name = next(name for name, kind in COMMANDS.items() if kind is type(options)).replace(" ", "_")
    match options:
        case ListOptions(table=False):
            return _list()
        case RecipesOptions():
            return _recipes(options.names or tuple(RECIPES))
        case ListOptions():
            _need_torch()
            from parity.pairs.family import table

            print(table())
            return 0
        case RunOptions():
            _need_torch()
            check_run(options)
        case SpeedOptions():
            _need_torch()
        case TrainOptions():
            chosen_training(options)
            if options.coordinator is not None and not watched.is_watched():
                return watched.watch(arguments)
            name = f"train_{options.framework}"
        case EvaluateOptions() | PredictOptions() | ExportOptions():
            if options.model is not None:
                registry.parse(options.model)
    if getattr(options, "framework", "jax") == "torch":
        _need_torch()
    with cli.held_interrupts():
        command = importlib.import_module(f"parity.commands.{name}")
    return command.run(options)


def _list() -> int:
    print("models, with their options:")
    width = shutil.get_terminal_size().columns
    models = {name: " ".join(registry.options_of(name)) for name in registry.MODELS}
    for title, column, lines in (("", 16, models), ("rungs:", 12, RUNG_PURPOSES)):
        if title:
            print(title)
        for name, text in lines.items():
            first, rest = f"  {name:{column}} ", " " * (column + 3)
            print(textwrap.fill(text, width, initial_indent=first, subsequent_indent=rest))
    return 0


def _recipes(names: Sequence[RecipeName]) -> int:
    width = shutil.get_terminal_size().columns
    for name in names:
        named = RECIPES[name]
        print(f"{name}: {named.model}")
        command = f"parity train --recipe {name}"
        told = command, named.source, named.accuracy, named.cost, named.recipe.in_words()
        for text in told:
            print(
                textwrap.fill(
                    text,
                    width,
                    initial_indent="  ",
                    subsequent_indent="    ",
                    break_long_words=False,
                    break_on_hyphens=False,
                )
            )
    return 0


def _need_torch() -> None:
    if not importlib.util.find_spec("torch"):
        raise InputError("PyTorch is not installed: pip install 'jax-torch-parity[torch]'")


def run(arguments: Sequence[str]) -> NoReturn:
    """Does what a command line asks for, and exits."""
    begin = functools.partial(main, arguments=arguments)
    with watched.reporting(_leave):
        cli.run(begin, _options, args=named(arguments), prog="parity", examples=EXAMPLES)


def _leave() -> None:
    from jax_impl.training import hosts

    hosts.leave()


def named(arguments: Sequence[str]) -> Sequence[str]:
    """The arguments, with the name of a command of two words as one."""
    name = " ".join(arguments[:2])
    return [name, *arguments[2:]] if name in COMMANDS else arguments


def _options(arguments: Sequence[str]) -> Any:
    """The `Options`; those of `train` begin with an earlier training's where one is named."""
    earlier = options_of(arguments) if "train" in arguments[:1] else None
    return Options if earlier is None else _union(train=earlier)
