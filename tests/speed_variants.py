"""What the tests of `parity speed` inject: workers and variants, some of them wrong."""

import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from jax_impl.errors import InputError
from parity.speed.runner import Runner, Setup


class Odd:
    """A worker's object that does what frameworks do."""

    def prints(self) -> str:
        print('{"result": "stray"}')
        sys.stdout.flush()
        os.write(1, b"a library writes to the descriptor\n")
        subprocess.run([sys.executable, "-c", "print('a child prints')"], check=True)
        return "meant"

    def raises(self) -> None:
        raise RuntimeError("first line\n  second line")

    def refuses(self) -> None:
        raise InputError("bad input")

    def dies(self) -> None:
        sys.stderr.write("why it died\n")
        sys.stderr.flush()
        os._exit(3)

    def sleeps(self) -> None:
        time.sleep(60)

    def starts_a_child(self) -> int:
        return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]).pid


class Fake:
    """A runner of no framework, as its settings say."""

    def __init__(self, settings: Any):
        self.settings = settings

    def losses(self) -> Iterator[list[float]]:
        for loss in self.settings["losses"]:
            yield [loss]

    def fit(self, steps: int) -> int:
        return 2

    def advance(self, steps: int) -> None:
        if "advance" in self.settings:
            raise RuntimeError(self.settings["advance"])
        time.sleep(0.001 * steps)

    def facts(self) -> dict[str, Any]:
        return {"threads": 1, "compile_seconds": None, "device_peak_bytes": None}


def make_fake(setup: Setup) -> Runner:
    if "raises" in setup.settings:
        raise RuntimeError(setup.settings["raises"])
    return Fake(setup.settings)


def make_liar(setup: Setup) -> Runner:
    """PyTorch's eager code from other weights."""
    from parity.speed.torch_side import make_torch_variant

    weights = {name: value * 2 for name, value in setup.weights.items()}
    return make_torch_variant(dataclasses.replace(setup, weights=weights))
