"""Measures the memory of code in a process of its own."""

import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).parents[3]
_FRAME = """
import io, re
from pathlib import Path

def peak():
    return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024

{imports}
before = peak()
{code}
print(peak() - before)
"""


def memory_growth(imports: str, code: str) -> int:
    """Return by how many MB the peak memory of a process grows while it runs `code`."""
    command = [sys.executable, "-c", _FRAME.format(imports=imports, code=code)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=_ROOT, check=False, timeout=150)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)
