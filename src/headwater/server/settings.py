"""The one settings object: read from HEADWATER_* variables, overridden by flags, checked once, passed to every process.

Only the standard library is used: the supervisor, which lives as long as the system, stays small.
"""

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from headwater.server import quantities
from headwater.server.errors import StartupError
from headwater.server.quantities import EventRate

PREFIX = "HEADWATER_"
SHARED_DATABASE_VARIABLE = "DATABASE_URL"
"""Counts where HEADWATER_DATABASE_URL is unset: platforms that lend a database set it."""
SQLITE = "sqlite"
"""The database URL that stands for files in the data directory, whatever DATABASE_URL says."""
SOCKET_PATH_LIMIT = 107
"""Bytes in the longest path of a unix socket on Linux (sockaddr_un, without its final NUL)."""

SMALLEST_LIMIT = 1 << 10
LARGEST_LIMIT = 8 << 20
"""Bounds of the limits on what clients send. The gateway and the backend hold whole bodies in memory."""

SMALLEST_LOG = 64 << 20
"""A log must at least hold some of the largest calls."""

SMALLEST_DEFINITIONS = 64 << 10
LARGEST_DEFINITIONS = 1 << 30
LARGEST_COUNT = 1_000_000
"""Bounds of quotas: the whole catalog is in the memory of every process."""

DEFAULT_CALL_RATE = EventRate(100, 1_000)

MAX_WORKERS = 64

LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("json", "text")


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

    workers: int = 1
    """Backend processes, 1 to 64, between which Envoy shares out the calls."""

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
    def warehouse_path(self) -> Path:
        return self.data_dir / "warehouse.db"

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
    def backends(self) -> tuple[str, ...]:
        """The names of the backend processes. The first has the same name however many there are."""
        return ("backend", *(f"backend-{number}" for number in range(2, self.workers + 1)))

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

    def environment(self) -> dict[str, str]:
        """The variables from which `read` gives these settings again: how they reach child processes."""
        values = {name: getattr(self, name) for name in _READERS}
        values["database_url"] = self.database_url or SQLITE  # or DATABASE_URL would be taken for it
        values["old_secret_keys"] = ",".join(self.old_secret_keys) or None
        return {variable(name): str(value) for name, value in values.items() if value is not None}


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + name.upper()


def read(environ: Mapping[str, str], flags: Mapping[str, str | None] | None = None) -> Settings:
    """The settings in `environ`, where `flags` that are not None win. An empty string counts as unset.

    Raises StartupError, which names the variable and the rule, and never the value of a secret.
    """
    values: dict[str, object] = {}
    for name, reader in _READERS.items():
        flag = (flags or {}).get(name)
        source = variable(name)
        if name == "database_url" and flag is None and not environ.get(source):
            source = SHARED_DATABASE_VARIABLE
        text = environ.get(source, "") if flag is None else flag
        if text != "":
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
    number = quantities.size(text)
    if not SMALLEST_LIMIT <= number <= LARGEST_LIMIT:
        raise ValueError(f"must be a size from {SMALLEST_LIMIT} to {LARGEST_LIMIT} bytes, not {text!r}")
    return number


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:10]) <= LARGEST_COUNT):
        raise ValueError(f"must be a number from 1 to {LARGEST_COUNT}, not {text!r}")
    return int(text)


def _definition_bytes(text: str) -> int:
    number = quantities.size(text)
    if not SMALLEST_DEFINITIONS <= number <= LARGEST_DEFINITIONS:
        raise ValueError(f"must be a size from {SMALLEST_DEFINITIONS >> 10}KiB to 1GiB, not {text!r}")
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
    if (size := quantities.size(text)) < SMALLEST_LOG:
        raise ValueError(f"must be {SMALLEST_LOG >> 20}MiB or more, not {text!r}")
    return size


def _workers(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MAX_WORKERS):
        raise ValueError(f"must be a number from 1 to {MAX_WORKERS}, not {text!r}")
    return int(text)


def _api_key(text: str) -> str:
    if not text.startswith("api_") or len(text) < 20:
        raise ValueError('must start with "api_" and have at least 20 characters')
    if not (text.isascii() and text.isprintable()) or " " in text:
        raise ValueError("must consist of visible ASCII characters: it travels in a header")
    return text


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
    "log_keep": quantities.duration,
    "log_max_bytes": _log_bytes,
    "log_max_lag_bytes": quantities.size,
    "workers": _workers,
    "api_key": _api_key,
    "secret_key": _secret_key,
    "old_secret_keys": _old_secret_keys,
    "max_event_bytes": _body_bytes,
    "max_batch_bytes": _body_bytes,
    "max_client_bytes": _body_bytes,
    "rate_limit_workspace": quantities.event_rate,
    "rate_limit_key": quantities.event_rate,
    "rate_limit_management": quantities.call_rate,
    "max_connections": _count,
    "max_pipelines": _count,
    "max_keys": _count,
    "max_definition_bytes": _definition_bytes,
    "max_connection_definition_bytes": _definition_bytes,
    "metrics_port": _port,
    "metrics_host": _address,
    "maxmind_db": _file,
    "log_level": _one_of(LOG_LEVELS),
    "log_format": _one_of(LOG_FORMATS),
    "run_dir": _folder,
}
