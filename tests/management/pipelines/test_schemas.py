"""The schemas of a pipeline: the rules of each side, and that all of their properties are used."""

from typing import Any, Final

import pytest

from headwater.base.errors import BadRequest
from headwater.catalog import FunctionDefinition, Matching, TransformationDefinition
from headwater.management.pipelines.rules import MAX_DEFINITION_BYTES
from headwater.schemas import MAX_PROPERTIES, ArrayType, JsonType, MapType, ObjectType, Property, StringType, Type
from tests.complexity import assert_linear
from tests.management.pipelines.drafts import fails, passes
from tests.management.pipelines.examples import EXAMPLES, TEXT, mapped, profile, schema, where

SIDES: Final = """
                create  update  optional  nullable  prefilled
SA out          no      no      must      no        no
SD out          no      no      must      no        no
SF out          no      no      must      no        no
SU out          no      no      must      no        no
DA in           no      no      must      no        no
DD in           no      no      must      no        no
DF in           no      no      must      no        no
SA in           no      no      any       any       no
SF in           no      no      any       any       no
SD in           no      no      no        any       no
DA out          any     any     no        any       no
DV out          any     no      no        any       no
DD out          no      no      no        any       no
"""
"""The attributes of a property that is neither matching.out nor the table key, which have rows of their own below."""
ATTRIBUTES: Final = {
    "create": "create_required",
    "update": "update_required",
    "optional": "read_optional",
    "nullable": "nullable",
    "prefilled": "prefilled",
}
CELLS: Final = [
    (kind, side, attribute, cell)
    for kind, side, *cells in (line.split() for line in SIDES.strip().splitlines()[1:])
    for attribute, cell in zip(ATTRIBUTES.values(), cells, strict=True)
]


def given(kind: str, side: str, property_: Property) -> dict[str, Any]:
    """A pipeline of the kind that has, and uses, the property on this side."""
    least = EXAMPLES[kind].least
    member = f"{side}Schema"
    there = least.get(member) or (profile(email=TEXT) if kind == "SU" else schema(email=TEXT))
    members: dict[str, Any] = {member: ObjectType((*there, property_))}
    expressions = dict(least["transformation"].mapping) if "transformation" in least else {"email": "traits.email"}
    if side == "out":
        expressions[property_.name] = "traits.x" if kind in ("SU", "DV") else "email"
        members["transformation"] = mapped(**expressions)
    elif kind != "DF":
        first = next(iter(expressions))
        # A nullable or optional property adds nothing to a concatenation.
        members["transformation"] = mapped(**{**expressions, first: f"{expressions[first]} {property_.name}"})
    return members


def property_with(kind: str, side: str, attribute: str | None, *, type_: Type = TEXT) -> Property:
    """A property called x, as it must be on its side but for one attribute, which is the other way round."""
    is_profile = (kind, side, "read_optional", "must") in CELLS
    values: dict[str, Any] = {"read_optional": True} if is_profile else {}
    if attribute == "prefilled":
        values[attribute] = "'x'"
    elif attribute is not None:
        values[attribute] = not values.get(attribute, False)
    return Property("x", type_, **values)


@pytest.mark.parametrize(("kind", "side", "attribute", "cell"), CELLS)
def test_attributes(kind: str, side: str, attribute: str, cell: str) -> None:
    passes(kind, given(kind, side, property_with(kind, side, None)))
    members = given(kind, side, property_with(kind, side, attribute))
    if cell == "any":
        passes(kind, members)
    else:
        assert fails(kind, members) == (400, "BadRequest", f"{side}Schema.x")


@pytest.mark.parametrize(("kind", "side", "attribute", "cell"), [cell for cell in CELLS if cell[3] != "any"])
def test_attributes_at_every_depth(kind: str, side: str, attribute: str, cell: str) -> None:
    inner = ObjectType((property_with(kind, side, attribute),))
    outer = property_with(kind, side, None, type_=inner)
    members = given(kind, side, outer)
    if side == "out":
        expressions = dict(members["transformation"].mapping)
        expressions["x.x"] = expressions.pop("x")
        members["transformation"] = mapped(**expressions)
    elif kind != "DF":
        expressions = members["transformation"].mapping
        members["transformation"] = mapped(**{path: one.replace(" x", " x.x") for path, one in expressions.items()})
    assert fails(kind, members) == (400, "BadRequest", f"{side}Schema.x.x")


@pytest.mark.parametrize("path", ["key", "keys.key"])
def test_only_what_is_matched_may_be_missing(path: str) -> None:
    """The property that identifies the user is read and written, and so is the object that contains it."""
    key = Property("key", TEXT, read_optional=True)
    out = key if path == "key" else Property("keys", ObjectType((key,)), read_optional=True)
    passes("DA", {"outSchema": ObjectType((out, Property("name", TEXT))), "matching": Matching("email", path)})
    other = ObjectType((out, Property("name", TEXT, read_optional=True)))
    refused = fails("DA", {"outSchema": other, "matching": Matching("email", path)})
    assert refused == (400, "BadRequest", "outSchema.name")


@pytest.mark.parametrize(
    ("attributes", "field"),
    [
        ({}, "outSchema.id"),
        ({"create_required": True, "update_required": True}, "outSchema.id"),
        ({"create_required": True, "read_optional": True}, "outSchema.id"),
        ({"create_required": True, "nullable": True}, "outSchema.id"),
        ({"create_required": True, "prefilled": "1"}, "outSchema.id"),
    ],
)
def test_the_table_key_is_always_given(attributes: dict[str, Any], field: str) -> None:
    out = ObjectType((Property("id", TEXT, **attributes), Property("email", TEXT)))
    assert fails("DD", {"outSchema": out}) == (400, "BadRequest", field)


PROFILES: Final = [(kind, side) for kind, side, attribute, cell in CELLS if cell == "must"]


@pytest.mark.parametrize(("kind", "side"), PROFILES)
def test_profiles_can_hold_it(kind: str, side: str) -> None:
    for name, type_, field in (
        ("_x", TEXT, "_x"),
        ("x", ArrayType(profile(a=TEXT)), "x"),
        ("x", MapType(ArrayType(TEXT)), "x"),
        ("x", StringType(values=("a", "b")), "x"),
        ("EMAIL", TEXT, "EMAIL"),
    ):
        members = given(kind, side, Property(name, type_, read_optional=True))
        if "transformation" in members and type_ is not TEXT and not isinstance(type_, StringType):
            continue  # that an array does not go with a text is another rule
        assert fails(kind, members) == (400, "BadRequest", f"{side}Schema.{field}")


UNUSED: list[tuple[str, dict[str, Any], str]] = [
    ("DA", {"inSchema": profile(email=TEXT, name=TEXT, x=TEXT)}, "inSchema"),
    ("DD", {"inSchema": profile(id=TEXT, email=TEXT, x=TEXT)}, "inSchema"),
    *((kind, {"inSchema": schema(id=TEXT, email=TEXT, x=TEXT)}, "inSchema") for kind in ("SD", "SF")),
    ("SA", {"inSchema": schema(email=TEXT, x=TEXT)}, "inSchema"),
    *((kind, {"outSchema": profile(email=TEXT, x=TEXT)}, "outSchema") for kind in ("SA", "SD", "SF")),
    ("DA", {"outSchema": schema(email=TEXT, name=TEXT, x=TEXT)}, "outSchema"),
    ("SU", {"outSchema": profile(email=TEXT, x=TEXT), "transformation": mapped(email="userId")}, "outSchema"),
    ("DV", {"outSchema": schema(email=TEXT, x=TEXT), "transformation": mapped(email="userId")}, "outSchema"),
]


@pytest.mark.parametrize(("kind", "members", "side"), UNUSED, ids=lambda value: str(value)[:60])
def test_unused(kind: str, members: dict[str, Any], side: str) -> None:
    assert fails(kind, members) == (400, "BadRequest", f"{side}.x")


USES: list[tuple[str, dict[str, Any]]] = [
    ("SA", {"inSchema": schema(email=TEXT, x=TEXT), "filter": where("x", "is", "1")}),
    ("SA", {"inSchema": schema(email=TEXT, x=JsonType()), "filter": where("x.y.z", "is", "1")}),
    ("SA", {"inSchema": schema(email=TEXT, x=schema(y=TEXT)), "transformation": mapped(email="email x.y")}),
    ("SA", {"inSchema": schema(email=TEXT, x=ArrayType(schema(y=TEXT))), "filter": where("x", "is not empty")}),
    ("DF", {"inSchema": profile(email=TEXT, x=TEXT)}),
]


@pytest.mark.parametrize(("kind", "members"), USES, ids=lambda value: str(value)[:60])
def test_a_property_that_a_member_names_is_used(kind: str, members: dict[str, Any]) -> None:
    assert passes(kind, members).in_schema == members["inSchema"]


def test_an_object_counts_through_what_is_in_it() -> None:
    members = {"inSchema": schema(email=TEXT, x=schema(y=TEXT, z=TEXT)), "transformation": mapped(email="email x.y")}
    assert fails("SA", members) == (400, "BadRequest", "inSchema.x.z")


def test_the_input_of_a_mapping_is_not_the_filters_of_a_file() -> None:
    """All properties of a file are exported, so none of them can be for the filter alone."""
    passes("DF", {"inSchema": profile(email=TEXT, x=TEXT), "filter": where("x", "is", "1")})


def test_checking_is_linear_in_the_number_of_properties() -> None:
    def checked(size: int) -> None:
        names = [f"p{number}" for number in range(size)]
        passes(
            "SA",
            {
                "inSchema": schema(**dict.fromkeys(names, TEXT)),
                "outSchema": profile(**dict.fromkeys(names, TEXT)),
                "transformation": mapped(**{name: name for name in names}),
            },
        )

    assert_linear(checked, MAX_PROPERTIES)


@pytest.mark.parametrize("member", ["inSchema", "outSchema"])
@pytest.mark.parametrize("nested", [False, True])
def test_a_schema_has_a_limited_number_of_properties(member: str, nested: bool) -> None:
    """Properties of objects count too, also inside arrays and maps."""
    side = schema if member == "inSchema" else profile
    names = [f"p{number}" for number in range(MAX_PROPERTIES)]
    large = side(**dict.fromkeys(names, TEXT))
    if nested:
        large = side(a=ArrayType(MapType(side(**dict.fromkeys(names, TEXT)))))
    else:
        large = side(**dict.fromkeys([*names, "more"], TEXT))
    given: dict[str, Any] = {
        "inSchema": schema(email=TEXT), "outSchema": profile(email=TEXT), "transformation": mapped(email="email"),
    }  # fmt: skip
    assert fails("SA", given | {member: large}) == (400, "BadRequest", member)


def test_a_definition_has_a_limited_size() -> None:
    """The error names the member that takes most of it."""
    names = [f"p{number}_" + "x" * 100 for number in range(MAX_PROPERTIES)]
    described = ObjectType(tuple(Property(name, TEXT, read_optional=True, description="d" * 500) for name in names))
    given = {
        "inSchema": described,
        "outSchema": profile(email=TEXT),
        "transformation": TransformationDefinition(
            function=FunctionDefinition(
                language="Python",
                source="def transform(user): return user",
                in_paths=tuple(names),
                out_paths=("email",),
            )
        ),
    }
    assert fails("SA", given) == (400, "BadRequest", "inSchema")
    with pytest.raises(BadRequest, match=f"must have at most {MAX_DEFINITION_BYTES} bytes of JSON"):
        passes("SA", given)
