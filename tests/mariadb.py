"""A real MariaDB for the tests, where it is installed: started once, with a database for each test."""

import os
import shutil
import socket
import subprocess
import tempfile
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, Final

import pymysql
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.memory import roomy_memory
from tests.system import free_port, wait_until

USER: Final = "headwater"
PASSWORD: Final = "p@ss'w\"rd"
ROOM_BYTES: Final = 1 << 30
_PROGRAMS: Final = ("mariadbd", "mariadb-install-db", "setpriv")


def missing() -> str | None:
    """Return the reason why there is no MariaDB; None if there is one."""
    absent = [program for program in _PROGRAMS if _program(program) is None]
    return f"no MariaDB to test with: {', '.join(absent)} is not installed" if absent else None


class MariadbServer:
    """A server of the tests, on 127.0.0.1. Call `close` at the end."""

    def __init__(self) -> None:
        self.port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="headwater-mariadb-", dir=roomy_memory(ROOM_BYTES)))
        self._folder.chmod(0o755)
        self._data = self._folder / "data"
        self._socket = self._folder / "socket"
        self._output = self._folder / "output"
        self._names = count(1)
        if os.geteuid() == 0:
            shutil.chown(self._folder, "nobody")
        self.authority = self._folder / "server.crt"
        """The certificate of the server, for localhost."""
        _certify(self._folder)
        install = self._run("mariadb-install-db", "--auth-root-authentication-method=normal", "--skip-test-db")
        assert install.wait(120) == 0, self._output.read_text()
        self._process = self._run(
            "mariadbd",
            f"--port={self.port}",
            f"--socket={self._socket}",
            f"--pid-file={self._folder / 'pid'}",
            "--bind-address=127.0.0.1",
            f"--ssl-cert={self.authority}",
            f"--ssl-key={self._folder / 'server.key'}",
            "--innodb-flush-log-at-trx-commit=0",
            "--innodb-buffer-pool-size=32M",
            "--performance-schema=OFF",
            "--character-set-server=utf8mb4",
            "--default-time-zone=+05:45",  # no test may depend on it
        )
        wait_until(self._answers, 60)
        password = pymysql.converters.escape_string(PASSWORD)
        self.administer(f"CREATE USER '{USER}'@'127.0.0.1' IDENTIFIED BY '{password}'")

    def create(self) -> str:
        """Create a database that the user owns, and return its name."""
        name = f"test_{next(self._names)}"
        self.administer(f"CREATE DATABASE {name}")
        self.administer(f"GRANT ALL ON {name}.* TO '{USER}'@'127.0.0.1'")
        return name

    def drop(self, name: str) -> None:
        self.administer(f"DROP DATABASE {name}")

    def administer(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement as the administrator, and return its rows."""
        with (
            pymysql.connect(unix_socket=str(self._socket), user="root", charset="utf8mb4") as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(statement)
            return list(cursor.fetchall())

    def close(self) -> None:
        self._process.kill()
        self._process.wait(60)
        shutil.rmtree(self._folder)

    def _answers(self) -> bool:
        assert self._process.poll() is None, self._output.read_text()
        with socket.socket(socket.AF_UNIX) as connection:  # the driver would not close one that is refused
            try:
                connection.connect(str(self._socket))
            except OSError:
                return False
        return bool(self.administer("SELECT 1"))

    def _run(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        path = _program(program)
        assert path is not None
        prefix = ["setpriv", "--pdeathsig", "KILL"]  # it ends with the tests, also if these are killed
        if os.geteuid() == 0:
            prefix += ["--reuid", "nobody", "--clear-groups"]
        common = ("--no-defaults", f"--datadir={self._data}", f"--tmpdir={self._folder}")
        with self._output.open("ab") as output:
            return subprocess.Popen(
                [*prefix, path, *common, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self._folder,
            )


def _certify(folder: Path) -> None:
    """Write a key and a certificate for localhost."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    form = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "server.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "server.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))


def _program(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
