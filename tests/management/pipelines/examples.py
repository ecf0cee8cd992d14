"""The nine kinds of pipelines by the letters of the documentation, each with the least that makes a valid one.

    SA SD SF   users imported from applications, databases, files      DA   profiles exported to applications
    SU SE      users imported from events, events collected            DV   events sent to applications
                                                                       DD DF   profiles exported to databases, files

A pipeline is written here as a dictionary of its members under their documented names; filters and schemas are values.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
import pytest

from headwater.catalog import Catalog, Definition, FunctionDefinition, Matching, Pipeline, TransformationDefinition
from headwater.connectors.connector import Role, Target
from headwater.connectors.contract import Engine
from headwater.connectors.registry import CONNECTORS
from headwater.filters import Condition, Filter
from headwater.management.pipelines import CreatePipeline, UpdatePipeline
from headwater.schemas import DateTimeType, JsonType, ObjectType, Property, StringType, Type

Members = Mapping[str, Any]

ATTRIBUTES: Final = {
    "eventType": "event_type",
    "filter": "filter",
    "inSchema": "in_schema",
    "outSchema": "out_schema",
    "transformation": "transformation",
    "query": "query",
    "format": "format",
    "path": "path",
    "sheet": "sheet",
    "compression": "compression",
    "formatSettings": "format_settings",
    "orderBy": "order_by",
    "userIDColumn": "user_id_column",
    "updatedAtColumn": "updated_at_column",
    "updatedAtFormat": "updated_at_format",
    "incremental": "incremental",
    "exportMode": "export_mode",
    "matching": "matching",
    "updateOnDuplicates": "update_on_duplicates",
    "tableName": "table_name",
    "tableKey": "table_key",
}
"""The names in Python of the members other than name and enabled."""

TEXT: Final = StringType()


def schema(**types: Type) -> ObjectType:
    """Properties without attributes."""
    return ObjectType(tuple(Property(name, type_) for name, type_ in types.items()))


def profile(**types: Type) -> ObjectType:
    """Properties of profiles, at every depth."""
    return ObjectType(tuple(Property(name, type_, read_optional=True) for name, type_ in types.items()))


def mapped(**expressions: str) -> TransformationDefinition:
    return TransformationDefinition(mapping=expressions)


def function(**values: Any) -> TransformationDefinition:
    defaults = {"language": "Python", "source": "def transform(user): return user"}
    return TransformationDefinition(function=FunctionDefinition(**{**defaults, **values}))


def where(path: str, operator: str = "is", *values: str) -> Filter:
    return Filter("and", (Condition(path, operator, values or None),))


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """A kind: its connection, its required members, and for each optional member an example."""

    role: Role
    connector: str
    target: Target
    least: dict[str, Any]
    optional: dict[str, dict[str, Any]]
    """The members that must be set, in addition to the required ones, so that a member is allowed."""
    settings: dict[str, object] | None = None


_DATABASE: Final[dict[str, object]] = {"host": "db", "port": 5432, "username": "u", "database": "d", "schema": "s"}
_TRANSFORMED: Final = {"outSchema": profile(email=TEXT), "transformation": mapped(email="email")}
_DATED: Final = {"inSchema": schema(id=TEXT, email=TEXT, at=DateTimeType()), "updatedAtColumn": "at"}
_WRITTEN: Final = {
    "inSchema": schema(id=TEXT, email=TEXT, at=TEXT),
    "updatedAtColumn": "at",
    "updatedAtFormat": "%d/%m/%Y",
}
_EMAIL: Final = where("email", "is", "a@b.org")


def remove_engine(catalog: Catalog, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a connector one that the catalogue lists and that nothing implements."""
    without = msgspec.structs.replace(CONNECTORS[code], engine=Engine(), available=False)
    monkeypatch.setattr(catalog, "connectors", {**catalog.connectors, code: without})


EXAMPLES: Final[dict[str, Example]] = {
    "SA": Example(
        role="Source",
        connector="stripe",
        settings={"apiKey": "t"},
        target="User",
        least={"inSchema": schema(email=TEXT), **_TRANSFORMED},
        optional={"filter": {"filter": _EMAIL}, "incremental": {"incremental": True}},
    ),
    "SD": Example(
        role="Source",
        connector="postgresql",
        settings=_DATABASE,
        target="User",
        least={
            "inSchema": schema(id=TEXT, email=TEXT),
            **_TRANSFORMED,
            "query": "SELECT id, email FROM users",
            "userIDColumn": "id",
        },
        optional={
            "updatedAtColumn": _DATED,
            "updatedAtFormat": _WRITTEN,
            "incremental": {**_DATED, "incremental": True},
        },
    ),
    "SF": Example(
        role="Source",
        connector="filesystem",
        settings={},
        target="User",
        least={
            "inSchema": schema(id=TEXT, email=TEXT),
            **_TRANSFORMED,
            "format": "csv",
            "path": "users.csv",
            "formatSettings": {"separator": ","},
            "userIDColumn": "id",
        },
        optional={
            "filter": {"filter": _EMAIL},
            "sheet": {"format": "excel", "formatSettings": {"hasColumnNames": True}, "sheet": "Users"},
            "compression": {"compression": "Gzip"},
            "updatedAtColumn": _DATED,
            "updatedAtFormat": {**_WRITTEN, "updatedAtFormat": "Excel"},
            "incremental": {**_DATED, "incremental": True},
        },
    ),
    "SU": Example(
        role="Source",
        connector="javascript",
        target="User",
        least={},
        optional={
            "filter": {"filter": where("type", "is", "identify")},
            "outSchema": {"outSchema": profile(email=TEXT), "transformation": mapped(email="traits.email")},
            "transformation": {"outSchema": profile(email=TEXT), "transformation": mapped(email="'constant'")},
        },
    ),
    "SE": Example(
        role="Source",
        connector="webhook",
        target="Event",
        least={},
        optional={"filter": {"filter": where("context.page.path", "exists")}},
    ),
    "DA": Example(
        role="Destination",
        connector="stripe",
        settings={"apiKey": "t"},
        target="User",
        least={
            "inSchema": profile(email=TEXT, name=TEXT),
            "outSchema": schema(email=TEXT, name=TEXT),
            "transformation": mapped(name="name"),
            "matching": Matching("email", "email"),
            "exportMode": "CreateOnly",
        },
        optional={"filter": {"filter": _EMAIL}, "updateOnDuplicates": {"updateOnDuplicates": True}},
    ),
    "DV": Example(
        role="Destination",
        connector="dummy",
        target="Event",
        least={"eventType": "send_generic_event"},
        optional={
            "filter": {"filter": where("type", "is", "track")},
            "outSchema": {
                "outSchema": schema(properties=JsonType()),
                "transformation": mapped(properties="properties"),
            },
            "transformation": {"outSchema": schema(properties=JsonType()), "transformation": mapped(properties="1")},
        },
    ),
    "DD": Example(
        role="Destination",
        connector="postgresql",
        settings=_DATABASE,
        target="User",
        least={
            "inSchema": profile(id=TEXT, email=TEXT),
            "outSchema": ObjectType((Property("id", TEXT, create_required=True), Property("email", TEXT))),
            "transformation": mapped(id="id", email="email"),
            "tableName": "users",
            "tableKey": "id",
        },
        optional={"filter": {"filter": _EMAIL}},
    ),
    "DF": Example(
        role="Destination",
        connector="filesystem",
        settings={},
        target="User",
        least={
            "inSchema": profile(email=TEXT),
            "format": "csv",
            "path": "profiles-${today}.csv",
            "formatSettings": {"separator": ","},
            "orderBy": "email",
        },
        optional={
            "filter": {"filter": _EMAIL},
            "sheet": {"format": "excel", "formatSettings": None, "sheet": "Profiles"},
            "compression": {"compression": "Zip"},
        },
    ),
}


def creation(kind: str, connection: int, members: Members, name: str = "P", **common: Any) -> CreatePipeline:
    """The request to create a pipeline with these members."""
    target = common.pop("target", EXAMPLES[kind].target)
    return CreatePipeline(connection=connection, target=target, name=name, **common, **_split(members))


def update(members: Members, name: str = "P", **common: Any) -> UpdatePipeline:
    """The request to replace the members of a pipeline; it has no event type."""
    values = _split({member: value for member, value in members.items() if member != "eventType"})
    return UpdatePipeline(name=name, **common, **values)


def show_members(pipeline: Pipeline) -> dict[str, Any]:
    """The members of a pipeline that are there, as they are kept: schemas and filters as JSON text."""
    values = {"eventType": pipeline.event_type or None}
    for member, attribute in ATTRIBUTES.items():
        if member != "eventType":
            values[member] = getattr(pipeline.definition, attribute) or None
    return {member: value for member, value in values.items() if value is not None}


def _split(members: Members) -> dict[str, Any]:
    values = {ATTRIBUTES[member]: value for member, value in members.items() if value is not None}
    own: dict[str, Any] = {
        name: values.pop(name) for name in ("event_type", "filter", "in_schema", "out_schema") if name in values
    }
    return {**own, "definition": Definition(**values)}
