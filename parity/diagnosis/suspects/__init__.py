"""The usual suspects: what porting a PyTorch call tends to get wrong.

Each is a change of one call, which is made on the PyTorch side by intercepting it. A change that
turns PyTorch's result into JAX's is the cause of their difference.
"""

from parity.diagnosis.suspects.by_function import HANDLERS, backward_suspects, suspects
from parity.diagnosis.suspects.call import Call, Changed, Thunk
from parity.diagnosis.suspects.intercept import Intercept

__all__ = ["HANDLERS", "Call", "Changed", "Intercept", "Thunk", "backward_suspects", "suspects"]
