"""Real servers for tests of storages: rclone's S3, and the SFTP servers of OpenSSH and asyncssh."""

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncssh
import pytest

from headwater.connectors.background import BackgroundLoop

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
def s3_server(folder: Path, *, port: int | None = None, key: str = f"{ACCESS_KEY},{SECRET_KEY}") -> Iterator[str]:
    """Serve the folders in `folder` as buckets for one access key, and yield the endpoint."""
    port = port or free_port()
    command = [find_program("rclone"), "serve", "s3", "--addr", f"127.0.0.1:{port}"]
    command += [
        "--auth-key",
        key,
        "--dir-cache-time",
        "0",
        "--config",
        "/dev/null",
        str(folder),
    ]
    with running(command, port, folder.with_name(f"{folder.name}.log")):
        yield f"http://127.0.0.1:{port}"


USER = "headwater"
PASSWORD = "correct-horse"


def make_host_key(folder: Path) -> tuple[Path, str]:
    """Write a new key of a server, and return its file and its public key."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    path = folder / "host_key"
    key.write_private_key(path)
    path.chmod(0o600)
    return path, key.export_public_key().decode().strip()


@contextmanager
def openssh_server(folder: Path, host_key: Path) -> Iterator[int]:
    """Serve `folder` as the root by sshd, and yield the port. Skips the test if sshd cannot run here.

    sshd knows the users of the system alone, so it runs in a mount namespace with its own list of them.
    """
    sshd, unshare = find_program("sshd"), find_program("unshare")
    port, own = free_port(), folder.with_name("sshd")
    own.mkdir()
    (own / "passwd").write_text(f"{Path('/etc/passwd').read_text()}{USER}:x:0:0::/:/bin/sh\n")
    hashed = subprocess.run(
        ["openssl", "passwd", "-6", PASSWORD], capture_output=True, text=True, check=True
    ).stdout.strip()
    (own / "shadow").write_text(f"{USER}:{hashed}:19000:0:99999:7:::\n")
    (own / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {host_key}\nPidFile none\nUsePAM no\nStrictModes no\n"
        "PermitRootLogin yes\nPasswordAuthentication yes\nPubkeyAuthentication no\nMaxStartups 100\n"
        "Subsystem sftp internal-sftp\nChrootDirectory /srv\nForceCommand internal-sftp\n"
    )
    script = (
        f"mount --bind {own}/passwd /etc/passwd && mount --bind {own}/shadow /etc/shadow && mount --bind {folder} /srv "
        f"&& mount -t tmpfs tmpfs /run && mkdir -m 755 /run/sshd && exec {sshd} -D -e -f {own}/sshd_config"
    )
    can_mount = subprocess.run([unshare, "--mount", "true"], capture_output=True, check=False)
    if can_mount.returncode:
        pytest.skip(f"sshd needs a mount namespace, and so root: {can_mount.stderr.decode().strip()}")
    folder.chmod(0o755)
    with running([unshare, "--mount", "sh", "-c", script], port, folder.with_name("sshd.log")):
        yield port


@contextmanager
def asyncssh_server(folder: Path, host_key: Path, *, port: int = 0, password: str = PASSWORD) -> Iterator[int]:
    """Serve `folder` as the root by the server of asyncssh, and yield the port."""

    class Server(asyncssh.SSHServer):
        def password_auth_supported(self) -> bool:
            return True

        def validate_password(self, username: str, given: str) -> bool:
            return (username, given) == (USER, password)

    async def listen() -> asyncssh.SSHAcceptor:
        return await asyncssh.listen(
            "127.0.0.1",
            port,
            server_factory=Server,
            server_host_keys=[str(host_key)],
            sftp_factory=lambda channel: asyncssh.SFTPServer(channel, chroot=str(folder).encode()),
        )

    with BackgroundLoop("SFTP server") as loop:
        acceptor = loop.run(listen(), _START_SECONDS)
        yield acceptor.get_port()
        loop.call(acceptor.close)
        loop.run(acceptor.wait_closed(), _START_SECONDS)
