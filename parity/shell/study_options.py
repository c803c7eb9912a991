"""The options of `parity study`. Imports no framework."""

import dataclasses
from typing import Annotated, Literal

import tyro

from parity.shell.options import DataName, MaybeFloat, MaybeInt, MaybePath

StudyName = Literal["cnn-vs-resnet", "notebook", "choose-cnn", "residual"]


@dataclasses.dataclass(frozen=True)
class StudyOptions:
    """Trains many models to answer a question, and writes the answer with its plots.

    A study that is stopped, in whatever way, is gone on with by the same command: what is over is
    kept, and what was being trained goes on from its checkpoint. Several processes, also on several
    machines that share a --storage, do one study together.
    """

    name: Annotated[StudyName, tyro.conf.Positional]
    """cnn-vs-resnet: both kinds by the notebook's recipe and by one good one; notebook: its three
    trainings in both frameworks, and whether they end alike; choose-cnn: convolutions, filters and
    pooling; residual: nets with and without shortcuts, and their gradients"""

    framework: Annotated[
        Literal["jax", "torch", "both"] | None,
        tyro.conf.arg(metavar="{jax,torch,both}", help_behavior_hint=""),
    ] = None
    """what to train in; by default both for the notebook's, and else JAX"""

    seeds: MaybeInt = None
    """trainings of each model, by the seeds 0, 1 ...; by default the study's own"""

    epochs: MaybeInt = None
    """of every training; by default its recipe's"""

    only: Annotated[tuple[str, ...], tyro.conf.arg(metavar="[TEXT ...]")] = ()
    """do now only trainings of whose name one of these is a part"""

    minutes: MaybeFloat = None
    """begin no training after so long; by default all are done"""

    workers: int = 1
    """processes that train at a time"""

    at_once: Annotated[int, tyro.conf.arg(metavar="K")] = 1
    """seeds of a model that one process trains in one compiled step, in JAX; of use on a GPU"""

    search: MaybeInt = None
    """of choose-cnn: so many trainings that Optuna chooses, in place of the whole grid; one that
    promises nothing by its validation accuracy is given up"""

    data: DataName = "auto"
    """auto: CIFAR-10 if it is prepared or can be had, else scikit-learn's digits"""

    data_dir: MaybePath = None
    """where prepared data lies; by default $PARITY_DATA_DIR or the user's cache directory"""

    storage: Annotated[str | None, tyro.conf.arg(metavar="URL", help_behavior_hint="")] = None
    """the study's database, of any kind that Optuna takes; by default study.db in its folder"""

    dry_run: bool = False
    """tell how many trainings there are and how long they take, and do none"""

    out: MaybePath = None
    """the study's folder; by default runs/study-NAME"""
