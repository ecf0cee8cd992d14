"""Gives up privileges, files and memory of this process, before it runs any user code."""

import ctypes
import os
import resource
import signal
import sys

from . import landlock, seccomp

ANONYMOUS = 65_534
"""User and group of sandboxes if the server runs as root."""
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
_EXECUTABLE_BY_OTHERS = 0o001


def die_with(parent: int) -> None:
    """Make the kernel kill this process when its parent ends. Exits if the parent already ended."""
    if sys.platform == "linux":
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def confine(*, program: int | None = None) -> tuple[str, ...]:
    """Confine this process and its children. Return the names of the parts that the system refused.

    The parts are `user` (only as root), `no_new_privs`, `files` and `seccomp`. Without `program`, nothing can be opened
    or executed afterwards. With `program`, a file descriptor, that program can be executed and can read the system's
    libraries.
    """
    _enter_empty_folder(keep_root=program is not None)
    for limit in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE):
        resource.setrlimit(limit, (0, 0))
    # Open it before the change of user: another user cannot read a private folder.
    allowed = [] if program is None else landlock.open_allowed(program)
    missing = []
    if os.getuid() == 0 and not _become_nobody(program):
        missing.append("user")
    if sys.platform != "linux" or _prctl(_PR_SET_NO_NEW_PRIVS, 1) != 0:
        missing.append("no_new_privs")
    else:
        _prctl(_PR_SET_DUMPABLE, 0)
    if program is not None and not landlock.restrict(allowed):
        missing.append("files")
    for descriptor in allowed:
        os.close(descriptor)
    if not seccomp.refuse(executes=program is not None):
        missing.append("seccomp")
    return tuple(missing)


class Memory:
    """The memory of this process, as counted by the kernel. Create it while /proc can still be opened."""

    def __init__(self) -> None:
        self._status = os.open("/proc/self/status", os.O_RDONLY) if sys.platform == "linux" else -1

    def bound(self, more: int) -> None:
        """Limit this process to writing at most `more` bytes of memory that it has not mapped yet.

        No other kind of limit works: V8 reserves far more addresses than it uses, and counts only its own heap.
        """
        if self._status >= 0:
            _, hard = resource.getrlimit(resource.RLIMIT_DATA)
            resource.setrlimit(resource.RLIMIT_DATA, (self._read(b"VmData:") + more, hard))

    def held(self) -> int:
        """Return the used bytes."""
        return self._read(b"RssAnon:") if self._status >= 0 else 0

    def _read(self, name: bytes) -> int:
        status = os.pread(self._status, 8192, 0)
        start = status.index(name) + len(name)
        return int(status[start : status.index(b"kB", start)]) * 1024


def _enter_empty_folder(*, keep_root: bool) -> None:
    """Change to a deleted folder, in which nothing can be created; make it the root as well."""
    path = f"{os.environ.get('TMPDIR', '/tmp')}/headwater-function-{os.urandom(8).hex()}"
    try:
        os.mkdir(path, 0o700)
        os.chdir(path)
        os.rmdir(path)
        if not keep_root:
            os.chroot(".")
    except OSError:  # only root may change the root; `seccomp` and `landlock` deny files as well
        return


def _become_nobody(program: int | None) -> bool:
    if program is not None and not os.fstat(program).st_mode & _EXECUTABLE_BY_OTHERS:
        return False
    try:
        os.setgroups([])
        os.setresgid(ANONYMOUS, ANONYMOUS, ANONYMOUS)
        os.setresuid(ANONYMOUS, ANONYMOUS, ANONYMOUS)
    except OSError:
        return False
    return True


def _prctl(option: int, value: int) -> int:
    result: int = ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
    return result
