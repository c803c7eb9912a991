"""What a training tells while it runs: its bar, a line and a row for each epoch, its curves."""

from typing import Any

from parity.report.curves import Run, draw
from parity.shell.console import Console
from parity.shell.recipes import Recipe
from parity.shell.run_directory import RunDirectory

CURVES = "curves.png"


def epoch_line(row: dict[str, Any]) -> str:
    """What is printed of an epoch, whose row in metrics.jsonl this is."""
    name = "test" if "test_accuracy" in row else "validation"
    return (
        f"Epoch {row['epoch']}, Loss: {row['loss']:.3f}, "
        f"training {100 * row['train_accuracy']:.2f} %, "
        f"{name} {100 * row[f'{name}_accuracy']:.2f} %, lr {row['lr']:.3g}, {row['seconds']:.1f} s"
    )


def accuracy_line(accuracy: float) -> str:
    """What is printed at the end of a training."""
    return f"Accuracy: {100 * accuracy:.2f} %"


class TrainingLog:
    """Of one training, in its run directory.

    Args:
        directory: gets metrics.jsonl and curves.png.
        console: gets a line for each epoch.
        model: as it was named.
        framework: "jax" or "torch".
        recipe: of the training.
        tensorboard: whether TensorBoard's events are written too.
        title: of its lines on the console.
    """

    def __init__(
        self,
        directory: RunDirectory,
        console: Console,
        model: str,
        framework: str,
        recipe: Recipe,
        tensorboard: bool,
        title: str = "",
    ):
        self._directory, self._console, self._epochs = directory, console, recipe.epochs
        self._model, self._framework, self._title = model, framework, title
        self._name = "validation" if recipe.validation else "test"
        self._events: Any = None
        if tensorboard:
            from tensorboardX import SummaryWriter

            taken = [row["step"] for row in directory.rows if "step" in row]
            purge = taken[-1] + 1 if taken else None  # what was written after the checkpoint
            self._events = SummaryWriter(str(directory.path), purge_step=purge)

    def bar_text(self, *trainings: Any) -> str:
        """What stands beside the bar, of the progress of each training at once."""
        images = sum(progress.images for progress in trainings)
        loss = sum(progress.loss / progress.done for progress in trainings) / len(trainings)
        right = sum(progress.right for progress in trainings) / images
        speed = images / max(sum(progress.seconds for progress in trainings), 1e-9)
        return (
            f"epoch {trainings[0].epoch}/{self._epochs}, loss {loss:.3f}, {100 * right:.1f} %, "
            f"{speed:,.0f} images/s"
        )

    def epoch(self, epoch: Any, step: int, lr: float, accuracy: float) -> None:
        """After one, evaluated."""
        row = {
            "epoch": epoch.number,
            "step": step,
            "loss": epoch.loss,
            "train_accuracy": epoch.accuracy,
            f"{self._name}_accuracy": accuracy,
            "lr": lr,
            "seconds": epoch.seconds,
        }
        self._console.line(self._title + epoch_line(row))
        self._directory.metrics(**row)
        if self._events is not None:
            for name, value in row.items():
                if name not in ("epoch", "step"):
                    self._events.add_scalar(name, value, step)
            self._events.flush()

    def end(self, epochs: int, test_accuracy: float) -> None:
        """After the last one; the accuracy is that of the test images."""
        self._console.line(self._title + accuracy_line(test_accuracy))
        self._directory.metrics(epoch=epochs, test_accuracy=test_accuracy)

    def close(self) -> None:
        """Draws the curves, of whatever there is."""
        if self._events is not None:
            self._events.close()
        if any("loss" in row for row in self._directory.rows):
            path = self._directory.path
            run = Run(path.name, self._directory.rows, self._model, self._framework)
            draw([run], path / CURVES)
