"""Profile properties are renamed in pipelines: schemas, mappings, filters, matching and order."""

from typing import Any

import msgspec
import pytest

from headwater.catalog import Definition, FunctionDefinition, Matching, Rename, Renaming, TransformationDefinition
from headwater.connectors.connector import Role
from headwater.filters import Condition, Filter
from headwater.management.profiles.renaming import rename_in_definition
from headwater.schemas import Schema, parse_schema, serialise
from headwater.transforms.mapping import rename_properties
from tests.management.profiles.schemas import profile


def renaming(**renames: str | None) -> Renaming:
    return Renaming(Rename(old=old.replace("__", "."), new=new) for old, new in renames.items())


def text(schema: Schema) -> str:
    return serialise(schema).decode()


def mapped(**expressions: str) -> TransformationDefinition:
    return TransformationDefinition(mapping={path.replace("__", "."): text for path, text in expressions.items()})


def where(*conditions: tuple[str, str, tuple[str, ...] | None]) -> str:
    return msgspec.json.encode(Filter("or", tuple(Condition(*each) for each in conditions))).decode()


OUT = profile(a="string", o=profile(x="int"))
IMPORT = Definition(
    out_schema=text(OUT), transformation=mapped(a="traits.a", o__x="traits.a"), filter=where(("type", "is", ("a",)))
)


@pytest.mark.parametrize(
    ("renames", "schema", "keys"),
    [
        ({"a": "b"}, profile(b="string", o=profile(x="int")), ["b", "o.x"]),
        ({"o": "p"}, profile(a="string", p=profile(x="int")), ["a", "p.x"]),
        ({"o__x": "o.y"}, profile(a="string", o=profile(y="int")), ["a", "o.y"]),
        ({"a": "o", "o": "a"}, profile(o="string", a=profile(x="int")), ["o", "a.x"]),
        # Renames of properties that it does not have.
        ({"c": "d"}, OUT, ["a", "o.x"]),
        # A removed property that it does not have does no harm; one that it has is for people to decide.
        ({"a": "b", "c": None}, profile(b="string", o=profile(x="int")), ["b", "o.x"]),
        ({"a": "b", "b": None}, profile(b="string", o=profile(x="int")), ["b", "o.x"]),
        ({"a": "b", "o": None}, OUT, ["a", "o.x"]),
        ({"a": None}, OUT, ["a", "o.x"]),
    ],
)
def test_the_output_of_a_source(renames: dict[str, str | None], schema: Schema, keys: list[str]) -> None:
    renamed = rename_in_definition(IMPORT, "Source", renaming(**renames))
    assert parse_schema(renamed.out_schema or "") == schema
    assert renamed.transformation is not None and renamed.transformation.mapping is not None
    assert list(renamed.transformation.mapping) == keys
    assert (renamed.filter, renamed.in_schema) == (IMPORT.filter, None), "its input is an event"
    assert (renamed is IMPORT) == (schema == OUT)


EXPORT = Definition(
    in_schema=text(profile(a="string", o=profile(x="int"), m="map", j="json")),
    out_schema=text(profile(a="string", m="string")),
    transformation=mapped(a='coalesce(a, o.x) "a" m["a.b"] m.a j.a["o"]', m="'a'"),
    filter=where(("a", "is", ("a",)), ("o.x", "is null", None), ("j.a", "exists", None)),
    matching=Matching("a", "a"),
    order_by="o.x",
)


def test_the_input_of_a_destination() -> None:
    renamed = rename_in_definition(EXPORT, "Destination", renaming(a="b", o="a", m="n"))
    assert parse_schema(renamed.in_schema or "") == profile(b="string", a=profile(x="int"), n="map", j="json")
    assert renamed.transformation == mapped(a="coalesce(b, a.x) 'a' n['a.b'] n.a j.a.o", m="'a'")
    assert renamed.filter == where(("b", "is", ("a",)), ("a.x", "is null", None), ("j.a", "exists", None))
    assert (renamed.matching, renamed.order_by) == (Matching("b", "a"), "a.x")
    assert renamed.out_schema == EXPORT.out_schema, "its output is that of an application"


@pytest.mark.parametrize("role", ["Source", "Destination"])
def test_pipelines_that_stay_as_they_are(role: Role) -> None:
    function = FunctionDefinition(language="JavaScript", source="…", in_paths=("a",), out_paths=("a",))
    with_function: dict[str, Any] = {"transformation": TransformationDefinition(function=function)}
    for definition in (
        Definition(),
        Definition(in_schema=text(OUT), out_schema=text(OUT), **with_function),
        Definition(filter=where(("a", "is", ("a",)))),
    ):
        assert rename_in_definition(definition, role, renaming(a="b")) is definition


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a", "b"),
        ("a.c", "b.c"),
        ("aa", "aa"),
        ("  aa  ", "  aa  "),
        ('"a" a', "'a' b"),
        ("upper(concat(a))", "upper(concat(b))"),
        ("x.a", "x.a"),
        ('x["a"]', 'x["a"]'),
        ("a?.c", "b?.c"),
        ("null", "null"),
    ],
)
def test_an_expression_keeps_its_text_unless_a_name_changes(before: str, after: str) -> None:
    def rename(names: tuple[str, ...]) -> tuple[str, ...]:
        return ("b", *names[1:]) if names[0] == "a" else names

    assert rename_properties(before, rename) == after
