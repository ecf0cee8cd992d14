"""The tables of the catalog, for SQLite and PostgreSQL.

Every row carries its workspace, and foreign keys include it: no row can belong to one workspace and refer to another.
`catalog_version` and `catalog_changes` tell the views of all processes what to read again.
"""

from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)

from headwater.catalog.definition import Definition, decode_definition, encode_definition
from headwater.catalog.model import UiPreferences
from headwater.catalog.profiles import ProfileSchema, ResolutionSettings, decode_profile_schema, encode_profile_schema
from headwater.catalog.retention import RetentionSettings


class DefinitionDocument(TypeDecorator[Definition]):
    """The definition of a pipeline, as JSON."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Definition | None, dialect: Dialect) -> str | None:
        return None if value is None else encode_definition(value).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> Definition | None:
        return None if value is None else decode_definition(value)


class ProfileSchemaDocument(TypeDecorator[ProfileSchema]):
    """The profile schema of a workspace, as JSON."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: ProfileSchema | None, dialect: Dialect) -> str | None:
        return None if value is None else encode_profile_schema(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> ProfileSchema | None:
        return None if value is None else decode_profile_schema(value)


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC. SQLite does not store the time zone, so it is added here."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class AsJson(TypeDecorator[Any]):
    """A value object in one column, for objects that no query searches."""

    impl = Text
    cache_ok = True

    def __init__(self, type_: type[msgspec.Struct]) -> None:
        super().__init__()
        self.type_ = type_

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else msgspec.json.encode(value).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return self.type_() if value is None else msgspec.json.decode(value, type=self.type_)


# Constraints are named by rule, so that a later revision can drop them in both databases.
metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

workspaces = Table(
    "workspaces",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("name", String(100), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("ui_preferences", AsJson(UiPreferences), nullable=True),
    Column("resolution", AsJson(ResolutionSettings), nullable=True),
    Column("profile_schema", ProfileSchemaDocument, nullable=True),
    Column("retention", AsJson(RetentionSettings), nullable=True),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("workspace", Integer, ForeignKey("workspaces.id", ondelete="CASCADE"), nullable=True),
    Column("name", String(100), nullable=False),
    Column("digest", String(64), nullable=False, unique=True),
    Column("hint", String(20), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("access", String(8), nullable=False, server_default=text("'Full'")),
)

connections = Table(
    "connections",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("workspace", Integer, ForeignKey("workspaces.id", ondelete="CASCADE"), nullable=False),
    Column("name", String(60), nullable=False),
    Column("connector", String(64), nullable=False),
    Column("role", String(16), nullable=False),
    Column("strategy", String(16), nullable=True),
    Column("sending_mode", String(16), nullable=True),
    Column("created_at", UtcDateTime, nullable=False),
    Column("sealed_settings", LargeBinary, nullable=True),
    UniqueConstraint("workspace", "id"),  # referred to by the foreign keys below
)


def _of_connection(column: str) -> ForeignKeyConstraint:
    return ForeignKeyConstraint(["workspace", column], ["connections.workspace", "connections.id"], ondelete="CASCADE")


connection_links = Table(
    "connection_links",
    metadata,
    Column("workspace", Integer, nullable=False),
    Column("source", Integer, primary_key=True, autoincrement=False),
    Column("destination", Integer, primary_key=True, autoincrement=False),
    _of_connection("source"),
    _of_connection("destination"),
    Index(None, "destination"),
)

event_write_keys = Table(
    "event_write_keys",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=True),  # the order of creation
    Column("workspace", Integer, nullable=False),
    Column("connection", Integer, nullable=False),
    Column("key", String(64), nullable=False, unique=True),
    Column("created_at", UtcDateTime, nullable=False),
    _of_connection("connection"),
    Index(None, "connection"),
)

oauth_accounts = Table(
    "oauth_accounts",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("workspace", Integer, ForeignKey("workspaces.id", ondelete="CASCADE"), nullable=False),
    Column("connector", String(64), nullable=False),
    Column("code", String(255), nullable=False),
    Column("sealed_tokens", LargeBinary, nullable=False),
    Column("expires_at", UtcDateTime, nullable=True),
    Column("generation", BigInteger, nullable=False),  # grows with each replacement of the tokens
    Column("authorized_at", UtcDateTime, nullable=False),
    Column("refreshed_at", UtcDateTime, nullable=False),
    Column("forced", Boolean, nullable=False),  # refreshed before the end, because the application rejected the token
    Column("refreshing_until", UtcDateTime, nullable=True),
    Column("refreshing_by", String(32), nullable=True),
    Column("failed_at", UtcDateTime, nullable=True),
    Column("failure", String(255), nullable=True),
    UniqueConstraint("workspace", "connector", "code"),
    UniqueConstraint("workspace", "id"),
)

connection_accounts = Table(
    "connection_accounts",
    metadata,
    Column("workspace", Integer, nullable=False),
    Column("connection", Integer, primary_key=True, autoincrement=False),
    Column("account", Integer, nullable=False),
    _of_connection("connection"),
    ForeignKeyConstraint(
        ["workspace", "account"], ["oauth_accounts.workspace", "oauth_accounts.id"], ondelete="CASCADE"
    ),
    Index(None, "account"),
)

oauth_states = Table(
    "oauth_states",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("expires_at", UtcDateTime, nullable=False),
    Index(None, "expires_at"),
)
"""The states of authorizations that were used: each can be used once."""

pipelines = Table(
    "pipelines",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("workspace", Integer, nullable=False),
    Column("connection", Integer, nullable=False),
    Column("name", String(60), nullable=False),
    Column("target", String(16), nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("event_type", String(100), nullable=False, server_default=text("''")),
    Column("schedule_start", Integer, nullable=True),
    Column("schedule_period", String(8), nullable=True),
    Column("definition", DefinitionDocument, nullable=False, server_default=text("'{}'")),
    _of_connection("connection"),
    Index(None, "connection"),
)

catalog_version = Table(
    "catalog_version",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("version", BigInteger, nullable=False),
    CheckConstraint("id = 1", name="single"),
)

catalog_changes = Table(
    "catalog_changes",
    metadata,
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", String(16), primary_key=True),
    Column("id", Integer, primary_key=True, autoincrement=False),
)
