"""Real servers for tests of storages: rclone's S3 and SFTP."""

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ACCESS_KEY = "A" * 20
SECRET_KEY = "s" * 40

_START_SECONDS = 30.0


def find_program(name: str) -> str:
    """Return the path of a program. Skips the test if the machine does not have it."""
    path = shutil.which(name, path=f"{Path(sys.executable).parent}:/usr/bin:/usr/sbin:/usr/local/bin:/usr/local/sbin")
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@contextmanager
def running(command: list[str], port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the end of the context. It is ready when its port is open."""
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            _wait_for(process, port, log)
            yield process
        finally:
            process.kill()


def _wait_for(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until:
        assert process.poll() is None, log.read_text()
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise AssertionError(f"the server did not start: {log.read_text()}")


@contextmanager
def s3_server(folder: Path) -> Iterator[str]:
    """Serve the folders in `folder` as buckets, and yield the endpoint."""
    port = free_port()
    command = [find_program("rclone"), "serve", "s3", "--addr", f"127.0.0.1:{port}"]
    command += [
        "--auth-key",
        f"{ACCESS_KEY},{SECRET_KEY}",
        "--dir-cache-time",
        "0",
        "--config",
        "/dev/null",
        str(folder),
    ]
    with running(command, port, folder.with_name(f"{folder.name}.log")):
        yield f"http://127.0.0.1:{port}"
