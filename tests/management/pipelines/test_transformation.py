"""Filters and transformations: the properties that they use must exist, and their results must fit."""

from typing import Any

import pytest

from headwater.catalog import TransformationDefinition
from headwater.filters import Condition, Filter, parse_json
from headwater.schemas import ArrayType, DateTimeType, IntType, JsonType
from tests.management.pipelines.drafts import fails, passes
from tests.management.pipelines.examples import EXAMPLES, TEXT, function, mapped, profile, schema, where

PATHS: dict[str, Any] = {"in_paths": ("email",), "out_paths": ("email",)}
NESTED: dict[str, Any] = {
    "inSchema": schema(a=schema(b=TEXT, c=TEXT), list=ArrayType(schema(x=TEXT))),
    "outSchema": profile(email=TEXT),
}
WITH_JSON = profile(id=TEXT, email=TEXT, name=TEXT, data=JsonType())
TRANSFORMED = [kind for kind in EXAMPLES if kind not in ("SE", "DF")]
FROM_EVENTS = {"SU": profile(email=TEXT), "DV": schema(email=TEXT)}


def both() -> TransformationDefinition:
    return TransformationDefinition(mapping={"email": "email"}, function=function(**PATHS).function)


def over_paths(**paths: Any) -> dict[str, Any]:
    return {**NESTED, "transformation": function(**{"out_paths": ("email",), **paths})}


VALID: list[tuple[str, dict[str, Any]]] = [
    ("SA", {"transformation": mapped(email="'to: ' email")}),
    ("SA", {"outSchema": profile(a=profile(b=TEXT)), "transformation": mapped(**{"a.b": "email"})}),
    *(("SA", {"transformation": function(language=language, **PATHS)}) for language in ("JavaScript", "Python")),
    ("SA", {"transformation": function(source="é" * 50_000, **PATHS)}),
    ("SA", over_paths(in_paths=("a.b", "a.c", "list"))),
    ("SA", over_paths(in_paths=("a", "list"))),
    *((kind, {"outSchema": out, "transformation": mapped(email="'x'")}) for kind, out in FROM_EVENTS.items()),
    *((kind, {"outSchema": out, "transformation": mapped(email="traits.email")}) for kind, out in FROM_EVENTS.items()),
    *(
        (kind, {"outSchema": out, "transformation": function(in_paths=paths, out_paths=("email",))})
        for kind, out in FROM_EVENTS.items()
        for paths in ((), ("context.page.url", "traits"))
    ),
]


@pytest.mark.parametrize(("kind", "members"), VALID, ids=lambda value: str(value)[:60])
def test_a_valid_definition_passes(kind: str, members: dict[str, Any]) -> None:
    assert passes(kind, members).kind.members.keys() >= members.keys()


WRONG: list[tuple[str, dict[str, Any], str]] = [
    *((kind, {"transformation": both(), "outSchema": profile(email=TEXT)}, "transformation") for kind in ("SA", "SU")),
    *((kind, {"transformation": TransformationDefinition()}, "transformation") for kind in TRANSFORMED),
    *((kind, {"transformation": mapped()}, "transformation.mapping") for kind in ("SA", "SD", "SF", "DA", "DD")),
    *((kind, {"transformation": mapped(email="'x'")}, "outSchema") for kind in FROM_EVENTS),
    *((kind, {"outSchema": out}, "outSchema") for kind, out in FROM_EVENTS.items()),
    ("SA", {"transformation": mapped(email="mail")}, "transformation.mapping.email"),
    ("SA", {"transformation": mapped(email="email +")}, "transformation.mapping.email"),
    ("SA", {"transformation": mapped(mail="email")}, "transformation.mapping.mail"),
    ("SA", {"transformation": mapped(**{"e mail": "email"})}, "transformation.mapping.e mail"),
    (
        "SA",
        {"inSchema": schema(email=IntType(32)), "outSchema": profile(email=DateTimeType())},
        "transformation.mapping.email",
    ),
    (
        "SA",
        {"outSchema": profile(a=profile(b=TEXT)), "transformation": mapped(**{"a.b": "email", "a": "email"})},
        "transformation.mapping.a.b",
    ),
    *((kind, {"transformation": mapped(email="'x'")}, "transformation") for kind in ("SA", "SD", "SF")),
    ("DA", {"transformation": mapped(name="'x'")}, "transformation"),
    ("DD", {"transformation": mapped(id="'x'", email="'y'")}, "transformation"),
    ("SA", {"transformation": function(source="", **PATHS)}, "transformation.function.source"),
    ("SA", {"transformation": function(source="a\0b", **PATHS)}, "transformation.function.source"),
    ("SA", {"transformation": function(source="x" * 50_001, **PATHS)}, "transformation.function.source"),
    *(
        ("SA", {"transformation": function(language=language, **PATHS)}, "transformation.function.language")
        for language in ("", "python", "Ruby")
    ),
    ("SA", {"transformation": function(out_paths=("email",))}, "transformation.function.inPaths"),
    ("SA", {"transformation": function(in_paths=("email",))}, "transformation.function.outPaths"),
    *((kind, {"outSchema": out, "transformation": function()}, "transformation.function.outPaths")
      for kind, out in FROM_EVENTS.items()),
    *(
        ("SA", over_paths(in_paths=("a", path)), "transformation.function.inPaths[1]")
        for path in ("mail", "", "a..b", "a.b.c", "a.x", "é", "list.x")
    ),
    *(
        ("SA", over_paths(in_paths=("a",), out_paths=("email", path)), "transformation.function.outPaths[1]")
        for path in ("mail", "", "email.x")
    ),
    ("SA", over_paths(in_paths=("a.b", "a.c", "a.b")), "transformation.function.inPaths[2]"),
    ("SA", over_paths(in_paths=("a.b", "list", "a")), "transformation.function.inPaths"),
    *(
        (kind, {"outSchema": out, "transformation": function(in_paths=("kpid",), out_paths=("email",))},
         "transformation.function.inPaths[0]")
        for kind, out in FROM_EVENTS.items()
    ),
    *((kind, {"outSchema": out, "transformation": mapped(email="kpid")}, "transformation.mapping.email")
      for kind, out in FROM_EVENTS.items()),
    *((kind, {"filter": where("kpid", "exists")}, "filter.conditions[0].property") for kind in ("SU", "SE", "DV")),
    *((kind, {"filter": where("missing", "is", "x")}, "filter.conditions[0].property") for kind in EXAMPLES
      if kind != "SD"),
    *((kind, {"filter": Filter("xor", ())}, "filter.logical") for kind in EXAMPLES if kind != "SD"),
    ("SA", {"filter": Filter("and", ())}, "filter.conditions"),
    ("SE", {"filter": where("type", "equals", "track")}, "filter.conditions[0].operator"),
    ("SE", {"filter": where("type", "is", "click")}, "filter.conditions[0].values[0]"),
    ("SE", {"filter": where("type", "is")}, "filter.conditions[0].values"),
    ("SE", {"filter": where("context.page", "is empty")}, "filter.conditions[0].operator"),
    *(
        (kind, {"inSchema": WITH_JSON, "filter": where("data.x", "exists")},
         "filter.conditions[0].operator")
        for kind in ("DA", "DD", "DF")
    ),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "members", "field"), WRONG, ids=lambda value: str(value)[:60])
def test_wrong(kind: str, members: dict[str, Any], field: str) -> None:
    assert fails(kind, members) == (400, "BadRequest", field)


@pytest.mark.parametrize("language", ["JavaScript", "Python"])
def test_a_language_that_cannot_run_here(language: str) -> None:
    expected = (422, "UnsupportedLanguage", "transformation.function.language")
    members = {"transformation": function(language=language, **PATHS)}
    assert fails("SA", members, languages=()) == expected
    passes("SA", members, languages=(language,))


def test_filters_are_kept_as_they_are_shown() -> None:
    after = Condition("receivedAt", "is after", ("2026-01-02T03:04:05.600Z",))
    exists = Condition("event", "exists", ())
    kept = passes("SE", {"filter": Filter("or", (after, exists))}).definition.filter
    assert kept is not None
    shown = Condition("receivedAt", "is after", ("2026-01-02T03:04:05.6",))
    assert parse_json(kept) == Filter("or", (shown, Condition("event", "exists")))
