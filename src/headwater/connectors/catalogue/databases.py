"""Databases that users are read from with a query, and that profiles are written to, into a table."""

import re
from typing import Final

from headwater.connectors.connector import Capabilities, Connector
from headwater.connectors.settings import Field, Form, Number, SettingsRules, Text

HOST: Final = Text("host", 1, 253)
PORT: Final = Number("port", 1, 65_535)

_ACCOUNT: Final = Form(
    re.compile(r"[A-Za-z0-9_]+[.-][A-Za-z0-9_.-]+"),
    'must be the organization and the account, joined by "." or "-"',
)

_QUERY: Final = """\
SELECT id, email, first_name, last_name, updated_at
FROM users
WHERE updated_at >= ${updated_at} OR ${updated_at} IS NULL
LIMIT ${limit}"""


def _database(code: str, label: str, *fields: Field, one_of: tuple[str, ...] = (), query: str = _QUERY) -> Connector:
    settings = SettingsRules(fields, one_of=one_of)
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
    _database(
        "postgresql",
        "PostgreSQL",
        HOST,
        PORT,
        Text("username", 1, 63),
        Text("password", 0, 100),
        Text("database", 1, 63),
        Text("schema", 1, 63),
    ),
    _database("mysql", "MySQL", HOST, PORT, Text("username", 1, 16), Text("password", 1, 200), Text("database", 1, 64)),
    _database(
        "clickhouse",
        "ClickHouse",
        HOST,
        PORT,
        Text("username", 0, 64),
        Text("password", 0, 100),
        Text("database", 0, 64),
    ),
    _database(
        "snowflake",
        "Snowflake",
        Text("account", 3, 255, _ACCOUNT),
        Text("username", 1, 255),
        Text("password", 1, 255, optional=True),
        Text("oidcToken", 1, 255, optional=True),
        Text("role", 1, 255),
        Text("database", 1, 255),
        Text("schema", 1, 255),
        Text("warehouse", 1, 255),
        one_of=("password", "oidcToken"),
        query=_QUERY.upper().replace("${UPDATED_AT}", "${updated_at}").replace("${LIMIT}", "${limit}"),
    ),
)
