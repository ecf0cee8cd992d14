"""Checks before the start: an exclusive data directory, short socket paths, a free port.

Each failure is a StartupError of one line. Only the data directory is created, and no process is started.
"""

import asyncio
import dataclasses
import errno
import fcntl
import os
import resource
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headwater.base.errors import UnusableDatabase
from headwater.server import certificate, environment
from headwater.server.errors import StartupError
from headwater.server.settings import MAX_SOCKET_PATH_BYTES, Settings, variable

MAX_OPEN_FILES = 65_536
"""Maximum number of open files to request. More are not needed."""

SANDBOX_SECONDS = 60
"""Time limit of the check of the sandboxes."""

RESTORING = "restoring"
"""The file in a data directory that has only a part of a backup."""

MOVED = "moved-to-postgresql"
"""The file in a data directory whose SQLite files are in PostgreSQL."""

PORT_GRACE_SECONDS = 1.0
"""Time that a port may stay in use by an Envoy that ends after its supervisor was killed."""


def claim_data_dir(settings: Settings, *, restores: bool = False) -> int:
    """Create and lock the data directory. Closing the returned file descriptor releases the lock.

    Raises StartupError, also if a restore of the directory was interrupted, unless the caller `restores` it.
    """
    folder = settings.data_dir
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(settings.lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except (FileExistsError, NotADirectoryError):
        raise StartupError(f"the data directory {folder} is not a directory; change HEADWATER_DATA_DIR") from None
    except OSError as error:
        raise StartupError(
            f"the data directory {folder} cannot be used ({error.strerror}); change HEADWATER_DATA_DIR"
        ) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise StartupError(
            f"the data directory {folder} is in use by another running server (process {owner}); "
            "stop that one or change HEADWATER_DATA_DIR"
        ) from None
    if not restores and (folder / RESTORING).exists():
        os.close(descriptor)
        raise StartupError(f"the restore of {folder} was interrupted: run `headwater restore` again")
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def check_files(settings: Settings) -> None:
    """Raise StartupError if the files of the data directory have data that a start would repeat or leave behind.

    Call it under the lock of the data directory.
    """
    check_not_moved(settings)
    if settings.nats_url is None or not settings.log_path.exists():
        return
    from headwater.log.inspecting import count_unprocessed  # importing SQLite's library takes memory

    try:
        calls = count_unprocessed(settings.log_path)
    except UnusableDatabase as error:
        raise StartupError(f"{error}: bring it back from a backup, or delete it with its calls") from error
    if calls:
        raise StartupError(
            f"{settings.log_path} has calls that are not processed ({calls}), and {variable('nats_url')} is set: unset "
            "it and start until the backlog is empty (docs/operating.md, Moving to NATS)"
        )


def check_not_moved(settings: Settings) -> None:
    """Raise StartupError if SQLite is to be used and `migrate-data` has moved its files to PostgreSQL."""
    marker = settings.data_dir / MOVED
    if settings.database_url is None and marker.exists():
        raise StartupError(
            f"the files in {settings.data_dir} were moved to PostgreSQL: set {variable('database_url')}. On these "
            f"files events would be stored and delivered twice. If the move is undone, delete {marker}"
        )


def find_owner(settings: Settings) -> int | None:
    """Return the process id of the supervisor that holds the data directory; None if none does.

    It takes no lock, which a server that starts meanwhile would meet.
    """
    try:
        owner = int(settings.lock_path.read_text(errors="replace"))
        command = Path(f"/proc/{owner}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return owner if b"headwater" in command else None


def split_state(settings: Settings) -> bool:
    """Move the operational tables of an earlier release into their own file; return whether that was needed.

    Call it under the lock of the data directory. On PostgreSQL the first process that opens the state store does it.
    """
    if settings.database_url is not None:
        return False
    from headwater.storage.split import split_state  # importing SQLite's library takes memory

    try:
        return split_state(settings.warehouse_path, settings.state_path)
    except UnusableDatabase as error:
        raise StartupError(str(error)) from error


@contextmanager
def run_dir(settings: Settings) -> Iterator[Settings]:
    """Create the private folder of sockets. It is a temporary folder if the paths would be too long."""
    sockets = (settings.metrics_socket(settings.backend_names[-1]), settings.admin_socket)
    longest = max(len(os.fsencode(path)) for path in sockets)
    if longest > MAX_SOCKET_PATH_BYTES:
        with tempfile.TemporaryDirectory(prefix="headwater-") as folder:
            yield dataclasses.replace(settings, run_dir=Path(folder))
        return
    try:
        settings.run_dir.mkdir(mode=0o700, exist_ok=True)
        settings.run_dir.chmod(0o700)
    except OSError as error:
        raise StartupError(f"the directory {settings.run_dir} cannot be used ({error.strerror})") from None
    yield settings


def raise_file_limit() -> None:
    """Raise the limit of open files of this process and its children. Each socket counts, and the usual 1024 are too
    few."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(MAX_OPEN_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def check_kernel() -> None:
    """Raise StartupError if this process can get no descriptors of its children."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError as error:
        raise StartupError(
            f"pidfd_open fails ({error.strerror}); Linux 5.4 or later is needed, in a container that allows the call"
        ) from None


def check_location_database(settings: Settings) -> None:
    """Raise StartupError if there is a location database that cannot be read."""
    if settings.maxmind_db is None:
        return
    from headwater.server.geolocation import open_locator  # imported only if it is configured

    try:
        open_locator(settings.maxmind_db)
    except ValueError as error:
        raise StartupError(f"{variable('maxmind_db')} {error}") from None


def check_certificate(settings: Settings) -> None:
    """Raise StartupError if there is a certificate that the public port cannot use."""
    try:
        certificate.read(settings)
    except ValueError as error:
        raise StartupError(str(error)) from None


def check_sandboxes(settings: Settings) -> None:
    """Raise StartupError if functions must run confined, and cannot."""
    if settings.sandbox == "require" and (reason := find_sandbox_fault(settings)) is not None:
        raise StartupError(
            f"{variable('sandbox')} is require, but {reason}. Change the system (see SECURITY.md), or set "
            f"{variable('sandbox')}=warn"
        )


def find_sandbox_fault(settings: Settings) -> str | None:
    """Return the reason why the sandboxes of functions cannot be confined; None if they can. It starts processes."""
    command = [sys.executable, "-m", "headwater.server.sandboxes"]
    variables = environment.worker(os.environ, settings)
    try:
        run = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=SANDBOX_SECONDS)
    except subprocess.TimeoutExpired:
        reason = f"they did not start within {SANDBOX_SECONDS} seconds"
    else:
        if run.returncode == 0:
            return None
        reason = (run.stderr.strip().splitlines() or ["they did not start"])[-1]
    return f"the sandboxes of functions cannot be confined: {reason}"


async def check_port(settings: Settings) -> None:
    """Raise StartupError unless the public port can be bound."""
    deadline = asyncio.get_running_loop().time() + PORT_GRACE_SECONDS
    while (error := try_to_bind(settings.host, settings.port)) is not None:
        if error.errno == errno.EADDRINUSE and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.05)
            continue
        reason = explain_port(error)
        raise StartupError(
            f"port {settings.port} on {settings.host} {reason}; choose another: HEADWATER_PORT={settings.port + 1}"
            if error.errno != errno.EADDRNOTAVAIL
            else f"{settings.host} {reason}; choose another: HEADWATER_HOST=127.0.0.1"
        )


def explain_port(error: OSError) -> str:
    """Return the end of a sentence about a port that cannot be bound."""
    return {
        errno.EADDRINUSE: "is taken by another program",
        errno.EACCES: "needs privileges that this user does not have",
        errno.EADDRNOTAVAIL: "is not an address of this machine",
    }.get(error.errno or 0, f"cannot be used ({error.strerror})")


def try_to_bind(host: str, port: int) -> OSError | None:
    """Return the error of binding a port; None if it is free."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            return error
    return None
