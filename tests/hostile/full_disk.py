"""A training whose disk is full from some moment on: `python -m hostile.full_disk` in a namespace.

`unshare -rm python -m hostile.full_disk FOLDER FREE FRAMEWORK` mounts a disk in FOLDER, trains on
it, leaves FREE bytes of it after the first checkpoint, and goes on when there is room again.
"""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from hostile.processes import saved, start

SIZE = 64 * 2**20
RUN = [
    *("train", "--model", "simple_cnn:channels=4,4:hidden=64", "--data", "digits", "--epochs", "9"),
    *("--batch-size", "64", "--augment", "crop", "flip", "--ema", "0.99", "--device", "cpu"),
    *("--checkpoint-every", "0.5", "--keep", "2"),
]


def main(folder: str, free: str, framework: str) -> None:
    place = Path(folder)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", folder]
    subprocess.run(mount, check=True)
    out, filler = place / "run", place / "filler"
    process = start(*RUN, "--framework", framework, "--out", str(out))
    while process.poll() is None and not saved(out):
        time.sleep(0.01)
    left = shutil.disk_usage(place).free - int(free)
    filler.write_bytes(bytes(max(0, left)))
    output, errors = process.communicate()
    filler.unlink()
    again = start("train", "--resume", str(out))
    more, told = again.communicate()
    print(json.dumps([[process.returncode, output, errors], [again.returncode, more, told]]))
    subprocess.run(["cp", "-r", str(out), f"{folder}-kept"], check=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
