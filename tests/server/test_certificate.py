"""TLS of the public port: which files are accepted, and that a running system serves the certificate that they hold."""

import asyncio
import datetime
import re
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import Mock

import grpc
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from headwater.server import certificate
from headwater.server.errors import StartupError
from headwater.server.preflight import check_certificate
from headwater.server.settings import Settings, read
from headwater.v1.system_pb2 import GetHealthRequest
from headwater.v1.system_pb2_grpc import SystemServiceStub
from tests.system import RunningSystem, start, wait_until

OPERATING = (Path(__file__).parents[2] / "docs" / "operating.md").read_text()
NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])


class Issuer:
    """Writes self-signed certificates for localhost into a folder."""

    def __init__(self, folder: Path) -> None:
        self.cert, self.key = folder / "cert.pem", folder / "key.pem"
        self.variables = {"HEADWATER_TLS_CERT": str(self.cert), "HEADWATER_TLS_KEY": str(self.key)}

    def issue(self, *, days: float = 90, password: bytes | None = None) -> tuple[bytes, bytes]:
        """Return a new certificate that ends in `days`, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder(NAME, NAME, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=400))
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        )
        encryption = (
            serialization.BestAvailableEncryption(password) if password is not None else serialization.NoEncryption()
        )
        return (
            builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM),
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption),
        )

    def write(self, *, days: float = 90) -> None:
        cert, key = self.issue(days=days)
        self.cert.write_bytes(cert)
        self.key.write_bytes(key)

    def settings(self, data_dir: Path) -> Settings:
        return read({"HEADWATER_DATA_DIR": str(data_dir), **self.variables})


@pytest.fixture
def issuer(tmp_path: Path) -> Issuer:
    issuer = Issuer(tmp_path)
    issuer.write()
    return issuer


@pytest.mark.parametrize("given", ["HEADWATER_TLS_CERT", "HEADWATER_TLS_KEY"])
def test_certificate_and_key_are_set_together(issuer: Issuer, given: str) -> None:
    with pytest.raises(StartupError, match="HEADWATER_TLS_CERT and HEADWATER_TLS_KEY must be set together"):
        read({given: issuer.variables[given]})


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda issuer: issuer.cert.unlink(), "HEADWATER_TLS_CERT must name a file that this user can read"),
        (lambda issuer: (issuer.key.unlink(), issuer.key.mkdir()), "HEADWATER_TLS_KEY must name a file that this"),
        (lambda issuer: issuer.key.write_bytes(issuer.issue()[1]), "HEADWATER_TLS_KEY does not belong to the cert"),
        (lambda issuer: issuer.cert.write_text("no PEM"), "must be files in PEM format"),
        (lambda issuer: issuer.key.write_text(""), "must be files in PEM format"),
        (
            lambda issuer: issuer.key.write_bytes(issuer.issue(password=b"secret")[1]),
            "HEADWATER_TLS_KEY must not be encrypted with a password",
        ),
    ],
    ids=["no certificate", "a folder", "another key", "a certificate that is no PEM", "an empty key", "encrypted"],
)
def test_files_that_cannot_be_used_prevent_the_start(
    issuer: Issuer, tmp_path: Path, damage: Callable[[Issuer], object], reason: str
) -> None:
    damage(issuer)
    with pytest.raises(StartupError, match=reason):
        check_certificate(issuer.settings(tmp_path))


def test_the_private_key_is_written_for_this_user_only(issuer: Issuer, tmp_path: Path) -> None:
    settings = issuer.settings(tmp_path)
    settings.run_dir.mkdir()
    found = certificate.read(settings)
    assert found is not None
    assert certificate.write(settings, found).stat().st_mode & 0o777 == 0o600


async def test_a_certificate_that_cannot_be_written_is_tried_again(
    issuer: Issuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificate, "RETRY_SECONDS", 0.01)
    settings, log = issuer.settings(tmp_path), Mock()
    following = asyncio.create_task(certificate.follow(settings, lambda: log))
    try:
        async with asyncio.timeout(30):
            while not log.error.called:  # the folder does not exist, as if the disk were full
                await asyncio.sleep(0.01)
            settings.run_dir.mkdir(parents=True)
            while not (settings.run_dir / certificate.SECRET_FILE).exists():
                await asyncio.sleep(0.01)
        assert not following.done()
    finally:
        following.cancel()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Issuer, RunningSystem]]:
    issuer = Issuer(tmp_path_factory.mktemp("tls"))
    issuer.write(days=3)
    running = start(tmp_path_factory.mktemp("data"), None, **issuer.variables)
    yield issuer, running
    assert running.stop() == 0


def _served(port: int) -> str:
    return ssl.get_server_certificate(("127.0.0.1", port))


def test_http_and_grpc_are_encrypted(served: tuple[Issuer, RunningSystem]) -> None:
    issuer, system = served
    context = ssl.create_default_context(cadata=issuer.cert.read_text())
    with httpx.Client(verify=context, http1=True) as client:
        assert client.get(f"https://localhost:{system.port}/healthz").json() == {"status": "ok"}
    with grpc.secure_channel(
        f"localhost:{system.port}", grpc.ssl_channel_credentials(issuer.cert.read_bytes())
    ) as channel:
        assert SystemServiceStub(channel).GetHealth(GetHealthRequest(), timeout=10)
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://localhost:{system.port}/healthz")
    assert f"Headwater is ready on https://127.0.0.1:{system.port}" in system.output
    assert "the certificate of the public port expires soon" in system.errors


def test_a_changed_certificate_is_served_once_its_key_belongs_to_it(served: tuple[Issuer, RunningSystem]) -> None:
    issuer, system = served
    former = issuer.cert.read_text()
    cert, key = issuer.issue()
    issuer.cert.write_bytes(cert)
    wait_until(lambda: "the changed certificate cannot be used" in system.errors, 30)
    assert _served(system.port) == former

    issuer.key.write_bytes(key)
    wait_until(lambda: _served(system.port) == cert.decode(), 30)
    assert "the certificate of the public port has changed" in system.errors
    assert cert.decode() not in system.errors and key.decode() not in system.errors


def test_the_documented_commands_replace_both_files(served: tuple[Issuer, RunningSystem], tmp_path: Path) -> None:
    issuer, system = served
    cert, key = issuer.issue()
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "fullchain.pem").write_bytes(cert)
    (tmp_path / "new" / "privkey.pem").write_bytes(key)
    block = re.search(r"^### Certificates$.*?```sh\n(.*?)```", OPERATING, re.MULTILINE | re.DOTALL)
    assert block is not None
    commands = block[1].replace("/etc/headwater/fullchain.pem", str(issuer.cert))
    commands = commands.replace("/etc/headwater/privkey.pem", str(issuer.key))
    subprocess.run(["sh", "-euc", commands], cwd=tmp_path, check=True, timeout=20)
    wait_until(lambda: _served(system.port) == cert.decode(), 30)


def test_an_expired_certificate_is_served_and_reported(served: tuple[Issuer, RunningSystem]) -> None:
    issuer, system = served
    issuer.write(days=-1)
    wait_until(lambda: _served(system.port) == issuer.cert.read_text(), 30)
    wait_until(lambda: "the certificate of the public port has expired" in system.errors, 30)
