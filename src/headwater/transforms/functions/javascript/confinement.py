"""What the worker gives up before it runs anything of other people: memory without bound, the file system, privileges,
and most system calls. It is Linux's part of the sandbox; elsewhere only V8's own walls stand.

Some of it needs rights that an ordinary user does not have (an empty root, another user); what cannot be done is left
out, as each part holds without the others. `docs/decisions/0013-functions.md` says what stays.
"""

import ctypes
import os
import resource
import signal
import sys
import tempfile
from contextlib import suppress
from typing import Final

_NOBODY: Final = 65_534
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38


def die_with(parent: int) -> None:
    """From now on the kernel kills this process when its parent ends. Exits when that happened already."""
    if sys.platform == "linux":
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def leave(parent: int) -> None:
    """Leave the file system and the privileges of the user that started us."""
    with suppress(OSError):
        empty = tempfile.mkdtemp(prefix="headwater-function-")
        os.chdir(empty)
        os.rmdir(empty)  # nothing can be made in a folder that has no name any more
        os.chroot(".")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    if os.getuid() == 0:
        with suppress(OSError):
            os.setgroups([])
            os.setresgid(_NOBODY, _NOBODY, _NOBODY)
            os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    if sys.platform == "linux":
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
        _prctl(_PR_SET_DUMPABLE, 0)
    die_with(parent)  # again: changing the user cleared it


class Memory:
    """The memory of this process, as the kernel counts it. Made while /proc can still be opened."""

    def __init__(self) -> None:
        self._status = os.open("/proc/self/status", os.O_RDONLY) if sys.platform == "linux" else -1

    def bound(self, more: int) -> None:
        """From now on this process may write to at most `more` bytes that it has not mapped yet.

        Of all limits only this one works: V8 reserves far more addresses than it uses, and counts only its own heap.
        """
        if self._status >= 0:
            _, hard = resource.getrlimit(resource.RLIMIT_DATA)
            resource.setrlimit(resource.RLIMIT_DATA, (self._read(b"VmData:") + more, hard))

    def held(self) -> int:
        """Bytes of it that are in use."""
        return self._read(b"RssAnon:") if self._status >= 0 else 0

    def _read(self, name: bytes) -> int:
        status = os.pread(self._status, 8192, 0)
        start = status.index(name) + len(name)
        return int(status[start : status.index(b"kB", start)]) * 1024


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
