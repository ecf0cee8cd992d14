from hypothesis import given

from headwater.schemas import (
    as_destination,
    as_source,
    contains_path,
    prune,
    select,
    walk,
    walk_objects,
    without,
)
from headwater.schemas import types as t
from tests.schemas.strategies import schemas

TEXT = t.StringType()
SCHEMA = t.ObjectType(
    (
        t.Property("a", TEXT),
        t.Property("o", t.ObjectType((t.Property("x", TEXT), t.Property("y", t.IntType(8))))),
        t.Property("list", t.ArrayType(t.ObjectType((t.Property("x", TEXT),)))),
    )
)


def paths(schema: t.Schema | None) -> list[str]:
    return [] if schema is None else [path for path, _ in walk_objects(schema)]


def test_roles_at_every_depth() -> None:
    def everything(required: bool = False, read_optional: bool = False) -> t.ObjectType:
        def property(name: str, type: t.Type) -> t.Property:
            return t.Property(name, type, "", required, required, read_optional, nullable=True, description="d")

        inner = t.ObjectType((property("email", TEXT),))
        types: tuple[t.Type, ...] = (inner, t.ArrayType(t.MapType(inner)), t.MapType(inner), TEXT)
        return t.ObjectType(tuple(property(f"p{index}", type) for index, type in enumerate(types)))

    given = everything(required=True, read_optional=True)
    assert as_source(given) == everything(read_optional=True)
    assert as_destination(given) == everything(required=True)
    assert as_source(None) is None
    assert as_destination(None) is None


def test_prune() -> None:
    assert paths(prune(SCHEMA, lambda path, property: property.type != TEXT)) == ["o", "o.y", "list"]
    assert paths(prune(SCHEMA, lambda path, property: path != "o")) == ["a", "list"]
    assert prune(SCHEMA, lambda path, property: False) is None
    assert prune(None, lambda path, property: True) is None


def test_an_object_left_empty_goes_too() -> None:
    assert paths(without(without(SCHEMA, "o.x"), "o.y")) == ["a", "list"]
    assert paths(without(SCHEMA, "o")) == ["a", "list"]
    assert without(SCHEMA, "missing") is SCHEMA
    assert without(t.ObjectType((t.Property("o", t.ObjectType((t.Property("x", TEXT),))),)), ("o", "x")) is None


def test_select() -> None:
    assert paths(select(SCHEMA, ["o.y"])) == ["o", "o.y"]
    assert paths(select(SCHEMA, ["o", "a"])) == ["a", "o", "o.x", "o.y"]
    assert paths(select(SCHEMA, [("o",), ("o", "x")])) == ["o", "o.x", "o.y"]
    assert select(SCHEMA, []) is None
    assert select(SCHEMA, ["o.z", "a.b", "zz"]) is None
    assert select(SCHEMA, ["list.x"]) is None
    assert select(None, ["a"]) is None


@given(schemas())
def test_projections_are_idempotent_and_keep_every_path(schema: t.Schema) -> None:
    for project in (as_source, as_destination):
        once = project(schema)
        assert once is not None
        assert project(once) is once
        assert [path for path, _ in walk(once)] == [path for path, _ in walk(schema)]
    source = as_source(schema)
    assert source is not None
    assert not any(property.create_required or property.update_required for _, property in walk(source))
    destination = as_destination(schema)
    assert destination is not None
    assert not any(property.read_optional for _, property in walk(destination))


@given(schemas())
def test_selecting_everything_and_removing_anything(schema: t.Schema) -> None:
    every = paths(schema)
    assert select(schema, every) is schema
    for path in every:
        rest = without(schema, path)
        assert rest is None or not contains_path(rest, path)
        chosen = select(schema, [path])
        assert chosen is not None
        assert contains_path(chosen, path)
        assert all(other.startswith(path) or path.startswith(other) for other in paths(chosen))
