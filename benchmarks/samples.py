"""What the commands print that the pages show: run on this machine, and kept word for word.

    CIFAR10_ARCHIVE=cifar-10-binary.tar.xz python benchmarks/samples.py

Trains the notebook's CNN on CIFAR-10 and three times on the digits, and asks of what was trained.
Writes samples.json beside this file, after every command. `figures.py` puts it into the pages.
"""

import dataclasses
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from PIL import Image

from jax_impl.data.datasets import load_dataset
from jax_impl.errors import InputError
from parity.shell import cli
from parity.shell.files import to_json, write_whole
from parity.shell.provenance import provenance

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = "jax", "jaxlib", "flax", "optax", "torch", "torchvision", "numpy"
SHIP = 1
"""Of the test images, the first ship."""
SGD = "--optimizer sgd --momentum 0.9 --lr 0.05"
DIGITS = "parity train --data digits --epochs 4"
COMMANDS = {
    "adam": f"{DIGITS} --out adam",
    "adam-torch": f"{DIGITS} --framework torch --out adam-torch",
    "sgd": f"{DIGITS} {SGD} --out sgd",
    "compare": "parity compare adam adam-torch sgd --plot digits.png",
    "mine": "parity train --data cifar10 --out runs/mine",
    "evaluate": "parity evaluate runs/mine",
    "predict": "parity predict runs/mine ship.png",
    "export": "parity export runs/mine mine.jaxexport",
    "summary": "parity summary simple_cnn --batch-size 32",
}


@dataclasses.dataclass(frozen=True)
class Options:
    """Keeps what the commands print that the pages show."""

    out: Path = ROOT / "benchmarks"
    """directory for samples.json"""


def main(options: Options) -> None:
    """Runs every command in a new folder, and writes what each has printed so far."""
    options.out.mkdir(parents=True, exist_ok=True)
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = provenance(PACKAGES) | {"command": "python benchmarks/samples.py"}
    content = {"environment": environment, "samples": {}}
    with tempfile.TemporaryDirectory() as folder:
        for name, command in COMMANDS.items():
            if name == "predict":
                _enlarge(Path(folder, "ship.png"))
            done = subprocess.run(
                [sys.executable, "-m", *shlex.split(command)],
                cwd=folder,
                env=os.environ | {"PYTHONPATH": path},
                capture_output=True,
                text=True,
            )
            if done.returncode:
                raise InputError(f"{command}: {done.stderr.strip()}")
            lines = [line.rstrip() for line in done.stdout.splitlines()]
            told = [line for line in lines if not line.startswith("data: ")]  # whose path is ours
            content["samples"][name] = {"command": command, "lines": told}
            print(f"{command}: {len(told)} lines", flush=True)
            write_whole(options.out / "samples.json", (to_json(content, indent=1) + "\n").encode())


def _enlarge(path: Path) -> None:
    """A test image, with each pixel eight by eight times."""
    images = load_dataset("cifar10").test.images
    Image.fromarray(images[SHIP]).resize((256, 256), Image.Resampling.NEAREST).save(path)


if __name__ == "__main__":
    cli.run(main, Options)
