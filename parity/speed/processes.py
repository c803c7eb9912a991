"""The parent's side of a worker process."""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from jax_impl.errors import InputError
from parity.speed.load import machine_seconds, process_seconds


class WorkerFailed(Exception):
    """A worker raised, died or took too long: one line."""


class Worker:
    """A process that answers one request at a time, and else waits for one.

    Args:
        target: MODULE:CLASS of the object whose methods it calls.
        files: where it gets a directory of its own, `scratch`.
        device: "cpu" or "gpu".
    """

    def __init__(self, target: str, files: Path, device: str):
        self.scratch = Path(tempfile.mkdtemp(prefix="worker-", dir=files))
        self._errors = self.scratch / "stderr"
        self._buffer = b""
        with self._errors.open("wb") as errors:
            # A session of its own: Ctrl-C reaches the parent alone, which ends all of it.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "parity.speed.worker", target],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment(self.scratch, device),
                start_new_session=True,
            )

    def ask(self, method: str, timeout: float | None, **arguments: Any) -> Any:
        """The result of a method.

        Args:
            method: its name.
            timeout: seconds to wait for it; None is no limit.
            **arguments: the method's, such as JSON can hold.

        Raises:
            InputError: the method raised one.
            WorkerFailed: it raised something else, the process died, or the time is over.
        """
        request = json.dumps({"method": method, "arguments": arguments}) + "\n"
        try:
            self._pipe("stdin").write(request.encode())
            self._pipe("stdin").flush()
        except OSError:
            raise WorkerFailed(self._death()) from None
        reply = json.loads(self._line(timeout))
        if "result" in reply:
            return reply["result"]
        raise (InputError if reply["input"] else WorkerFailed)(reply["error"])

    def _line(self, timeout: float | None) -> bytes:
        started, output, left = time.monotonic(), self._pipe("stdout"), timeout
        with selectors.DefaultSelector() as selector:
            selector.register(output, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if timeout is not None:
                    left = max(0.0, started + timeout - time.monotonic())
                if not selector.select(left):
                    raise WorkerFailed(f"no answer in {timeout:.0f} s")
                read = os.read(output.fileno(), 65536)
                if not read:
                    raise WorkerFailed(self._death())
                self._buffer += read
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _pipe(self, name: str) -> IO[bytes]:
        pipe = getattr(self._process, name)
        assert pipe is not None
        return pipe

    def _death(self) -> str:
        status = self._process.wait()
        said = [line for line in self._errors.read_text(errors="replace").splitlines() if line]
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        return f"the process ended with {how}{f': {said[-1][:300]}' if said else ''}"

    def cpu_seconds(self) -> float | None:
        """CPU time that the process and its ended children used; None where it cannot be read."""
        return process_seconds(self._process.pid)

    def stop(self) -> None:
        """Ends the process and all that it started."""
        with contextlib.suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for name in ("stdin", "stdout"):
            with contextlib.suppress(OSError):
                self._pipe(name).close()


@contextlib.contextmanager
def started(target: str, files: Path, device: str) -> Iterator[Worker]:
    """A worker that is stopped at the end."""
    worker = Worker(target, files, device)
    try:
        yield worker
    finally:
        worker.stop()


def other_seconds(workers: Iterable[Worker]) -> float | None:
    """CPU seconds of the machine that are neither ours nor the workers'; None if not known."""
    machine = machine_seconds()
    ours = [process_seconds(os.getpid()), *(worker.cpu_seconds() for worker in workers)]
    if machine is None or None in ours:
        return None
    return machine - sum(seconds for seconds in ours if seconds is not None)


def environment(scratch: Path, device: str) -> dict[str, str]:
    """The parent's, with empty compilation caches, and GPU memory taken as it is needed."""
    kept = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    caches = {
        "TORCHINDUCTOR_CACHE_DIR": str(scratch / "inductor"),
        "TRITON_CACHE_DIR": str(scratch / "triton"),
    }
    memory = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    platform = {"JAX_PLATFORMS": "cpu"} if device == "cpu" else {}
    # A worker finds this package, and an injected variant, where the parent found them.
    path = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return kept | caches | memory | platform | path
