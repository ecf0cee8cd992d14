"""File storages: files that users are read from and profiles are written to. A file's format is another connector:
see `file_formats`."""

import re
from typing import Annotated, Final

from headwater.connectors.catalogue.databases import Host, Port
from headwater.connectors.connector import Capabilities, Connector
from headwater.connectors.settings import Flag, Format, List, Settings, Text, setting

_REGION: Final = Format(re.compile(r"[a-z]{2}(-[a-z]+)+-[1-9]"), 'must be an AWS region, such as "eu-west-1"')
"""A pattern instead of a list: AWS opens regions more often than installations are updated."""


class FileSystemSettings(Settings, frozen=True, kw_only=True):
    simulate_high_io_latency: Annotated[bool, Flag(label="Simulate high I/O latency")] = setting(
        "simulateHighIOLatency", False
    )


class S3Settings(Settings, frozen=True, kw_only=True):
    access_key_id: Annotated[str, Text(20, 20)] = setting("accessKeyID")
    secret_access_key: Annotated[str, Text(40, 200, secret=True)]
    region: Annotated[str, Text(1, 100, _REGION)]
    bucket: Annotated[str, Text(3, 63)]


class SftpSettings(Settings, frozen=True, kw_only=True):
    host: Host
    port: Port
    username: Annotated[str, Text(1, 200)]
    password: Annotated[str, Text(1, 200, secret=True)]
    host_public_key: Annotated[
        str, Text(0, 5_000, help="The server's public key, as a line of a known_hosts file has it.")
    ] = ""


class SftpDestinationSettings(SftpSettings, frozen=True, kw_only=True):
    temp_path: Annotated[str, Text(0, 1_000, help="Files are written there and then moved to their path.")] = ""


class HttpHeader(Settings, frozen=True, kw_only=True):
    key: Annotated[str, Text(1, 100)]
    value: Annotated[str, Text(1, 10_000, secret=True)]


class HttpSettings(Settings, frozen=True, kw_only=True):
    host: Host
    port: Port
    headers: Annotated[tuple[HttpHeader, ...], List()] = ()


def _reading(label: str, settings: type[Settings]) -> Capabilities:
    return Capabilities(targets=("User",), settings=settings, summary=f"Import users from files on {label}.")


def _writing(label: str, settings: type[Settings]) -> Capabilities:
    return Capabilities(targets=("User",), settings=settings, summary=f"Export profiles to files on {label}.")


def _file_storage(code: str, label: str, source: Capabilities | None, destination: Capabilities | None) -> Connector:
    return Connector(
        code=code,
        label=label,
        type="FileStorage",
        categories=("File storage",),
        source=source,
        destination=destination,
    )


CONNECTORS: Final = (
    _file_storage(
        "filesystem",
        "File System",
        _reading("the server's file system", FileSystemSettings),
        _writing("the server's file system", FileSystemSettings),
    ),
    _file_storage("s3", "S3", _reading("S3", S3Settings), _writing("S3", S3Settings)),
    _file_storage(
        "sftp",
        "SFTP",
        _reading("an SFTP server", SftpSettings),
        _writing("an SFTP server", SftpDestinationSettings),
    ),
    _file_storage("http-get", "HTTP GET", _reading("an HTTP server", HttpSettings), None),
    _file_storage("http-post", "HTTP POST", None, _writing("an HTTP server", HttpSettings)),
)
