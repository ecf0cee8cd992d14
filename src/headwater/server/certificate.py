"""The TLS certificate of the public port: checked, given to Envoy, and given again when its files change.

Envoy could watch the files itself. It would then read a certificate whose key is not written yet, and notice only files
that are replaced by a rename, which not every client of a certificate authority does.
"""

import asyncio
import datetime
import json
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from headwater.server.settings import Settings, variable

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

SECRET_FILE: Final = "certificate.json"
"""The file in the run directory that Envoy reads, with the private key, mode 0600."""

SECRET_NAME: Final = "public"
POLL_SECONDS: Final = 2.0
RETRY_SECONDS: Final = 60.0
"""Pause after files that could not be read or written."""
WARNING_DAYS: Final = 14
"""Days before the end of a certificate from which each start, change and day logs a warning."""

_DAY_SECONDS: Final = 86_400.0

_FileStamp = tuple[int, int, int] | None
_Stamp = tuple[_FileStamp, ...]
"""The inode, the time of the last change and the size of each file; None for one that is absent."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate chain and its private key, as PEM texts that belong together."""

    chain: str
    key: str
    end: datetime.datetime
    """The time at which the certificate expires, in UTC."""


def read(settings: Settings) -> Certificate | None:
    """Return the certificate of the settings; None without one. Raises ValueError with the variable and the rule."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    for name in ("tls_cert", "tls_key"):
        path: Path = getattr(settings, name)
        if not os.access(path, os.R_OK) or not path.is_file():
            raise ValueError(f"{variable(name)} must name a file that this user can read, and {path} is not one")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key, password=_refuse_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ValueError(
                f"{variable('tls_key')} does not belong to the certificate in {settings.tls_cert}"
            ) from None
        raise ValueError(
            f"{variable('tls_cert')} and {variable('tls_key')} must be files in PEM format, a certificate chain and a "
            f"private key ({error.reason or 'not PEM'})"
        ) from None
    chain = settings.tls_cert.read_text()
    return Certificate(chain, settings.tls_key.read_text(), _end(chain))


def _refuse_password() -> str:
    raise ValueError(f"{variable('tls_key')} must not be encrypted with a password")


def _end(chain: str) -> datetime.datetime:
    from cryptography import x509  # only installations with TLS spend the memory

    return x509.load_pem_x509_certificate(chain.encode()).not_valid_after_utc


def write(settings: Settings, certificate: Certificate) -> Path:
    """Give a certificate to Envoy, which watches the folder for a rename. Return the file."""
    secret = {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        "name": SECRET_NAME,
        "tls_certificate": {
            "certificate_chain": {"inline_string": certificate.chain},
            "private_key": {"inline_string": certificate.key},
        },
    }
    path = settings.run_dir / SECRET_FILE
    written = path.with_suffix(".new")
    descriptor = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w") as file:
        json.dump({"resources": [secret]}, file)
    written.replace(path)
    return path


async def follow(settings: Settings, log: "Callable[[], FilteringBoundLogger]") -> None:
    """Give changed certificates to Envoy, and log their coming end. Runs until it is cancelled.

    Envoy keeps the certificate that it has if the files do not belong together or cannot be read, or if the new one
    cannot be written.
    """
    if settings.tls_cert is None:
        return
    loop = asyncio.get_running_loop()
    current: Certificate | None = None
    seen: _Stamp | None = None
    due = loop.time()
    while True:
        pause = POLL_SECONDS
        if (stamp := _stamp(settings)) != seen:
            try:
                found = read(settings)
                seen = stamp
                if found is not None and found != current:
                    write(settings, found)
                    if current is not None:
                        log().info("the certificate of the public port has changed", end=found.end.isoformat())
                    current, due = found, loop.time()
            except (OSError, ValueError) as error:
                log().error("the changed certificate cannot be used, and the former one stays", reason=str(error))
                if isinstance(error, OSError):  # the files may be right
                    seen, pause = None, RETRY_SECONDS
        if current is not None and loop.time() >= due:
            _warn_of_end(current, log)
            due = loop.time() + _DAY_SECONDS
        await asyncio.sleep(pause)


def _stamp(settings: Settings) -> _Stamp:
    return tuple(_stamp_file(path) for path in (settings.tls_cert, settings.tls_key))


def _stamp_file(path: Path | None) -> _FileStamp:
    try:
        found = os.stat(path) if path is not None else None
    except OSError:
        return None
    return None if found is None else (found.st_ino, found.st_mtime_ns, found.st_size)


def _warn_of_end(certificate: Certificate, log: "Callable[[], FilteringBoundLogger]") -> None:
    left = certificate.end - datetime.datetime.now(datetime.UTC)
    if left <= datetime.timedelta(0):
        log().error("the certificate of the public port has expired", end=certificate.end.isoformat())
    elif left.days < WARNING_DAYS:
        log().warning(
            "the certificate of the public port expires soon", end=certificate.end.isoformat(), days=left.days
        )
