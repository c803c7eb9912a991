"""What a study starts ends with it."""

import os
import signal
import subprocess
import sys
import time

import pytest


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_a_measurement_does_not_outlive_the_study(tmp_path):
    """Of which the kernel, and nobody else, can tell it where the study was killed."""
    told = tmp_path / "pid"
    (tmp_path / "endless.py").write_text(
        f"import os, time\nopen({str(told)!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)\n"
    )
    code = "from parity.study.child import run_child; run_child('endless')"
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    study = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": paths})
    deadline = time.monotonic() + 60
    while not (told.exists() and told.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    pid = int(told.read_text())
    assert alive(pid)
    os.kill(study.pid, signal.SIGKILL)
    study.wait()
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(pid)
