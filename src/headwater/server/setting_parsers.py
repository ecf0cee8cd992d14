"""Parsers of settings: each turns the text of a variable or flag into a value, or raises ValueError with the rule.

The rule completes a sentence that starts with the name of the variable: "HEADWATER_PORT must be …". It never contains a
secret. Only the standard library is used: the supervisor, which runs as long as the system, stays small.
"""

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, parse_qsl, urlsplit

from headwater.base import apikeys
from headwater.server import units

SQLITE: Final = "sqlite"
"""The database URL that means files in the data directory, even if DATABASE_URL is set."""

MIN_LIMIT_BYTES: Final = 1 << 10
MAX_LIMIT_BYTES: Final = 8 << 20
"""Maximum of the limits on calls. The gateway and the backend hold whole bodies in memory."""

MIN_LOG_BYTES: Final = 64 << 20
"""Minimum size of the event log: some of the largest calls fit in it."""

MIN_DEFINITIONS_BYTES: Final = 64 << 10
MAX_DEFINITIONS_BYTES: Final = 1 << 30
MAX_COUNT: Final = 1_000_000
"""Maximum of quotas. Every process holds the whole catalog in memory."""

MAX_PROXY_HOPS: Final = 16
MIN_SECRET_KEY_CHARACTERS: Final = 32
MIN_WATCHDOG_SECONDS: Final = 3
MAX_WATCHDOG_SECONDS: Final = 3600
_ORIGIN: Final = re.compile(r"(?i)https?://(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(:[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class TrustedProxies:
    """The proxies in front of the gateway: their number, or the networks that they are in, but not both."""

    hops: int = 0
    networks: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ",".join(self.networks) or str(self.hops)


def number(minimum: int, maximum: int) -> Callable[[str], int]:
    """Return a parser of whole numbers in this range."""

    def parse_number(text: str) -> int:
        if not (_is_digits(text) and minimum <= int(text) <= maximum):
            raise ValueError(f"must be a number from {minimum} to {maximum}, not {text!r}")
        return int(text)

    return parse_number


def choice(*choices: str) -> Callable[[str], str]:
    """Return a parser of one of these words, in upper or lower case."""

    def parse_choice(text: str) -> str:
        if text.lower() not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}, not {text!r}")
        return text.lower()

    return parse_choice


def parse_address(text: str) -> str:
    """Parse an IP address or "localhost"."""
    try:
        return str(ipaddress.ip_address("127.0.0.1" if text == "localhost" else text))
    except ValueError:
        raise ValueError(f"must be an IP address such as 127.0.0.1 or 0.0.0.0, not {text!r}") from None


parse_port: Final = number(1, 65535)
parse_count: Final = number(1, MAX_COUNT)


def parse_body_bytes(text: str) -> int:
    """Parse a limit on the size of events or calls."""
    size = units.parse_size(text)
    if not MIN_LIMIT_BYTES <= size <= MAX_LIMIT_BYTES:
        raise ValueError(f"must be a size from {MIN_LIMIT_BYTES} to {MAX_LIMIT_BYTES} bytes, not {text!r}")
    return size


def parse_definition_bytes(text: str) -> int:
    """Parse a quota of definitions."""
    size = units.parse_size(text)
    if not MIN_DEFINITIONS_BYTES <= size <= MAX_DEFINITIONS_BYTES:
        raise ValueError(f"must be a size from {MIN_DEFINITIONS_BYTES >> 10}KiB to 1GiB, not {text!r}")
    return size


def parse_log_bytes(text: str) -> int:
    """Parse the maximum size of the event log."""
    if (size := units.parse_size(text)) < MIN_LOG_BYTES:
        raise ValueError(f"must be {MIN_LOG_BYTES >> 20}MiB or more, not {text!r}")
    return size


def parse_seconds(text: str) -> int:
    """Parse a duration of one second to seven days."""
    if not 1 <= (seconds := units.parse_duration(text)) <= 7 * 86_400:
        raise ValueError(f"must be a duration from 1s to 7d, not {text!r}")
    return seconds


def parse_watchdog(text: str) -> int:
    """Parse the time without a heartbeat, in seconds; 0 turns the watchdog off."""
    if not (_is_digits(text) and (int(text) == 0 or MIN_WATCHDOG_SECONDS <= int(text) <= MAX_WATCHDOG_SECONDS)):
        raise ValueError(
            f"must be 0 or a number of seconds from {MIN_WATCHDOG_SECONDS} to {MAX_WATCHDOG_SECONDS}, not {text!r}"
        )
    return int(text)


def parse_folder(text: str) -> Path:
    """Return the absolute path of a folder."""
    return _parse_path(text, "folder")


def parse_existing_folder(text: str) -> Path:
    """Parse the path of a folder that exists."""
    path = _parse_path(text, "folder")
    if not path.is_dir():
        raise ValueError(f"must be a folder that exists, not {text!r}")
    return path


def parse_file(text: str) -> Path:
    """Return the absolute path of a file."""
    return _parse_path(text, "file")


def parse_database(text: str) -> str | None:
    """Return the database URL for asyncpg; None means SQLite files in the data directory."""
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
    except ValueError:  # the original text repeats a part of the URL
        raise ValueError("is not a valid URL: percent-encode special characters in user and password") from None
    if not url.isprintable() or " " in url:
        raise ValueError("must not contain spaces or control characters: percent-encode them")
    if not parts.path.strip("/"):
        raise ValueError("must name a database: postgresql://user:password@host/database")
    if not parts.hostname and not parse_qs(parts.query).get("host"):
        raise ValueError("must name a host: postgresql://user:password@host/database")
    return url


def parse_nats(text: str) -> str:
    """Parse the URLs of NATS servers, separated by commas."""
    servers = [server.strip() for server in text.split(",")]
    for server in servers:
        try:
            parts = urlsplit(server)
            is_valid = parts.scheme in ("nats", "tls") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_valid = False
        if not is_valid or not server.isprintable() or " " in server:
            raise ValueError("must be nats://host:4222 or tls://user:password@host, separated by commas if several")
    return ",".join(servers)


def parse_collector(text: str) -> str:
    """Parse the URL of an OpenTelemetry collector, to which the path of traces is added."""
    try:
        parts = urlsplit(text)
        is_valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_valid = False
    if not is_valid or parts.query or parts.fragment or not text.isprintable() or " " in text:
        raise ValueError("must be http://host:4318 or https://host/path")
    return text


def parse_share(text: str) -> float:
    """Parse a share, above 0 to 1."""
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise ValueError(f"must be a number above 0 to 1, not {text!r}")
    return share


def has_password(name: str, text: str) -> bool:
    """Return whether the URL of this setting contains credentials, or may contain some because it cannot be parsed."""
    for url in text.split(",") if name == "nats_url" else [text]:
        try:
            parts = urlsplit(url)
            names = {key.lower() for key, _ in parse_qsl(parts.query, keep_blank_values=True)}
        except ValueError:
            return "@" in text
        if parts.password is not None or names & {"password", "sslpassword"}:
            return True
        if name == "nats_url" and parts.username is not None:  # NATS reads a user without a password as a token
            return True
    return False


def parse_trusted_proxies(text: str) -> TrustedProxies:
    """Parse the number of proxies, or their networks separated by commas."""
    if _is_digits(text) and int(text) <= MAX_PROXY_HOPS:
        return TrustedProxies(hops=int(text))
    try:
        return TrustedProxies(networks=_parse_networks(text))
    except ValueError:
        raise ValueError(
            f"must be the number of proxies, from 0 to {MAX_PROXY_HOPS}, or their networks with commas between "
            f"(10.0.0.0/8,2001:db8::/32), not {text!r}"
        ) from None


def parse_destinations(text: str) -> str:
    """Parse the private addresses that connectors may connect to: "0" for none, "1" for all, or networks.

    Networks are separated by commas. `headwater.connectors.addresses.AddressPolicy.parse` reads the result.
    """
    if text in ("0", "1"):
        return text
    try:
        return ",".join(_parse_networks(text))
    except ValueError:
        raise ValueError(
            "must be 0 for none, 1 for all private addresses, or the allowed networks with commas between "
            f"(10.0.0.0/8,fd00::/8), not {text!r}"
        ) from None


def parse_origins(text: str) -> tuple[tuple[str, str], ...]:
    """Parse the servers that stand for those of vendors: pairs of origins with "=" between, separated by commas."""
    pairs = [tuple(origin.strip() for origin in pair.split("=")) for pair in text.split(",") if pair.strip()]
    if not all(len(pair) == 2 and all(_ORIGIN.fullmatch(origin) for origin in pair) for pair in pairs):
        raise ValueError(
            "must be pairs of origins without paths, separated by commas (https://a.klaviyo.com=http://127.0.0.1:9000)"
        )
    vendors = [pair[0].lower() for pair in pairs]
    if len(set(vendors)) < len(vendors):
        raise ValueError("must have each origin of a vendor once")
    return tuple((vendor, pair[1].lower()) for vendor, pair in zip(vendors, pairs, strict=True))


def parse_api_key(text: str) -> str:
    """Check the rules of API keys."""
    apikeys.check(text)
    return text


def parse_secret_key(text: str) -> str:
    """Check the length of a key that encrypts settings."""
    if len(text) < MIN_SECRET_KEY_CHARACTERS:
        raise ValueError(f"must have at least {MIN_SECRET_KEY_CHARACTERS} characters")
    return text


def parse_old_secret_keys(text: str) -> tuple[str, ...]:
    """Parse earlier keys that encrypted settings, separated by commas."""
    keys = tuple(key.strip() for key in text.split(",") if key.strip())
    if any(len(key) < MIN_SECRET_KEY_CHARACTERS for key in keys):
        raise ValueError(f"must be keys of at least {MIN_SECRET_KEY_CHARACTERS} characters, separated by commas")
    return keys


def parse_redirect_uris(text: str) -> tuple[str, ...]:
    """Parse the allowed redirect URIs of authorizations, separated by commas."""
    uris = tuple(uri.strip() for uri in text.split(",") if uri.strip())
    if not all(_is_http_url(uri) for uri in uris):
        raise ValueError("must be absolute URLs with https, or with http on this machine, separated by commas")
    return uris


def parse_base_url(text: str) -> str:
    """Parse the base URL of a service, and remove final slashes."""
    if not _is_http_url(text) or "?" in text or "#" in text or "@" in text:
        raise ValueError("must be https://host or http://host, without a query, a fragment, a user and a password")
    return text.rstrip("/")


def parse_visible(text: str) -> str:
    """Check that a text consists of printable ASCII characters without spaces."""
    if not (text.isascii() and text.isprintable()) or " " in text:
        raise ValueError("must consist of printable ASCII characters without spaces")
    return text


def _is_http_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and " " not in text
    except ValueError:
        return False


def _parse_networks(text: str) -> tuple[str, ...]:
    return tuple(str(ipaddress.ip_network(network.strip())) for network in text.split(","))


def _parse_path(text: str, kind: str) -> Path:
    if "\0" in text:
        raise ValueError(f"must be the path of a {kind}")
    return Path(text).expanduser().absolute()


def _is_digits(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10
