"""The one settings object: read from HEADWATER_* variables, overridden by flags, checked once, passed to every process.

Only the standard library is used: the supervisor, which lives as long as the system, stays small.
"""

import difflib
import ipaddress
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, parse_qsl, urlsplit

from headwater.base import apikeys
from headwater.server import units
from headwater.server.errors import StartupError
from headwater.server.units import EventRate

PREFIX = "HEADWATER_"
SHARED_DATABASE_VARIABLE = "DATABASE_URL"
"""Counts where HEADWATER_DATABASE_URL is unset: platforms that lend a database set it."""
SQLITE = "sqlite"
"""The database URL that stands for files in the data directory, whatever DATABASE_URL says."""
SOCKET_PATH_LIMIT = 107
"""Bytes in the longest path of a unix socket on Linux (sockaddr_un, without its final NUL)."""

MIN_LIMIT_BYTES = 1 << 10
MAX_LIMIT_BYTES = 8 << 20
"""Bounds of the limits on what clients send. The gateway and the backend hold whole bodies in memory."""

MIN_LOG_BYTES = 64 << 20
"""A log must at least hold some of the largest calls."""

MIN_DEFINITIONS_BYTES = 64 << 10
LARGEST_DEFINITIONS = 1 << 30
LARGEST_COUNT = 1_000_000
"""Bounds of quotas: the whole catalog is in the memory of every process."""

DEFAULT_CALL_RATE = EventRate(100, 1_000)

MAX_BACKENDS = 64
MIN_CLIENT_CONNECTIONS = 10
MAX_CLIENT_CONNECTIONS = 30_000
"""The largest number of client connections. One of them may need two open files, of which a process has 65,536."""
MAX_PROXY_HOPS = 16
MAX_SAMPLE = 1_000_000

MIN_WATCHDOG_SECONDS = 3
MAX_WATCHDOG_SECONDS = 3600

SANDBOX_MODES = ("warn", "require")

SECRETS = ("api_key", "secret_key", "old_secret_keys")
"""Settings that only the backends get. See `headwater.server.environment`."""

RENAMED = {"HEADWATER_WORKERS": "HEADWATER_BACKENDS"}
"""Variables that are still read under an earlier name, unless the present one is set."""

LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("json", "text")


@dataclass(frozen=True, slots=True)
class TrustedProxies:
    """The proxies in front of the gateway: how many there are, or the networks that they are in. Not both."""

    hops: int = 0
    networks: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ",".join(self.networks) or str(self.hops)


NO_TRUSTED_PROXIES = TrustedProxies()


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What an operator may decide. Secrets are left out of the representation."""

    host: str = "127.0.0.1"
    """The IP address that the public port listens on."""

    port: int = 8080
    """The one public port, 1 to 65535."""

    data_dir: Path = field(default_factory=lambda: Path("data").absolute())
    """The folder of everything that is kept; absolute."""

    database_url: str | None = field(default=None, repr=False)
    """Where catalog and warehouse live, `postgresql+asyncpg://…`; None: SQLite files in `data_dir`."""

    nats_url: str | None = field(default=None, repr=False)
    """Where the event log lives, `nats://…`, several with commas between; None: a SQLite file in `data_dir`."""

    nats_replicas: int = 1
    """How many servers of NATS keep each frame; 1 to 5."""

    log_keep: int = 24 * 3600
    """How long the event log keeps what is finished, in seconds."""

    log_max_bytes: int = 10 << 30
    """The bytes of the event log. Beyond it finished frames go early, and without any calls are refused (503)."""

    log_max_lag_bytes: int = 2 << 30
    """How much of the event log may wait for the worker before calls are refused (429)."""

    lane_max_bytes: int = 256 << 20
    """How much may wait in the lanes of one workspace, compressed. Beyond it new records fail in their pipelines."""

    backends: int = 1
    """Number of backend processes, 1 to 64. Envoy distributes the calls among them."""

    api_key: str | None = field(default=None, repr=False)
    """Registered for the default workspace at the first start; None: one is made."""

    secret_key: str | None = field(default=None, repr=False)
    """Encrypts what connections keep secret; None: the key in the file at `secret_key_path` does."""

    old_secret_keys: tuple[str, ...] = field(default=(), repr=False)
    """Keys that encrypted it before, until `headwater secrets rotate` has run."""

    max_event_bytes: int = 32 * 1024
    """The largest event of the track API and over gRPC, as JSON after inflating; at most `max_batch_bytes`."""

    max_batch_bytes: int = 500 * 1024
    """The largest batch, and the largest call of the native API, as JSON after inflating."""

    max_client_bytes: int = 1024 * 1024
    """The largest call of the client API, as JSON after inflating."""

    rate_limit_workspace: EventRate | None = None
    """How many events each workspace may send; None: any number."""

    rate_limit_key: EventRate | None = None
    """How many events may be sent with each event write key, and with each API key; None: any number."""

    max_client_connections: int = 2_000
    """Client connections that the gateway holds open; one beyond them is closed before its request is read."""

    idle_timeout: int = 60
    """Seconds after which the gateway closes a client connection without a request."""

    max_connection_duration: int = 3_600
    """Seconds after which the gateway asks a client to connect again; requests that have begun are answered."""

    trusted_proxies: TrustedProxies = NO_TRUSTED_PROXIES
    """The proxies whose X-Forwarded-For is believed."""

    access_log_sample: int = 100
    """Log one in this many successful intake calls, chosen at random; 0: none of them."""
    rate_limit_management: EventRate = DEFAULT_CALL_RATE
    """How many management calls may be made with each API key, reading ones included."""

    max_connections: int = 1_000
    """The connections of each workspace."""

    max_pipelines: int = 2_000
    """The pipelines of each workspace."""

    max_keys: int = 1_000
    """The API keys that are restricted to each workspace, and those of every workspace together."""

    max_definition_bytes: int = 64 << 20
    """The definitions of the pipelines of each workspace: schemas, filters, mappings, functions."""

    max_connection_definition_bytes: int = 8 << 20
    """The definitions of the pipelines of each connection."""

    metrics_port: int | None = None
    """The private port of Prometheus metrics; None: there is none."""

    metrics_host: str = "127.0.0.1"
    """The IP address that the metrics port listens on."""

    maxmind_db: Path | None = None
    """A database of MaxMind's format that tells where addresses are; None: nobody looks."""

    watchdog_seconds: int = 30
    """Seconds without a heartbeat after which a backend or the worker is killed and restarted; 0: never."""

    sandbox: str = "warn"
    """One of SANDBOX_MODES: what to do when this system cannot confine the processes that run functions."""

    log_level: str = "info"
    log_format: str = "json"

    run_dir: Path = field(default_factory=lambda: Path("data/run").absolute())
    """The folder of unix sockets and of the rendered gateway configuration; made anew at every start."""

    @property
    def max_call_bytes(self) -> int:
        """The largest call with events, of any dialect, as JSON after inflating."""
        return max(self.max_batch_bytes, self.max_client_bytes)

    @property
    def max_body_bytes(self) -> int:
        """The largest body of an intake call that the gateway lets pass: more than any limit, so that what is too large
        by some is refused where its reason can be kept, and little enough to be held in memory."""
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
    def api_key_path(self) -> Path:
        """Where the backend leaves the API key of the first start, mode 0600."""
        return self.data_dir / "api-key"

    @property
    def secret_key_path(self) -> Path:
        """Where the backend keeps the key that it makes at the first start when none is given, mode 0600."""
        return self.data_dir / "secret-key"

    @property
    def lock_path(self) -> Path:
        """Locked by the supervisor that owns the data directory; holds its process id."""
        return self.data_dir / "lock"

    @property
    def backend_names(self) -> tuple[str, ...]:
        """The names of the backend processes. The first one is `backend`, whatever their number."""
        return ("backend", *(f"backend-{number}" for number in range(2, self.backends + 1)))

    def backend_socket(self, name: str) -> Path:
        """Where the backend of this name serves gRPC: each has sockets of its own."""
        return self.run_dir / f"{name}.sock"

    def raw_socket(self, name: str) -> Path:
        """Where the backend of this name takes raw calls over HTTP."""
        return self.run_dir / f"{name}-raw.sock"

    @property
    def admin_socket(self) -> Path:
        """Envoy's administration interface."""
        return self.run_dir / "envoy.sock"

    def ledger_scratch(self, name: str) -> Path:
        """What the backend of this name needs while it reads the ledger, and nobody afterwards."""
        return self.run_dir / f"{name}-ledger"

    def metrics_socket(self, process: str) -> Path:
        """Where a process shows its metrics, for the supervisor to collect."""
        return self.run_dir / f"{process}-metrics.sock"

    @property
    def local_host(self) -> str:
        """The address at which this machine reaches the port: the loopback of its family when `host` is a wildcard."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)

    @property
    def base_url(self) -> str:
        """The address to type."""
        host = f"[{self.local_host}]" if ":" in self.local_host else self.local_host
        return f"http://{host}:{self.port}"

    def environment(self, *, without: Collection[str] = ()) -> dict[str, str]:
        """Return the variables from which `read` makes these settings again, except the settings in `without`."""
        values = {name: getattr(self, name) for name in _READERS if name not in without}
        values["database_url"] = self.database_url or SQLITE  # or DATABASE_URL would be taken for it
        if "old_secret_keys" in values:
            values["old_secret_keys"] = ",".join(self.old_secret_keys) or None
        return {variable(name): str(value) for name, value in values.items() if value is not None}


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + name.upper()


def unknown_variables(environ: Mapping[str, str]) -> dict[str, str | None]:
    """The HEADWATER_* variables in `environ` that are no settings, each with the name of the most similar setting."""
    known = [name.upper() for name in _READERS]
    given = (name.removeprefix(PREFIX) for name in environ if name.startswith(PREFIX) and name not in RENAMED)
    similar = {name: difflib.get_close_matches(name, known, n=1) for name in sorted(given) if name not in known}
    return {PREFIX + name: PREFIX + found[0] if found else None for name, found in similar.items()}


def renamed_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables in `environ` that have an earlier name, each with its present name."""
    return {old: name for old, name in RENAMED.items() if old in environ}


def read(environ: Mapping[str, str], flags: Mapping[str, str | None] | None = None) -> Settings:
    """The settings in `environ`, where `flags` that are not None win. An empty string counts as unset.

    Raises StartupError, which names the variable and the rule, and never the value of a secret.
    """
    values: dict[str, object] = {}
    earlier = {name: old for old, name in RENAMED.items()}
    for name, reader in _READERS.items():
        flag = (flags or {}).get(name)
        source = variable(name)
        if flag is None and not environ.get(source):
            source = earlier.get(source, source)
        if name == "database_url" and flag is None and not environ.get(source):
            source = SHARED_DATABASE_VARIABLE
        text = environ.get(source, "") if flag is None else flag
        if text != "":
            if flag is not None and name in _FLAGS_WITHOUT_PASSWORD and _has_password(name, text):
                raise StartupError(
                    f"--{name.replace('_', '-')} must not contain a password, because other users can read a command "
                    f"line: set {variable(name)} instead"
                )
            try:
                values[name] = reader(text)
            except ValueError as rule:
                raise StartupError(f"{source} {rule}") from None
    data_dir = values.setdefault("data_dir", Path("data").absolute())
    assert isinstance(data_dir, Path)
    values.setdefault("run_dir", data_dir / "run")
    settings = Settings(**values)  # type: ignore[arg-type]  # each reader gives the type of its field
    if settings.max_event_bytes > settings.max_batch_bytes:
        raise StartupError(
            f"{variable('max_event_bytes')} must not be larger than {variable('max_batch_bytes')}: "
            f"{settings.max_event_bytes} is more than {settings.max_batch_bytes}"
        )
    return settings


_FLAGS_WITHOUT_PASSWORD = ("database_url", "nats_url")


def _has_password(name: str, text: str) -> bool:
    """Return whether a URL holds credentials; when it cannot be parsed, whether it may."""
    for url in text.split(",") if name == "nats_url" else [text]:
        try:
            parts = urlsplit(url)
            names = {key.lower() for key, _ in parse_qsl(parts.query, keep_blank_values=True)}
        except ValueError:
            return "@" in text
        if parts.password is not None or names & {"password", "sslpassword"}:
            return True
        if name == "nats_url" and parts.username is not None:  # it is a token then
            return True
    return False


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address("127.0.0.1" if text == "localhost" else text))
    except ValueError:
        raise ValueError(f"must be an IP address such as 127.0.0.1 or 0.0.0.0, not {text!r}") from None


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 65535):
        raise ValueError(f"must be a number from 1 to 65535, not {text!r}")
    return int(text)


def _body_bytes(text: str) -> int:
    number = units.size(text)
    if not MIN_LIMIT_BYTES <= number <= MAX_LIMIT_BYTES:
        raise ValueError(f"must be a size from {MIN_LIMIT_BYTES} to {MAX_LIMIT_BYTES} bytes, not {text!r}")
    return number


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:10]) <= LARGEST_COUNT):
        raise ValueError(f"must be a number from 1 to {LARGEST_COUNT}, not {text!r}")
    return int(text)


def _definition_bytes(text: str) -> int:
    number = units.size(text)
    if not MIN_DEFINITIONS_BYTES <= number <= LARGEST_DEFINITIONS:
        raise ValueError(f"must be a size from {MIN_DEFINITIONS_BYTES >> 10}KiB to 1GiB, not {text!r}")
    return number


def _folder(text: str) -> Path:
    if "\0" in text:
        raise ValueError("must be the path of a folder")
    return Path(text).expanduser().absolute()


def _file(text: str) -> Path:
    if "\0" in text:
        raise ValueError("must be the path of a file")
    return Path(text).expanduser().absolute()


def _database(text: str) -> str | None:
    if text == SQLITE:
        return None
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in ("postgresql+asyncpg", "postgresql", "postgres"):
        raise ValueError(
            "must start with postgresql:// (or postgresql+asyncpg://, postgres://), or be sqlite for files in the data "
            "directory"
        )
    url = f"postgresql+asyncpg://{rest}"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:  # its own words would repeat a part of the URL
        raise ValueError("is not a valid URL: percent-encode what is special in user and password") from None
    if not url.isprintable() or " " in url:
        raise ValueError("must not contain spaces or control characters: percent-encode them")
    if not parts.path.strip("/"):
        raise ValueError("must name a database: postgresql://user:password@host/database")
    if not parts.hostname and not parse_qs(parts.query).get("host"):
        raise ValueError("must name a host: postgresql://user:password@host/database")
    return url


def _nats(text: str) -> str:
    servers = [server.strip() for server in text.split(",")]
    for server in servers:
        try:
            parts = urlsplit(server)
            is_valid = parts.scheme in ("nats", "tls") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_valid = False
        if not is_valid or not server.isprintable() or " " in server:
            raise ValueError("must be nats://host:4222 or tls://user:password@host, several with commas between")
    return ",".join(servers)


def _replicas(text: str) -> int:
    if text not in ("1", "2", "3", "4", "5"):
        raise ValueError(f"must be a number from 1 to 5, not {text!r}")
    return int(text)


def _log_bytes(text: str) -> int:
    if (size := units.size(text)) < MIN_LOG_BYTES:
        raise ValueError(f"must be {MIN_LOG_BYTES >> 20}MiB or more, not {text!r}")
    return size


def _backends(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MAX_BACKENDS):
        raise ValueError(f"must be a number from 1 to {MAX_BACKENDS}, not {text!r}")
    return int(text)


def _number(least: int, most: int) -> Callable[[str], int]:
    def read_number(text: str) -> int:
        if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
            raise ValueError(f"must be a number from {least} to {most}, not {text!r}")
        return int(text)

    return read_number


def _seconds(text: str) -> int:
    if not 1 <= (seconds := units.duration(text)) <= 7 * 86_400:
        raise ValueError(f"must be a duration from 1s to 7d, not {text!r}")
    return seconds


def _trusted_proxies(text: str) -> TrustedProxies:
    if text.isascii() and text.isdigit() and int(text) <= MAX_PROXY_HOPS:
        return TrustedProxies(hops=int(text))
    try:
        networks = [ipaddress.ip_network(network.strip()) for network in text.split(",")]
    except ValueError:
        raise ValueError(
            f"must be the number of proxies, from 0 to {MAX_PROXY_HOPS}, or their networks with commas between "
            f"(10.0.0.0/8,2001:db8::/32), not {text!r}"
        ) from None
    return TrustedProxies(networks=tuple(map(str, networks)))


def _api_key(text: str) -> str:
    apikeys.check(text)
    return text


def _watchdog(text: str) -> int:
    rule = f"must be 0 or a number of seconds from {MIN_WATCHDOG_SECONDS} to {MAX_WATCHDOG_SECONDS}, not {text!r}"
    if not (text.isascii() and text.isdigit() and len(text) <= 6):
        raise ValueError(rule)
    if int(text) and not MIN_WATCHDOG_SECONDS <= int(text) <= MAX_WATCHDOG_SECONDS:
        raise ValueError(rule)
    return int(text)


def _secret_key(text: str) -> str:
    if len(text) < 32:
        raise ValueError("must have at least 32 characters")
    return text


def _old_secret_keys(text: str) -> tuple[str, ...]:
    keys = tuple(key.strip() for key in text.split(",") if key.strip())
    if any(len(key) < 32 for key in keys):
        raise ValueError("must be keys of at least 32 characters, separated by commas")
    return keys


def _one_of(choices: tuple[str, ...]) -> Callable[[str], str]:
    def read_choice(text: str) -> str:
        if text.lower() not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}, not {text!r}")
        return text.lower()

    return read_choice


_READERS: dict[str, Callable[[str], object]] = {
    "host": _address,
    "port": _port,
    "data_dir": _folder,
    "database_url": _database,
    "nats_url": _nats,
    "nats_replicas": _replicas,
    "log_keep": units.duration,
    "log_max_bytes": _log_bytes,
    "log_max_lag_bytes": units.size,
    "lane_max_bytes": units.size,
    "backends": _backends,
    "api_key": _api_key,
    "secret_key": _secret_key,
    "old_secret_keys": _old_secret_keys,
    "max_event_bytes": _body_bytes,
    "max_batch_bytes": _body_bytes,
    "max_client_bytes": _body_bytes,
    "rate_limit_workspace": units.event_rate,
    "rate_limit_key": units.event_rate,
    "max_client_connections": _number(MIN_CLIENT_CONNECTIONS, MAX_CLIENT_CONNECTIONS),
    "idle_timeout": _seconds,
    "max_connection_duration": _seconds,
    "trusted_proxies": _trusted_proxies,
    "access_log_sample": _number(0, MAX_SAMPLE),
    "rate_limit_management": units.call_rate,
    "max_connections": _count,
    "max_pipelines": _count,
    "max_keys": _count,
    "max_definition_bytes": _definition_bytes,
    "max_connection_definition_bytes": _definition_bytes,
    "metrics_port": _port,
    "metrics_host": _address,
    "maxmind_db": _file,
    "watchdog_seconds": _watchdog,
    "sandbox": _one_of(SANDBOX_MODES),
    "log_level": _one_of(LOG_LEVELS),
    "log_format": _one_of(LOG_FORMATS),
    "run_dir": _folder,
}
