"""The settings: read from HEADWATER_* variables and flags, checked once, and passed to every process.

Only the standard library is used: the supervisor, which runs as long as the system, stays small.
"""

import difflib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from headwater.server import setting_parsers as parsers
from headwater.server import units
from headwater.server.errors import StartupError
from headwater.server.oauth_apps import OAUTH_APPS, missing_settings
from headwater.server.setting_parsers import SQLITE, TrustedProxies
from headwater.server.units import Rate

PREFIX: Final = "HEADWATER_"
SHARED_DATABASE_VARIABLE: Final = "DATABASE_URL"
"""Used if HEADWATER_DATABASE_URL is unset. Hosting platforms that provide a database set it."""
MAX_SOCKET_PATH_BYTES: Final = 107
"""Maximum length of the path of a unix socket on Linux (sockaddr_un, without its final NUL)."""

DEFAULT_CALL_RATE: Final = Rate(100, 1_000)
DEFAULT_OTLP_SHARE: Final = 0.1

MAX_BACKENDS: Final = 64
MAX_RUNS: Final = 32
DEFAULT_RUNS: Final = 4
DEFAULT_RUN_TIMEOUT_SECONDS: Final = 600
MAX_DELIVERY_HOURS: Final = 720
"""Dead letters are kept as long as this."""
MAX_NATS_REPLICAS: Final = 5
MIN_CLIENT_CONNECTIONS: Final = 10
MAX_CLIENT_CONNECTIONS: Final = 30_000
"""A client connection may need two open files, and a process has 65,536."""
MAX_ACCESS_LOG_SAMPLE: Final = 1_000_000

API_SECRETS: Final = ("api_key",)
"""Settings that only backends receive. See `headwater.server.environment`."""
SECRETS: Final = (*API_SECRETS, "secret_key", "old_secret_keys", *(f"oauth_{app}_client_secret" for app in OAUTH_APPS))
"""Settings that the worker does not receive."""

RENAMED: Final = {"HEADWATER_WORKERS": "HEADWATER_BACKENDS"}
"""Earlier names of variables. They are read if the present name is unset."""
URL_VARIABLE: Final = "HEADWATER_URL"
"""The address of the server for commands. It is no setting of the server."""

NO_TRUSTED_PROXIES: Final = TrustedProxies()


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The decisions of the operator. Secrets and URLs are left out of the representation."""

    host: str = "127.0.0.1"
    """The IP address that the public port listens on."""

    port: int = 8080
    """The one public port, 1 to 65535."""

    tls_cert: Path | None = None
    """The certificate chain of the public port, a PEM file; None: the port speaks plain HTTP."""

    tls_key: Path | None = None
    """The private key of the certificate, a PEM file without a password."""

    data_dir: Path = field(default_factory=lambda: Path("data").absolute())
    """The folder of all data; an absolute path."""

    database_url: str | None = field(default=None, repr=False)
    """The PostgreSQL database of all stores, `postgresql+asyncpg://…`; None: SQLite files in `data_dir`."""

    nats_url: str | None = field(default=None, repr=False)
    """The NATS servers of the event log, `nats://…`, separated by commas; None: a SQLite file in `data_dir`."""

    nats_replicas: int = 1
    """Number of NATS servers that keep each log entry, 1 to 5."""

    log_keep: int = 24 * 3600
    """Seconds that the event log keeps processed entries."""

    log_max_bytes: int = 10 << 30
    """Maximum size of the event log. Above it, processed entries are deleted; if there are none, calls get 503."""

    log_max_lag_bytes: int = 2 << 30
    """Maximum backlog of the worker. Above it, calls get 429."""

    lane_max_bytes: int = 256 << 20
    """Maximum compressed size of the lanes of one workspace. Above it, further records fail in their pipelines."""

    delivery_max_bytes: int = 20 << 30
    """Maximum size of all deliveries, dead letters and attempts. Above it, the oldest ones of the largest destinations
    are deleted."""

    delivery_hours: int = 24
    """Hours in which an event is sent to a destination again and again, 1 to 720. Then it becomes a dead letter."""

    runs: int = DEFAULT_RUNS
    """Maximum number of run processes on this machine, 1 to 32. Further runs wait."""

    run_timeout: int = DEFAULT_RUN_TIMEOUT_SECONDS
    """Seconds after which a run without progress fails."""

    backends: int = 1
    """Number of backend processes, 1 to 64. Envoy distributes the calls among them."""

    api_key: str | None = field(default=None, repr=False)
    """Registered for the default workspace at the first start; None: one is generated."""

    secret_key: str | None = field(default=None, repr=False)
    """Encrypts the settings of connections; None: the key in the file at `secret_key_path` is used."""

    old_secret_keys: tuple[str, ...] = field(default=(), repr=False)
    """Earlier keys that encrypted settings. They are needed until `headwater secrets rotate` has run."""

    max_event_bytes: int = 32 * 1024
    """Maximum size of an event of the track API and gRPC, as decompressed JSON; at most `max_batch_bytes`."""

    max_batch_bytes: int = 500 * 1024
    """Maximum size of a batch, and of a call of the native API, as decompressed JSON."""

    max_client_bytes: int = 1024 * 1024
    """Maximum size of a call of the client API, as decompressed JSON."""

    rate_limit_workspace: Rate | None = None
    """Events per second of each workspace; None: no limit."""

    rate_limit_key: Rate | None = None
    """Events per second of each event write key and of each API key; None: no limit."""

    max_client_connections: int = 2_000
    """Maximum number of client connections. Above it, the gateway closes a connection before it reads a request."""

    idle_timeout: int = 60
    """Seconds after which the gateway closes a client connection without a request."""

    max_connection_duration: int = 3_600
    """Seconds after which the gateway asks a client to connect again, once its requests are complete."""

    trusted_proxies: TrustedProxies = NO_TRUSTED_PROXIES
    """The proxies whose X-Forwarded-For is used."""

    access_log_sample: int = 100
    """Log one in this many successful intake calls, chosen at random; 0: none of them."""

    rate_limit_management: Rate = DEFAULT_CALL_RATE
    """Management calls per second of each API key, including calls that only read."""

    max_connections: int = 1_000
    """Maximum number of connections of a workspace."""

    max_pipelines: int = 2_000
    """Maximum number of pipelines of a workspace."""

    max_keys: int = 1_000
    """Maximum number of API keys of a workspace, and of API keys that are valid for every workspace."""

    max_definition_bytes: int = 64 << 20
    """Maximum size of all pipeline definitions of a workspace: schemas, filters, mappings, functions."""

    max_connection_definition_bytes: int = 8 << 20
    """Maximum size of all pipeline definitions of a connection."""

    allow_private_destinations: str = "0"
    """The private addresses that connectors may connect to: "0" none, "1" all, or networks separated by commas."""

    connector_origins: tuple[tuple[str, str], ...] = ()
    """The origins of vendors, each with that of the server that stands for it."""

    filesystem_root: Path | None = None
    """The folder of the files that connections of the connector `filesystem` read and write; None: they reach none."""

    filesystem_shared: str = "0"
    """"0": each workspace has a folder of its own in `filesystem_root`, named by its id. "1": all use the root."""

    oauth_redirect_uris: tuple[str, ...] = ()
    """The redirect URIs that authorizations may use; empty: any that is valid."""

    oauth_hubspot_client_id: str | None = None
    """The client id of this installation at HubSpot; None: connections have a key of their own."""

    oauth_hubspot_client_secret: str | None = field(default=None, repr=False)
    """The client secret that belongs to the client id."""
    oauth_salesforce_client_id: str | None = None
    """The consumer key of this installation's app at Salesforce; None: accounts cannot be authorized."""

    oauth_salesforce_client_secret: str | None = field(default=None, repr=False)
    oauth_salesforce_url: str | None = None
    """The login server; None: that of production. Sandboxes have another."""

    oauth_sample_oauth_app_client_id: str | None = None
    """The client id of this installation at the provider of the sample OAuth app; None: the app is not offered."""

    oauth_sample_oauth_app_client_secret: str | None = field(default=None, repr=False)
    """The client secret that belongs to the client id."""

    oauth_sample_oauth_app_url: str | None = None
    """The base URL of the provider of the sample OAuth app."""

    metrics_port: int | None = None
    """The private port of Prometheus metrics; None: no metrics."""

    metrics_host: str = "127.0.0.1"
    """The IP address that the metrics port listens on."""

    maxmind_db: Path | None = None
    """A database in MaxMind's format with the locations of IP addresses; None: events get no location."""

    watchdog_seconds: int = 30
    """Seconds without a heartbeat after which a backend or the worker is killed and restarted; 0: never."""

    sandbox: str = "warn"
    """The reaction to a system that cannot confine the processes of functions: "warn" or "require"."""

    otlp_endpoint: str | None = field(default=None, repr=False)
    """The URL of the OpenTelemetry collector that gets spans, `http://…:4318`; None: there are no spans."""

    otlp_share: float = DEFAULT_OTLP_SHARE
    """Share of the traces that are recorded, above 0 to 1. A call with a sampled `traceparent` is always recorded."""

    log_level: str = "info"
    log_format: str = "json"

    run_dir: Path = field(default_factory=lambda: Path("data/run").absolute())
    """The folder of unix sockets and of the rendered gateway configuration; created again at every start."""

    @property
    def max_call_bytes(self) -> int:
        """Maximum size of a call with events, of any protocol, as decompressed JSON."""
        return max(self.max_batch_bytes, self.max_client_bytes)

    @property
    def max_body_bytes(self) -> int:
        """Maximum size of the body of an intake call at the gateway.

        It is above every other limit, so that the backend rejects a call that is slightly too large and stores the
        reason. Bodies of this size still fit in memory.
        """
        return max(4 << 20, 2 * self.max_call_bytes)

    @property
    def catalog_path(self) -> Path:
        return self.data_dir / "catalog.db"

    @property
    def log_path(self) -> Path:
        return self.data_dir / "log.db"

    @property
    def state_path(self) -> Path:
        return self.data_dir / "state.db"

    @property
    def warehouse_path(self) -> Path:
        return self.data_dir / "warehouse.db"

    @property
    def courier_path(self) -> Path:
        return self.data_dir / "courier.db"

    @property
    def delivery_path(self) -> Path:
        return self.data_dir / "delivery.db"

    @property
    def operations_path(self) -> Path:
        return self.data_dir / "operations.db"

    @property
    def runs_path(self) -> Path:
        return self.data_dir / "runs.db"

    @property
    def applications_dir(self) -> Path:
        """The folder of the users of applications for tests, with a folder for each workspace."""
        return self.data_dir / "applications"

    @property
    def scratch_dir(self) -> Path:
        """The folder of the temporary files of run processes. It is emptied at every start."""
        return self.data_dir / "scratch"

    def run_scratch(self, run: int, fence: int) -> Path:
        """Return the folder of the temporary files of a process of a run. A process that has lost the run may still
        use its own."""
        return self.scratch_dir / f"run-{run}-{fence}"

    @property
    def api_key_path(self) -> Path:
        """The file of the API key that was generated at the first start, mode 0600."""
        return self.data_dir / "api-key"

    @property
    def secret_key_path(self) -> Path:
        """The file of the key that was generated at the first start, mode 0600."""
        return self.data_dir / "secret-key"

    @property
    def lock_path(self) -> Path:
        """The file that the supervisor of the data directory locks. It contains its process id."""
        return self.data_dir / "lock"

    @property
    def backend_names(self) -> tuple[str, ...]:
        """The names of the backend processes. The first is always `backend`."""
        return ("backend", *(f"backend-{number}" for number in range(2, self.backends + 1)))

    def backend_socket(self, name: str) -> Path:
        """Return the gRPC socket of a backend. Each backend has its own sockets."""
        return self.run_dir / f"{name}.sock"

    def ingest_socket(self, name: str) -> Path:
        """Return the socket on which a backend accepts intake calls over HTTP."""
        return self.run_dir / f"{name}-ingest.sock"

    @property
    def admin_socket(self) -> Path:
        """Envoy's administration interface."""
        return self.run_dir / "envoy.sock"

    def deduplication_scratch(self, name: str) -> Path:
        """Return the folder of temporary files with which a backend reads the deduplication store."""
        return self.run_dir / f"{name}-deduplication"

    @property
    def outcomes_dir(self) -> Path:
        """The folder of the sockets on which backends with watchers receive the outcomes of deliveries."""
        return self.run_dir / "outcomes"

    @property
    def draining_file(self) -> Path:
        """A file that exists once the system stops: backends then end the streams of watchers."""
        return self.run_dir / "draining"

    def metrics_socket(self, process: str) -> Path:
        """Return the socket on which a process serves its metrics to the supervisor."""
        return self.run_dir / f"{process}-metrics.sock"

    @property
    def local_host(self) -> str:
        """The address at which this machine reaches the port: loopback if `host` is a wildcard."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)

    @property
    def base_url(self) -> str:
        """The URL of the public port on this machine."""
        host = f"[{self.local_host}]" if ":" in self.local_host else self.local_host
        return f"{'http' if self.tls_cert is None else 'https'}://{host}:{self.port}"

    def environment(self, *, without: Collection[str] = ()) -> dict[str, str]:
        """Return the variables from which `read` returns these settings, except the settings in `without`."""
        values = {name: getattr(self, name) for name in _PARSERS if name not in without}
        values["database_url"] = self.database_url or SQLITE  # unset, DATABASE_URL would be used
        if "old_secret_keys" in values:
            values["old_secret_keys"] = ",".join(self.old_secret_keys) or None
        values["connector_origins"] = ",".join("=".join(pair) for pair in self.connector_origins) or None
        values["oauth_redirect_uris"] = ",".join(self.oauth_redirect_uris) or None
        return {variable(name): str(value) for name, value in values.items() if value is not None}


def variable(name: str) -> str:
    """Return the environment variable of a setting."""
    return PREFIX + name.upper()


def unknown_variables(environ: Mapping[str, str]) -> dict[str, str | None]:
    """Return the unknown HEADWATER_* variables in `environ`, each with the most similar known variable.

    A variable that resembles an earlier name gets the present name.
    """
    known = {name.upper(): variable(name) for name in _PARSERS} | {URL_VARIABLE.removeprefix(PREFIX): URL_VARIABLE}
    earlier = {name.removeprefix(PREFIX): present for name, present in RENAMED.items()}
    given = sorted(name.removeprefix(PREFIX) for name in environ if name.startswith(PREFIX))
    similar = {
        name: difflib.get_close_matches(name, [*known, *earlier], n=1)
        for name in given
        if name not in known and name not in earlier
    }
    names = known | earlier
    return {PREFIX + name: names[found[0]] if found else None for name, found in similar.items()}


def renamed_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables in `environ` that have an earlier name, each with its present name."""
    return {old: name for old, name in RENAMED.items() if old in environ}


def read(environ: Mapping[str, str], flags: Mapping[str, str | None] | None = None) -> Settings:
    """Return the settings in `environ`; `flags` that are not None take precedence. An empty string counts as unset.

    Raises StartupError with the variable and the rule, without the value of a secret.
    """
    values: dict[str, object] = {}
    earlier = {name: old for old, name in RENAMED.items()}
    for name, parse in _PARSERS.items():
        flag = (flags or {}).get(name)
        source = variable(name)
        if flag is None and not environ.get(source):
            source = earlier.get(source, source)
        if name == "database_url" and flag is None and not environ.get(source):
            source = SHARED_DATABASE_VARIABLE
        text = environ.get(source, "") if flag is None else flag
        if text != "":
            if flag is not None and name in _FLAGS_WITHOUT_PASSWORD and parsers.has_password(name, text):
                raise StartupError(
                    f"--{name.replace('_', '-')} must not contain a password, because other users can read a command "
                    f"line: set {variable(name)} instead"
                )
            try:
                values[name] = parse(text)
            except ValueError as rule:
                raise StartupError(f"{source} {rule}") from None
    data_dir = values.setdefault("data_dir", Path("data").absolute())
    assert isinstance(data_dir, Path)
    values.setdefault("run_dir", data_dir / "run")
    settings = Settings(**values)  # type: ignore[arg-type]  # each parser returns the type of its field
    for name in missing_settings(settings):
        raise StartupError(f"{variable(name)} must be set, because other settings of the OAuth client are")
    if (settings.tls_cert is None) != (settings.tls_key is None):
        raise StartupError(f"{variable('tls_cert')} and {variable('tls_key')} must be set together")
    if settings.max_event_bytes > settings.max_batch_bytes:
        raise StartupError(
            f"{variable('max_event_bytes')} must not be larger than {variable('max_batch_bytes')}: "
            f"{settings.max_event_bytes} is more than {settings.max_batch_bytes}"
        )
    return settings


_FLAGS_WITHOUT_PASSWORD: Final = ("database_url", "nats_url")

_PARSERS: Final[Mapping[str, Callable[[str], object]]] = {
    "host": parsers.parse_address,
    "port": parsers.parse_port,
    "tls_cert": parsers.parse_file,
    "tls_key": parsers.parse_file,
    "data_dir": parsers.parse_folder,
    "database_url": parsers.parse_database,
    "nats_url": parsers.parse_nats,
    "nats_replicas": parsers.number(1, MAX_NATS_REPLICAS),
    "log_keep": units.parse_duration,
    "log_max_bytes": parsers.parse_log_bytes,
    "log_max_lag_bytes": units.parse_size,
    "lane_max_bytes": units.parse_size,
    "delivery_max_bytes": units.parse_size,
    "delivery_hours": parsers.number(1, MAX_DELIVERY_HOURS),
    "runs": parsers.number(1, MAX_RUNS),
    "run_timeout": parsers.parse_seconds,
    "backends": parsers.number(1, MAX_BACKENDS),
    "otlp_endpoint": parsers.parse_collector,
    "otlp_share": parsers.parse_share,
    "api_key": parsers.parse_api_key,
    "secret_key": parsers.parse_secret_key,
    "old_secret_keys": parsers.parse_old_secret_keys,
    "max_event_bytes": parsers.parse_body_bytes,
    "max_batch_bytes": parsers.parse_body_bytes,
    "max_client_bytes": parsers.parse_body_bytes,
    "rate_limit_workspace": units.parse_event_rate,
    "rate_limit_key": units.parse_event_rate,
    "max_client_connections": parsers.number(MIN_CLIENT_CONNECTIONS, MAX_CLIENT_CONNECTIONS),
    "idle_timeout": parsers.parse_seconds,
    "max_connection_duration": parsers.parse_seconds,
    "trusted_proxies": parsers.parse_trusted_proxies,
    "access_log_sample": parsers.number(0, MAX_ACCESS_LOG_SAMPLE),
    "rate_limit_management": units.parse_call_rate,
    "max_connections": parsers.parse_count,
    "max_pipelines": parsers.parse_count,
    "max_keys": parsers.parse_count,
    "max_definition_bytes": parsers.parse_definition_bytes,
    "max_connection_definition_bytes": parsers.parse_definition_bytes,
    "allow_private_destinations": parsers.parse_destinations,
    "connector_origins": parsers.parse_origins,
    "filesystem_root": parsers.parse_existing_folder,
    "filesystem_shared": parsers.choice("0", "1"),
    "oauth_redirect_uris": parsers.parse_redirect_uris,
    "oauth_hubspot_client_id": parsers.parse_visible,
    "oauth_hubspot_client_secret": parsers.parse_visible,
    "oauth_salesforce_client_id": parsers.parse_visible,
    "oauth_salesforce_client_secret": parsers.parse_visible,
    "oauth_salesforce_url": parsers.parse_base_url,
    "oauth_sample_oauth_app_client_id": parsers.parse_visible,
    "oauth_sample_oauth_app_client_secret": parsers.parse_visible,
    "oauth_sample_oauth_app_url": parsers.parse_base_url,
    "metrics_port": parsers.parse_port,
    "metrics_host": parsers.parse_address,
    "maxmind_db": parsers.parse_file,
    "watchdog_seconds": parsers.parse_watchdog,
    "sandbox": parsers.choice("warn", "require"),
    "log_level": parsers.choice("debug", "info", "warning", "error"),
    "log_format": parsers.choice("json", "text"),
    "run_dir": parsers.parse_folder,
}
