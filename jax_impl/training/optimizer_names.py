"""The names of what a training is made of. Imports no framework."""

from typing import Literal, get_args

OptimizerName = Literal["adam", "adamw", "rmsprop", "sgd"]
"""Each is a function of `optim`, and in small letters a class of `torch.optim`."""

OPTIMIZERS: tuple[OptimizerName, ...] = get_args(OptimizerName)
