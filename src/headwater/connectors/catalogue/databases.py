"""Databases that users are read from with a query, and that profiles are written to, into a table."""

import re
from typing import Annotated, ClassVar, Final

from headwater.connectors.connector import Capabilities, Connector
from headwater.connectors.settings import Format, Number, Settings, Text

Host = Annotated[str, Text(1, 253)]
Port = Annotated[int, Number(1, 65_535)]

_ACCOUNT: Final = Format(
    re.compile(r"[A-Za-z0-9_]+[.-][A-Za-z0-9_.-]+"),
    'must be the organization and the account, joined by "." or "-"',
)

_QUERY: Final = """\
SELECT id, email, first_name, last_name, updated_at
FROM users
WHERE updated_at >= ${updated_at} OR ${updated_at} IS NULL
LIMIT ${limit}"""


class PostgreSQLSettings(Settings, frozen=True, kw_only=True):
    host: Host
    port: Port
    username: Annotated[str, Text(1, 63)]
    password: Annotated[str, Text(0, 100, secret=True)] = ""
    database: Annotated[str, Text(1, 63)]
    schema: Annotated[str, Text(1, 63)]


class MySQLSettings(Settings, frozen=True, kw_only=True):
    host: Host
    port: Port
    username: Annotated[str, Text(1, 16)]
    password: Annotated[str, Text(1, 200, secret=True)]
    database: Annotated[str, Text(1, 64)]


class ClickHouseSettings(Settings, frozen=True, kw_only=True):
    host: Host
    port: Port
    username: Annotated[str, Text(0, 64)] = ""
    password: Annotated[str, Text(0, 100, secret=True)] = ""
    database: Annotated[str, Text(0, 64)] = ""


class SnowflakeSettings(Settings, frozen=True, kw_only=True):
    ONE_OF: ClassVar = ("password", "oidcToken")

    account: Annotated[str, Text(3, 255, _ACCOUNT)]
    username: Annotated[str, Text(1, 255)]
    password: Annotated[str | None, Text(1, 255, secret=True)] = None
    oidc_token: Annotated[str | None, Text(1, 255, secret=True, label="OIDC token")] = None
    role: Annotated[str, Text(1, 255)]
    database: Annotated[str, Text(1, 255)]
    schema: Annotated[str, Text(1, 255)]
    warehouse: Annotated[str, Text(1, 255)]


def _database(code: str, label: str, settings: type[Settings], query: str = _QUERY) -> Connector:
    return Connector(
        code=code,
        label=label,
        type="Database",
        categories=("Database",),
        source=Capabilities(
            targets=("User",),
            settings=settings,
            summary=f"Import users from {label} with a query.",
            sample_query=query,
        ),
        destination=Capabilities(
            targets=("User",), settings=settings, summary=f"Export profiles to a table of {label}."
        ),
    )


CONNECTORS: Final = (
    _database("postgresql", "PostgreSQL", PostgreSQLSettings),
    _database("mysql", "MySQL", MySQLSettings),
    _database("clickhouse", "ClickHouse", ClickHouseSettings),
    _database(
        "snowflake",
        "Snowflake",
        SnowflakeSettings,
        query=_QUERY.upper().replace("${UPDATED_AT}", "${updated_at}").replace("${LIMIT}", "${limit}"),
    ),
)
