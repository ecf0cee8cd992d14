"""Restrictions of a process that escaped from an interpreter, tested in processes that confine themselves."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from headwater.transforms.functions.confinement import launch

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="seccomp and Landlock are Linux's")

CONFINED = """
import os, socket, threading
from headwater.transforms.functions.confinement import process
process.die_with(os.getppid())
memory = process.Memory()
assert process.confine() == ()
process.die_with(os.getppid())
try:
    {attempt}
except BaseException as error:
    os.write(1, type(error).__name__.encode())
else:
    os.write(1, b"done")
os._exit(0)
"""

FORBIDDEN = {
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


@pytest.mark.parametrize("name", FORBIDDEN)
def test_a_confined_process_cannot_use(name: str) -> None:
    assert _try(FORBIDDEN[name]) in ("PermissionError", "FileNotFoundError", "NotADirectoryError")


ALLOWED = {
    "threads": "thread = threading.Thread(target=print); thread.start(); thread.join()",
    "pairs of sockets": "a, b = socket.socketpair(); a.send(b'x'); assert b.recv(1) == b'x'",
    "memory": "bytearray(10 << 20)",
}


@pytest.mark.parametrize("name", ALLOWED)
def test_a_confined_process_can_use(name: str) -> None:
    assert _try(ALLOWED[name]).strip() == "done"


def test_memory_is_bounded() -> None:
    assert _try("memory.bound(50 << 20); bytearray(40 << 20)") == "done"
    assert _try("memory.bound(50 << 20); bytearray(60 << 20)") == "MemoryError"


# --- A launched program: a shell or Python here, the interpreter of functions in the server ---------------------------


def _launch(*arguments: str, mode: str = "require", data: int = 1 << 30) -> subprocess.CompletedProcess[str]:
    path = os.path.realpath("/bin/sh")
    command = [sys.executable, "-I", "-S", launch.__file__, mode, str(data), path, *arguments]
    return subprocess.run(command, env={}, capture_output=True, text=True, timeout=20)


def test_the_check_finds_nothing_missing() -> None:
    checked = _launch(launch.CHECK)
    assert (checked.returncode, checked.stdout.split()) == (0, [])


def test_a_launched_program_runs_without_environment_and_messages() -> None:
    run = _launch("-c", "echo out; echo err >&2; export -p; echo $$")
    assert run.returncode == 0
    assert run.stdout.startswith("out\n")
    assert run.stderr == ""
    assert "HOME" not in run.stdout.replace("PWD", "")


LAUNCHED_FORBIDDEN = {
    "a file of another user's data": "read line < {secret}",
    "a file of the system": "read line < /etc/passwd",
    "the environment of the server": "read line < /proc/{parent}/environ",
    "a new file": "echo x > {folder}/new",
    "a new file here": "echo x > new",
    "a change of a file": "echo x >> {secret}",
    "a program": "exec /bin/true",
    "a process": "(:) & wait",
}


@pytest.mark.parametrize("name", LAUNCHED_FORBIDDEN)
def test_a_launched_program_is_rejected(name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        secret = Path(folder) / "secret"
        secret.write_text("hidden\n")
        Path(folder).chmod(0o777)
        secret.chmod(0o666)
        attempt = LAUNCHED_FORBIDDEN[name].format(secret=secret, folder=folder, parent=os.getpid())
        run = _launch("-c", f"{attempt} && echo done")
        assert "done" not in run.stdout
        assert run.returncode != 0
        assert (secret.read_text(), len(list(Path(folder).iterdir()))) == ("hidden\n", 1)


def test_the_memory_of_a_launched_program_is_bounded() -> None:
    grow = "x=0123456789abcdef; while [ ${#x} -lt 100000000 ]; do x=$x$x; done; echo done"
    assert "done" in _launch("-c", grow).stdout
    assert "done" not in _launch("-c", grow, data=50 << 20).stdout


AS_USER = """
import os
from headwater.transforms.functions.confinement import process
program = os.open("/bin/sh", os.O_RDONLY)
os.setgroups([]); os.setresgid(1000, 1000, 1000); os.setresuid(1000, 1000, 1000)
assert process.confine({arguments}) == ()
try:
    os.open("/etc/passwd", os.O_RDONLY)
except PermissionError:
    os.write(1, b"refused")
os._exit(0)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("arguments", ["", "program=program"])
def test_without_root_files_are_refused_as_well(arguments: str) -> None:
    command = [sys.executable, "-c", AS_USER.format(arguments=arguments)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert (run.stdout, run.stderr) == ("refused", "")


# --- A system that refuses -------------------------------------------------------------------------------------------

REFUSING = """
import sys
from headwater.transforms.functions.confinement import landlock, process, seccomp
{patch}
print(*process.confine(program={program}), end="", flush=True)
"""
PATCHES = {
    "seccomp": "seccomp.refuse = lambda **_: False",
    "files": "landlock.restrict = lambda _: False",
    "no_new_privs": "process._prctl = lambda option, value: -1",
    "user": "process._become_nobody = lambda _: False",
}


@pytest.mark.parametrize("part", PATCHES)
def test_refused_parts_are_named(part: str) -> None:
    if part == "user" and os.getuid() != 0:
        pytest.skip("only root changes the user")
    script = REFUSING.format(patch=PATCHES[part], program="__import__('os').open(sys.executable, 0)")
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20)
    assert part in run.stdout.split(), run.stderr


def _try(attempt: str) -> str:
    script = CONFINED.format(attempt=attempt)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20).stdout
