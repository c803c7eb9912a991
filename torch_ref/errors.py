"""The errors of this package: bad input, and a training without numbers."""


class InputError(ValueError):
    """Bad input. The message is one line: what was wrong, where, and what to do."""


class NotFinite(Exception):
    """A training's loss is infinite or no number: at this step of this epoch, both from 1."""

    def __init__(self, loss: float, epoch: int, step: int):
        super().__init__(f"the loss is {loss} at step {step} of epoch {epoch}")
        self.loss, self.epoch, self.step = loss, epoch, step
