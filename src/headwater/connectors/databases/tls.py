"""Encryption of connections to databases."""

import ssl
from pathlib import Path
from typing import Final

from headwater.base.errors import Unavailable

_FILES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Alpine
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, Red Hat
    "/etc/ssl/cert.pem",  # macOS, BSD
)


def find_authorities() -> str:
    """Return the file of the certificate authorities that the system trusts. Raises Unavailable if there is none."""
    for path in (ssl.get_default_verify_paths().cafile, *_FILES):
        if path is not None and Path(path).is_file():
            return path
    raise Unavailable("the server has no certificate authorities to verify the database's certificate with")


def make_context(*, is_verified: bool) -> ssl.SSLContext:
    """Return the context of a TLS connection. Without verification, it protects against listening only."""
    context = ssl.create_default_context()
    if not is_verified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
