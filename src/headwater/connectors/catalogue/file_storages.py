"""File storages: files that users are read from and profiles are written to. A file's format is another connector:
see `file_formats`."""

import re
from typing import Annotated, Final, Self
from urllib.parse import urlsplit

from headwater.connectors.addresses import find_broken_url_rule
from headwater.connectors.catalogue.databases import Port
from headwater.connectors.connector import Capabilities, Connector
from headwater.connectors.contract import ConnectorContext, Engine, FileStorage
from headwater.connectors.settings import PRINTABLE, VISIBLE, Flag, Format, List, Settings, Text, setting

_REGION: Final = Format(re.compile(r"[a-z]{2}(-[a-z]+)+-[1-9]"), 'must be an AWS region, such as "eu-west-1"')
"""A pattern instead of a list: AWS opens regions more often than installations are updated."""
_BUCKET: Final = Format(re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*"), 'must consist of letters, digits, ".", "_" and "-"')


_HOST: Final = Format(
    re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?|[0-9A-Fa-f:.]+"), "must be the name of a host, or an IP address"
)
_HEADER: Final = Format(re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"), "must be the name of an HTTP header")
_HEADER_VALUE: Final = Format(re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*"), "must not contain control characters")

Host = Annotated[str, Text(1, 253, _HOST)]


class FileSystemSettings(Settings, frozen=True, kw_only=True):
    simulate_high_io_latency: Annotated[bool, Flag(label="Simulate high I/O latency")] = setting(
        "simulateHighIOLatency", False
    )


def _endpoint_rule(url: str) -> str | None:
    if not url:
        return None
    if (rule := find_broken_url_rule(url)) is not None:
        return rule
    parts = urlsplit(url)
    return "must not have a path or a query" if parts.path.strip("/") or parts.query else None


class S3Settings(Settings, frozen=True, kw_only=True):
    """The keys and the region of AWS have fixed forms; those of other services do not."""

    access_key_id: Annotated[str, Text(1, 128, PRINTABLE)] = setting("accessKeyID")
    secret_access_key: Annotated[str, Text(1, 200, secret=True)]
    region: Annotated[str, Text(1, 100, VISIBLE)]
    bucket: Annotated[str, Text(3, 63, _BUCKET)]
    endpoint: Annotated[
        str,
        Text(
            0,
            1_000,
            check=_endpoint_rule,
            help='The URL of another service than AWS, such as "https://minio.example.com:9000".',
        ),
    ] = ""

    @classmethod
    def read(cls, given: object, path: str = "settings") -> Self:
        settings = super().read(given, path)
        if not settings.endpoint:
            for name, declared in _AWS.items():
                declared.read(settings.document()[name], f"{path}.{name}", str)
        return settings


_AWS: Final = {
    "accessKeyID": Text(20, 20),
    "secretAccessKey": Text(40, 200, secret=True),
    "region": Text(1, 100, _REGION),
}


class SftpSettings(Settings, frozen=True, kw_only=True):
    host: Host
    port: Port
    username: Annotated[str, Text(1, 200)]
    password: Annotated[str, Text(1, 200, secret=True)]
    host_public_key: Annotated[
        str,
        Text(
            0,
            5_000,
            help="The server's public key, as a line of a known_hosts file has it. Without it the key that the server "
            "has when you save is stored.",
        ),
    ] = ""


class SftpDestinationSettings(SftpSettings, frozen=True, kw_only=True):
    temp_path: Annotated[str, Text(0, 1_000, help="Files are written there and then moved to their path.")] = ""


class HttpHeader(Settings, frozen=True, kw_only=True):
    key: Annotated[str, Text(1, 100, _HEADER)]
    value: Annotated[str, Text(1, 10_000, _HEADER_VALUE, secret=True)]


class HttpSettings(Settings, frozen=True, kw_only=True):
    host: Host
    port: Port
    headers: Annotated[tuple[HttpHeader, ...], List()] = ()
    use_https: Annotated[
        bool | None, Flag(label="Use HTTPS", help="If it is not set, port 443 uses HTTPS and others HTTP.")
    ] = setting("useHTTPS", None)


def _reading(label: str, settings: type[Settings]) -> Capabilities:
    return Capabilities(targets=("User",), settings=settings, summary=f"Import users from files on {label}.")


def _writing(label: str, settings: type[Settings]) -> Capabilities:
    return Capabilities(targets=("User",), settings=settings, summary=f"Export profiles to files on {label}.")


def _file_storage(
    code: str, label: str, source: Capabilities | None, destination: Capabilities | None, engine: Engine
) -> Connector:
    return Connector(
        code=code,
        label=label,
        type="FileStorage",
        categories=("File storage",),
        source=source,
        destination=destination,
        available=True,
        engine=engine,
    )


def _file_system(settings: FileSystemSettings, context: ConnectorContext) -> FileStorage:
    from headwater.connectors.storages.filesystem import FileSystem

    return FileSystem(settings, context)


def _check_file_system(settings: FileSystemSettings, context: ConnectorContext) -> FileSystemSettings:
    from headwater.connectors.storages.filesystem import check_root

    check_root(context)
    return settings


def _s3(settings: S3Settings, context: ConnectorContext) -> FileStorage:
    from headwater.connectors.storages.s3 import S3

    return S3(settings, context)


def _sftp(settings: SftpSettings, context: ConnectorContext) -> FileStorage:
    from headwater.connectors.storages.sftp import Sftp

    return Sftp(settings, context)


def _check_sftp(settings: SftpSettings, context: ConnectorContext) -> SftpSettings:
    from headwater.connectors.storages.sftp import check_settings

    return check_settings(settings, context)


def _http_get(settings: HttpSettings, context: ConnectorContext) -> FileStorage:
    from headwater.connectors.storages.http import HttpGet

    return HttpGet(settings, context)


def _http_post(settings: HttpSettings, context: ConnectorContext) -> FileStorage:
    from headwater.connectors.storages.http import HttpPost

    return HttpPost(settings, context)


CONNECTORS: Final = (
    _file_storage(
        "filesystem",
        "File System",
        _reading("the server's file system", FileSystemSettings),
        _writing("the server's file system", FileSystemSettings),
        Engine(file_storage=_file_system, check=_check_file_system),
    ),
    _file_storage("s3", "S3", _reading("S3", S3Settings), _writing("S3", S3Settings), Engine(file_storage=_s3)),
    _file_storage(
        "sftp",
        "SFTP",
        _reading("an SFTP server", SftpSettings),
        _writing("an SFTP server", SftpDestinationSettings),
        Engine(file_storage=_sftp, check=_check_sftp),
    ),
    _file_storage(
        "http-get", "HTTP GET", _reading("an HTTP server", HttpSettings), None, Engine(file_storage=_http_get)
    ),
    _file_storage(
        "http-post", "HTTP POST", None, _writing("an HTTP server", HttpSettings), Engine(file_storage=_http_post)
    ),
)
