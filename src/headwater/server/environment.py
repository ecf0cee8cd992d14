"""Environment variables of the child processes: an allow-list for each program.

A child gets the variables named here, if the supervisor has them, and the settings that it uses. A secret in the
environment of the supervisor therefore reaches only the process that needs it.
"""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Final

from headwater.server.settings import API_SECRETS, SECRETS, Settings

SYSTEM: Final = ("LANG", "LANGUAGE", "LC_*", "LD_LIBRARY_PATH", "LD_PRELOAD", "MALLOC_*", "TMPDIR", "TZ", "TZDIR")
"""Variables that any program may need: locale, time zone, dynamic linker, memory allocator and temporary folder."""

PYTHON: Final = (
    *SYSTEM,
    "HOME",  # drivers look for certificates and password files there
    "LOGNAME",
    "PATH",
    "PYTHON*",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "USER",  # the database user if the URL has none
    "VIRTUAL_ENV",
)
"""Variables of processes in Python."""

GRPC: Final = {"GRPC_ENABLE_FORK_SUPPORT": "false"}
"""Turns off gRPC's fork handlers, because forks here only start other programs.

They crash the child now and then: a segmentation fault of the event engine before the child executes its program
(grpcio 1.85, about one start of a sandbox in 15 under load).
"""

DATABASE: Final = ("PG*",)
"""Variables that PostgreSQL's drivers read (PGPASSFILE, PGSSLROOTCERT, …), for processes that use the database."""


def envoy(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of Envoy. It gets no settings and no secrets, because it reads its configuration from a
    file."""
    return _select(environ, SYSTEM)


def fork_server(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of the fork server. It gets no settings and no secrets: each process that it forks reads its
    own variables."""
    return _select(environ, PYTHON) | GRPC


def backend(environ: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """Return the variables of a backend. It creates the first API key and encrypts settings of connections."""
    return _select(environ, (*PYTHON, *DATABASE)) | settings.environment() | GRPC


def worker(environ: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """Return the variables of the worker. It gets neither API keys nor keys that decrypt settings."""
    return _select(environ, (*PYTHON, *DATABASE)) | settings.environment(without=SECRETS)


def courier(environ: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """Return the variables of the courier: those of the worker, and the keys that decrypt the settings of
    destinations."""
    return _select(environ, (*PYTHON, *DATABASE)) | settings.environment(without=API_SECRETS)


def scheduler(environ: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """Return the variables of the scheduler: those of the run processes, which it starts."""
    return run_process(environ, settings)


def run_process(environ: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """Return the variables of a run process: those of the worker, and the keys that decrypt the settings of
    connections."""
    return _select(environ, (*PYTHON, *DATABASE)) | settings.environment(without=API_SECRETS)


def _select(environ: Mapping[str, str], patterns: Iterable[str]) -> dict[str, str]:
    allowed = tuple(patterns)
    return {name: value for name, value in environ.items() if any(fnmatchcase(name, pattern) for pattern in allowed)}
