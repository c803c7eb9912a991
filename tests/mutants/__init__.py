"""Planted bugs: realistic faults of a port, each a small patch of a correct twin.

`run(mutant)` climbs the ladder and says at which rung the bug is caught and what the diagnosis
names. `MUTANTS` has all of them.
"""

from mutants.catalogue import MUTANTS
from mutants.runner import Mutant, Outcome, run

__all__ = ["MUTANTS", "Mutant", "Outcome", "run"]
