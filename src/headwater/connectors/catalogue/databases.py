"""Databases that users are read from with a query, and that profiles are written to, into a table."""

import re
from collections.abc import Callable
from importlib import import_module
from typing import Annotated, Any, ClassVar, Final, Literal

from headwater.base.errors import Unprocessable
from headwater.connectors.connector import Capabilities, Connector, Driver
from headwater.connectors.contract import ConnectorContext, Engine
from headwater.connectors.settings import Choice, Format, Number, Settings, Text

Host = Annotated[str, Text(1, 253)]
Port = Annotated[int, Number(1, 65_535)]
Tls = Annotated[
    Literal["Off", "Preferred", "Required", "Verified"],
    Choice(
        label="TLS",
        help="Preferred encrypts if the server can. Only Verified proves that it is the server of this host.",
    ),
]
Path = Annotated[
    str, Text(1, 1_024, help="The path of the database file, below the folder that the installation allows.")
]

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
    tls: Tls = "Preferred"


class MySQLSettings(Settings, frozen=True, kw_only=True):
    host: Host
    port: Port
    username: Annotated[str, Text(1, 16)]
    password: Annotated[str, Text(1, 200, secret=True)]
    database: Annotated[str, Text(1, 64)]
    tls: Tls = "Preferred"


class ClickHouseSettings(Settings, frozen=True, kw_only=True):
    host: Host
    port: Port
    username: Annotated[str, Text(0, 64)] = ""
    password: Annotated[str, Text(0, 100, secret=True)] = ""
    database: Annotated[str, Text(0, 64)] = ""
    tls: Tls = "Preferred"


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


class SQLiteSettings(Settings, frozen=True, kw_only=True):
    path: Path


class DuckDBSettings(Settings, frozen=True, kw_only=True):
    path: Path


def _function(code: str, name: str, driver: Driver | None) -> Callable[[Any, ConnectorContext], Any]:
    """Return a function of a database's module, which imports the module, and with it the driver, when it is called."""

    def call(settings: Any, context: ConnectorContext) -> Any:
        if driver is not None and not driver.is_installed:
            raise Unprocessable(
                "ConnectorNotAvailable",
                f"the driver of {code} is not installed: {driver.install_command}",
                field="connector",
            )
        return getattr(import_module(f"headwater.connectors.databases.{code}"), name)(settings, context)

    return call


def _database(
    code: str, label: str, settings: type[Settings], query: str = _QUERY, driver: Driver | None = None
) -> Connector:
    return Connector(
        code=code,
        label=label,
        type="Database",
        available=True,
        driver=driver,
        engine=Engine(
            query_source=_function(code, f"{label}Source", driver),
            table_sink=_function(code, f"{label}Sink", driver),
            check=_function(code, "check", driver),
        ),
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
    _database("sqlite", "SQLite", SQLiteSettings),
    _database("duckdb", "DuckDB", DuckDBSettings, driver=Driver("duckdb", "duckdb")),
    _database("mysql", "MySQL", MySQLSettings),
    _database("clickhouse", "ClickHouse", ClickHouseSettings, driver=Driver("clickhouse_connect", "clickhouse")),
    _database(
        "snowflake",
        "Snowflake",
        SnowflakeSettings,
        query=_QUERY.upper().replace("${UPDATED_AT}", "${updated_at}").replace("${LIMIT}", "${limit}"),
        driver=Driver("snowflake.connector", "snowflake"),
    ),
)
