"""Memory that a comparison has freed is there for the next block."""

import platform
import subprocess
import sys

import pytest

CODE = """
import resource
{call}
faults = []
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = b"x" * (48 << 20)
    del block
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(*faults)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc that is told")
def test_a_large_block_is_used_again():
    def faults(call: str) -> list[int]:
        command = [sys.executable, "-c", CODE.format(call=call)]
        made = subprocess.run(command, capture_output=True, text=True, check=True)
        return [int(number) for number in made.stdout.split()]

    kept = faults("from parity.shell.environment import keep_freed_memory; keep_freed_memory()")
    assert max(kept[1:]) < 100 and kept[0] > 100
    assert min(faults("")) > 100
