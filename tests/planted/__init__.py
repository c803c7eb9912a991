"""Bugs planted in models that are not this project's, to measure the suite with.

`NETS` are correct pairs, `BUGS` faulty ones; `runner.run(bug)` climbs the ladder and says what was
told.
"""

from planted.bug import Bug, Fault
from planted.bugs import BUGS
from planted.nets import NETS

__all__ = ["BUGS", "NETS", "Bug", "Fault"]
