"""The second wall: what a process that broke out of V8 would find. Tried in a process that confines itself."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="seccomp is Linux's")

CONFINED = """
import os, socket, threading
from headwater.transforms.functions.javascript import confinement, seccomp
confinement.die_with(os.getppid())
memory = confinement.Memory()
confinement.leave(os.getppid())
assert seccomp.refuse()
try:
    {attempt}
except BaseException as error:
    os.write(1, type(error).__name__.encode())
else:
    os.write(1, b"done")
os._exit(0)
"""

REFUSED = {
    "a file": "open('/etc/passwd')",
    "a new file": "open('new', 'w')",
    "a folder": "os.listdir('/')",
    "a socket": "socket.socket()",
    "a unix socket": "socket.socket(socket.AF_UNIX)",
    "a process": "os.fork()",
    "a program": "os.execv('/bin/true', ['true'])",
    "a signal": "os.kill(os.getppid(), 0)",
    "the root": "os.chroot('/')",
    "memory that is a file": "os.memfd_create('x')",
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    assert _try(REFUSED[name]) in ("PermissionError", "FileNotFoundError", "NotADirectoryError")


ALLOWED = {
    "threads": "thread = threading.Thread(target=print); thread.start(); thread.join()",
    "pairs of sockets": "a, b = socket.socketpair(); a.send(b'x'); assert b.recv(1) == b'x'",
    "memory": "bytearray(10 << 20)",
}


@pytest.mark.parametrize("name", ALLOWED)
def test_allowed(name: str) -> None:
    assert _try(ALLOWED[name]).strip() == "done"


def test_memory_is_bounded() -> None:
    assert _try("memory.bound(50 << 20); bytearray(40 << 20)") == "done"
    assert _try("memory.bound(50 << 20); bytearray(60 << 20)") == "MemoryError"


def _try(attempt: str) -> str:
    script = CONFINED.format(attempt=attempt)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20).stdout
