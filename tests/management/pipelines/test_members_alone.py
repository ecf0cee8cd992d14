"""The rule of each member: its allowed values, and its dependencies on other members."""

from typing import Any

import pytest

from headwater.catalog import Matching
from headwater.schemas import (
    BooleanType,
    DateTimeType,
    DateType,
    DecimalType,
    IntType,
    IpType,
    JsonType,
    ObjectType,
    Property,
    Type,
    UuidType,
    YearType,
)
from tests.management.pipelines.drafts import fails, passes
from tests.management.pipelines.examples import EXAMPLES, TEXT, mapped, profile, schema

SHEETS = {"format": "excel", "formatSettings": {}}


def column(type_: Type, **attributes: Any) -> dict[str, Any]:
    """Columns as they are read, with one more, called x."""
    return {"inSchema": ObjectType((*schema(id=TEXT, email=TEXT), Property("x", type_, **attributes)))}


def dated(type_: Type, **members: Any) -> dict[str, Any]:
    return {**column(type_), "updatedAtColumn": "x", **members}


def user_id(type_: Type, **attributes: Any) -> dict[str, Any]:
    return {
        "inSchema": ObjectType((Property("email", TEXT), Property("x", type_, **attributes))),
        "userIDColumn": "x",
    }


def matched(inside: Type, outside: Type, matching: Matching | None = None) -> dict[str, Any]:
    return {
        "inSchema": profile(key=inside, name=TEXT),
        "outSchema": schema(key=outside, name=TEXT),
        "matching": matching or Matching("key", "key"),
    }


def table(type_: Type, **members: Any) -> dict[str, Any]:
    key = Property("key", type_, create_required=True)
    return {
        "inSchema": profile(key=type_, email=TEXT),
        "outSchema": ObjectType((key, Property("email", TEXT))),
        "transformation": mapped(key="key", email="email"),
        "tableKey": "key",
        **members,
    }


def sorted_by(type_: Type, **members: Any) -> dict[str, Any]:
    return {"inSchema": profile(key=type_), "orderBy": "key", **members}


VALID: list[tuple[str, dict[str, Any]]] = [
    ("DV", {"eventType": "é" * 100}),
    ("SD", {"query": "é" * 1_000}),
    ("SF", {"path": "é" * 1_024}),
    ("SF", {**SHEETS, "sheet": "é" * 31}),
    ("SF", {**SHEETS, "sheet": "It's"}),
    *(("SF", {"compression": one}) for one in ("", "Zip", "Gzip", "Snappy")),
    *(("DF", {"path": path}) for path in ("${today}", "${ NOW }/${Unix}.csv", "a$b{c}.csv", "}{")),
    *((kind, {"format": "parquet", "formatSettings": None}) for kind in ("SF", "DF")),
    *((kind, {"format": "parquet", "formatSettings": {}}) for kind in ("SF", "DF")),
    ("DF", {"format": "json", "formatSettings": {}}),
    *((kind, user_id(type_)) for kind in ("SD", "SF") for type_ in (TEXT, IntType(64), UuidType(), JsonType())),
    *((kind, dated(type_)) for kind in ("SD", "SF") for type_ in (DateTimeType(), DateType())),
    *((kind, dated(type_, updatedAtFormat="ISO8601")) for kind in ("SD", "SF") for type_ in (TEXT, JsonType())),
    ("SD", dated(TEXT, updatedAtFormat="%" + "é" * 63)),
    ("SF", dated(TEXT, updatedAtFormat="Excel")),
    *(("DF", sorted_by(type_)) for type_ in (TEXT, IntType(8), UuidType(), IpType())),
    ("DF", {"inSchema": profile(a=profile(b=TEXT)), "orderBy": "a.b"}),
    *(("DA", matched(type_, type_)) for type_ in (TEXT, IntType(32), UuidType())),
    ("DA", matched(TEXT, UuidType())),
    ("DA", matched(IntType(64), TEXT)),
    *(("DA", {"exportMode": one}) for one in ("CreateOnly", "UpdateOnly", "CreateOrUpdate")),
    *(("DD", table(type_)) for type_ in (TEXT, IntType(16), UuidType())),
    ("DD", {"tableName": "é" * 1_024}),
]


@pytest.mark.parametrize(("kind", "members"), VALID, ids=lambda value: str(value)[:60])
def test_a_valid_definition_passes(kind: str, members: dict[str, Any]) -> None:
    assert passes(kind, members).kind.members.keys() >= members.keys()


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("DV", {"eventType": "x" * 101}, "eventType"),
    ("DV", {"eventType": "a\0b"}, "eventType"),
    ("SD", {"query": "x" * 1_001}, "query"),
    ("SD", {"query": "SELECT '\0'"}, "query"),
    ("SF", {"path": "x" * 1_025}, "path"),
    ("DF", {"path": "x" * 1_025}, "path"),
    ("SF", {"path": "a\0"}, "path"),
    ("SF", {"path": "${today}.csv"}, "path"),
    ("SF", {"path": "${"}, "path"),
    *(("DF", {"path": path}, "path") for path in ("${", "${today", "${}", "${yesterday}", "${today}${")),
    *(("SF", {**SHEETS, "sheet": sheet}, "sheet") for sheet in ("", None, "x" * 32, "'a", "a'", "'", "a\0")),
    *(("SF", {**SHEETS, "sheet": f"a{forbidden}b"}, "sheet") for forbidden in "*/:?[\\]"),
    *((kind, {"sheet": "Users"}, "sheet") for kind in ("SF", "DF")),
    *(("SF", {"compression": one}, "compression") for one in ("zip", "None", "Bzip2", " ")),
    ("SF", {"format": "filesystem"}, "format"),
    ("SF", {"format": "dummy"}, "format"),
    ("SF", {"formatSettings": None}, "formatSettings"),
    ("DF", {"formatSettings": None}, "formatSettings"),
    *((kind, {"format": "parquet"}, "formatSettings") for kind in ("SF", "DF")),
    ("DF", {"format": "excel", "sheet": "S"}, "formatSettings"),
    *((kind, {"userIDColumn": "missing"}, "userIDColumn") for kind in ("SD", "SF")),
    ("SD", {"userIDColumn": "no name"}, "userIDColumn"),
    ("SD", {"userIDColumn": "x" * 1_025}, "userIDColumn"),
    ("SF", {**column(schema(y=TEXT)), "userIDColumn": "x.y"}, "userIDColumn"),
    *(("SF", user_id(type_), "userIDColumn") for type_ in (BooleanType(), DecimalType(5), DateTimeType(), IpType())),
    ("SF", user_id(TEXT, read_optional=True), "userIDColumn"),
    *((kind, {"updatedAtColumn": "missing"}, "updatedAtColumn") for kind in ("SD", "SF")),
    ("SF", {**column(schema(y=TEXT)), "updatedAtColumn": "x.y"}, "updatedAtColumn"),
    ("SD", {"updatedAtColumn": "x" * 1_025}, "updatedAtColumn"),
    *(("SD", dated(type_), "updatedAtColumn") for type_ in (IntType(32), YearType(), BooleanType(), UuidType())),
    *((kind, dated(type_), "updatedAtFormat") for kind in ("SD", "SF") for type_ in (TEXT, JsonType())),
    *(("SD", dated(type_, updatedAtFormat="ISO8601"), "updatedAtFormat") for type_ in (DateTimeType(), DateType())),
    ("SD", {"updatedAtFormat": "ISO8601"}, "updatedAtFormat"),
    ("SD", dated(TEXT, updatedAtFormat="Excel"), "updatedAtFormat"),
    *(("SF", dated(TEXT, updatedAtFormat=one), "updatedAtFormat") for one in ("iso8601", "excel", "YYYY", " ")),
    ("SF", dated(TEXT, updatedAtFormat="%" + "x" * 64), "updatedAtFormat"),
    ("SF", dated(TEXT, updatedAtFormat="%\0"), "updatedAtFormat"),
    *((kind, {"incremental": True}, "incremental") for kind in ("SD", "SF")),
    *(("DF", sorted_by(type_), "orderBy") for type_ in (DecimalType(5), BooleanType(), DateType(), JsonType())),
    *(("DF", {"orderBy": path}, "orderBy") for path in ("missing", "email.x", "e mail", ".", "x" * 1_025, "\0")),
    *(("DA", {"exportMode": one}, "exportMode") for one in ("createOnly", "Create", " ")),
    *(("DA", matched(type_, TEXT), "matching.in") for type_ in (JsonType(), BooleanType(), DecimalType(5))),
    *(("DA", matched(TEXT, type_), "matching.out") for type_ in (JsonType(), IpType(), DateType())),
    ("DA", matched(IntType(32), UuidType()), "matching"),
    ("DA", matched(UuidType(), IntType(32)), "matching"),
    ("DA", {"matching": Matching("missing", "email")}, "matching.in"),
    ("DA", {"matching": Matching("email", "missing")}, "matching.out"),
    ("DA", {"matching": Matching("", "email")}, "matching.in"),
    ("DA", {"matching": Matching("email", "")}, "matching.out"),
    ("DA", {"matching": Matching("a..b", "email")}, "matching.in"),
    ("DA", {"transformation": mapped(name="name", email="email")}, "transformation"),
    (
        "DA",
        {
            "outSchema": schema(keys=schema(email=TEXT), name=TEXT),
            "inSchema": profile(email=TEXT, name=TEXT, keys=profile(email=TEXT)),
            "transformation": mapped(keys="keys", name="name"),
            "matching": Matching("email", "keys.email"),
        },
        "transformation",
    ),
    ("DD", {"tableName": "x" * 1_025}, "tableName"),
    ("DD", {"tableName": "a\0b"}, "tableName"),
    ("DD", {"tableKey": "missing"}, "tableKey"),
    ("DD", {"tableKey": "x" * 1_025}, "tableKey"),
    (
        "DD",
        {
            "outSchema": ObjectType((Property("email", TEXT), Property("keys", schema(id=TEXT)))),
            "transformation": mapped(**{"keys.id": "id", "email": "email"}),
            "tableKey": "keys.id",
        },
        "tableKey",
    ),
    *(("DD", table(type_), "tableKey") for type_ in (JsonType(), BooleanType(), DateTimeType())),
    ("DD", table(TEXT, transformation=mapped(email="email")), "tableKey"),
    (
        "DD",
        {
            "inSchema": profile(id=TEXT),
            "outSchema": ObjectType((Property("id", TEXT, create_required=True),)),
            "transformation": mapped(id="id"),
        },
        "transformation",
    ),
]


@pytest.mark.parametrize(("kind", "members", "field"), WRONG, ids=lambda value: str(value)[:60])
def test_wrong(kind: str, members: dict[str, Any], field: str) -> None:
    assert fails(kind, members) == (400, "BadRequest", field)


@pytest.mark.parametrize("kind", ["SF", "DF"])
def test_a_format_that_does_not_exist(kind: str) -> None:
    assert fails(kind, {"format": "word"}) == (422, "FormatNotExist", "format")


@pytest.mark.parametrize(
    ("kind", "settings", "field"),
    [
        ("SF", {"separator": ",,"}, "formatSettings.separator"),
        ("SF", {"separator": 1.0}, "formatSettings.separator"),
        ("SF", {"separator": ";", "numberOfColumns": float("inf")}, "formatSettings.numberOfColumns"),
        ("DF", {"separator": ",", "useCRLF": "yes"}, "formatSettings.useCRLF"),
    ],
)
def test_format_settings_that_break_the_rules_of_the_format(kind: str, settings: Any, field: str) -> None:
    assert fails(kind, {"formatSettings": settings}) == (422, "InvalidSettings", field)


def test_format_settings_are_kept_whole() -> None:
    draft = passes("DF", {"formatSettings": {"separator": ";", "colour": "red"}})
    assert draft.definition.format_settings == {"separator": ";", "useCRLF": False}


@pytest.mark.parametrize("name", ["", "x" * 61, "a\0b", "\udfff"])
@pytest.mark.parametrize("kind", EXAMPLES)
def test_names(kind: str, name: str) -> None:
    assert fails(kind, {}, name=name) == (400, "BadRequest", "name")
    passes(kind, {}, name="é" * 60)
