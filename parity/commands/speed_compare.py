"""`parity speed compare`: what changed between two saved runs. Imports no framework."""

from parity.shell.look_options import SpeedCompareOptions
from parity.speed import changes
from parity.speed.saved import read


def run(options: SpeedCompareOptions) -> None:
    """Prints the change of every task that both timed."""
    print("\n".join(changes.lines(read(options.before), read(options.after))))
