"""Places where files lie that users are read from and profiles are written to. The format of a file is another
connector's matter: see `file_formats`."""

import re
from typing import Final

from headwater.connectors.connector import Capabilities, Connector
from headwater.connectors.databases import HOST, PORT
from headwater.connectors.settings import Field, Flag, Form, Groups, SettingsRules, Text

_REGION: Final = Form(re.compile(r"[a-z]{2}(-[a-z]+)+-[1-9]"), 'must be an AWS region, such as "eu-west-1"')
"""Not a list of regions: AWS opens new ones more often than people update us."""

_HTTP: Final = (HOST, PORT, Groups("headers", (Text("key", 1, 100), Text("value", 1, 10_000))))
_S3: Final = (
    Text("accessKeyID", 20, 20),
    Text("secretAccessKey", 40, 200),
    Text("region", 1, 100, _REGION),
    Text("bucket", 3, 63),
)
_SFTP: Final = (
    HOST,
    PORT,
    Text("username", 1, 200),
    Text("password", 1, 200),
    Text("hostPublicKey", 0, 5_000),
)


def _reading(label: str, *fields: Field) -> Capabilities:
    return Capabilities(
        targets=("User",), settings=SettingsRules(fields), summary=f"Import users from files on {label}."
    )


def _writing(label: str, *fields: Field) -> Capabilities:
    return Capabilities(
        targets=("User",), settings=SettingsRules(fields), summary=f"Export profiles to files on {label}."
    )


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
        _reading("the server's file system", Flag("simulateHighIOLatency")),
        _writing("the server's file system", Flag("simulateHighIOLatency")),
    ),
    _file_storage("s3", "S3", _reading("S3", *_S3), _writing("S3", *_S3)),
    _file_storage(
        "sftp",
        "SFTP",
        _reading("an SFTP server", *_SFTP),
        _writing("an SFTP server", *_SFTP, Text("tempPath", 0, 1_000)),
    ),
    _file_storage("http-get", "HTTP GET", _reading("an HTTP server", *_HTTP), None),
    _file_storage("http-post", "HTTP POST", None, _writing("an HTTP server", *_HTTP)),
)
