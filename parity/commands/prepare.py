"""`parity prepare`: puts CIFAR-10 where both frameworks read it."""

from jax_impl.data.datasets import data_directory
from parity.shell.options import PrepareOptions
from parity.shell.prepare import prepare


def run(options: PrepareOptions) -> None:
    """Prepares as the command line asks.

    Raises:
        InputError: an archive that is unusable, or a directory that holds something else.
    """
    prepare(data_directory(options.data_dir), options.archive, options.overwrite)
