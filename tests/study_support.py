"""Trainings that are over, made up, and a study that is quickly done."""

import math
from collections.abc import Callable
from typing import Any

from parity.study.description import Study, Training

TINY = Study(
    "choose-cnn",
    "Which of two?",
    tuple(
        Training(f"{channels} channels", f"simple_cnn:channels={channels}:hidden=4", "notebook_cnn")
        for channels in (2, 3)
    ),
    1,
    "curves",
)


def made_up(study: Study, accuracy: Callable[[Training], float], **others: Any) -> list[dict]:
    """A result for every training of a study, whose accuracies end at what is given for each."""
    found = []
    for training in study.trainings(None, None):
        end = accuracy(training)
        held_out = "validation" if training.validated else "test"
        rows = [
            {
                "epoch": epoch,
                "loss": 2 * math.exp(-epoch * end),
                "train_accuracy": end * epoch / 3,
                f"{held_out}_accuracy": end * epoch / 3,
                "seconds": 2.0,
            }
            for epoch in (1, 2, 3)
        ]
        found.append(
            {
                **training.as_json(),
                "data": "digits",
                "command": "parity train",
                "epochs": 3,
                "stopped": False,
                "rows": rows,
                "held_out": held_out,
                "held_out_accuracy": end,
                "test_accuracy": end,
                "seconds": 6.0,
                "parameters": 100 + 10 * len(training.model),
                "flops": 1_000_000 * (1 + len(training.model)),
                "field": 10,
                "device": "cpu",
                "cpu": "a processor",
                "cores": 2,
                "commit": "abc",
                "python": "3.11",
                **others,
            }
        )
    return found


def told(study: Study, results: list[dict]) -> dict[str, Any]:
    """What study.json would hold."""
    return {
        "study": study.name,
        "data": "digits",
        "planned": len(results) + 1,
        "command": f"parity study {study.name}",
        "failed": {"one of <them>": "it ended & said nothing"},
        "trainings": results,
    }
