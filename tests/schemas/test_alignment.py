from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.schemas import (
    ArrayType,
    DecimalType,
    ExportMode,
    FloatType,
    IntType,
    IpType,
    MapType,
    Misalignment,
    ObjectType,
    Property,
    Schema,
    StringType,
    Type,
    misalignment,
    serialise,
    without,
)
from tests.schemas.strategies import schemas

TEXT = StringType()
MODES: list[ExportMode | None] = [None, "CreateOnly", "UpdateOnly", "CreateOrUpdate"]


def schema(*properties: Property) -> Schema:
    return ObjectType(properties)


def of(type: Type) -> Schema:
    return schema(Property("p", type))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("before", "after", "difference"),
    [
        (TEXT, IntType(8), "the type of property p was string and is now int(8)"),
        (IpType(), TEXT, "the type of property p was ip and is now string"),
        (StringType(max_length=20), StringType(max_length=30), "changed: maxLength was 20 and is now 30"),
        (StringType(max_length=20), TEXT, "changed: maxLength was 20 and is now not set"),
        (TEXT, StringType(max_bytes=9), "changed: maxBytes was not set and is now 9"),
        (StringType(pattern="a"), StringType(pattern="b"), 'changed: pattern was "a" and is now "b"'),
        (
            StringType(values=("a", "b")),
            StringType(values=("b", "a")),
            'changed: values was ["a","b"] and is now ["b","a"]',
        ),
        (IntType(8), IntType(16), "changed: bitSize was 8 and is now 16"),
        (IntType(8), IntType(8, True), "changed: unsigned was not set and is now true"),
        (IntType(8, minimum=1), IntType(8), "changed: minimum was 1 and is now not set"),
        (FloatType(32, True), FloatType(32), "changed: real was true and is now not set"),
        (FloatType(64, maximum=0.5), FloatType(64, maximum=1.0), "changed: maximum was 0.5 and is now 1"),
        (DecimalType(5, 2), DecimalType(6, 2), "changed: precision was 5 and is now 6"),
        (DecimalType(5, 2), DecimalType(5, 1), "changed: scale was 2 and is now 1"),
        (DecimalType(5, 2, Decimal("0.1")), DecimalType(5, 2), "changed: minimum was 0.1 and is now not set"),
        (ArrayType(TEXT, 1), ArrayType(TEXT), "changed: minElements was 1 and is now not set"),
        (ArrayType(TEXT), ArrayType(TEXT, 0, 5), "changed: maxElements was not set and is now 5"),
        (ArrayType(TEXT), ArrayType(TEXT, unique_elements=True), "changed: uniqueElements was not set and is now true"),
        (ArrayType(TEXT), ArrayType(IpType()), "the type of property p was string and is now ip"),
        (ArrayType(TEXT), MapType(TEXT), "the type of property p was array(string) and is now map(string)"),
        (MapType(IntType(8)), MapType(IntType(16)), "changed: bitSize was 8 and is now 16"),
        (MapType(of(TEXT)), MapType(of(IpType())), "the type of property p.p was string and is now ip"),
    ],
)
def test_types_must_be_equal(before: Type, after: Type, difference: str, mode: ExportMode | None) -> None:
    found = misalignment(of(before), of(after), mode)
    assert found is not None
    assert found.cause.endswith(difference)
    assert found.cause.split(":")[0].startswith(("the type of property p",))


@pytest.mark.parametrize("mode", MODES)
def test_a_property_that_is_gone(mode: ExportMode | None) -> None:
    gone = Misalignment("o.x", "property o.x no longer exists")
    inner = Property("o", schema(Property("x", TEXT), Property("y", TEXT)))
    assert misalignment(schema(inner), without(schema(inner), "o.x"), mode) == gone
    assert misalignment(of(TEXT), None, mode) == Misalignment("p", "property p no longer exists")


@pytest.mark.parametrize("mode", MODES)
def test_more_properties_do_not_matter(mode: ExportMode | None) -> None:
    assert misalignment(of(TEXT), schema(Property("q", TEXT), Property("p", TEXT)), mode) is None
    assert misalignment(None, of(TEXT), mode) is None
    assert misalignment(None, None, mode) is None


@pytest.mark.parametrize("mode", MODES)
def test_descriptions_and_prefilled_do_not_matter(mode: ExportMode | None) -> None:
    assert misalignment(of(TEXT), schema(Property("p", TEXT, prefilled="x", description="y")), mode) is None


@pytest.mark.parametrize("mode", MODES)
def test_nullable(mode: ExportMode | None) -> None:
    never, now = Property("p", TEXT), Property("p", TEXT, nullable=True)
    assert misalignment(schema(never), schema(now), mode) == Misalignment("p", "property p can now be null")
    assert misalignment(schema(now), schema(never), mode) == Misalignment("p", "property p can no longer be null")


@pytest.mark.parametrize(
    ("attribute", "modes", "on", "off"),
    [
        ("read_optional", [None], "can now be missing when it is read", "can no longer be missing when it is read"),
        ("create_required", ["CreateOnly", "CreateOrUpdate"], "is now required to create records",
         "is no longer required to create records"),
        ("update_required", ["UpdateOnly", "CreateOrUpdate"], "is now required to update records",
         "is no longer required to update records"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("mode", MODES)
def test_attributes_matter_in_their_modes(
    attribute: str, modes: list[ExportMode | None], on: str, off: str, mode: ExportMode | None
) -> None:
    plain = Property("p", TEXT)
    marked = Property(
        "p",
        TEXT,
        create_required=attribute == "create_required",
        update_required=attribute == "update_required",
        read_optional=attribute == "read_optional",
    )
    for before, after, cause in [(plain, marked, on), (marked, plain, off)]:
        found = misalignment(schema(before), schema(after), mode)
        assert found == (Misalignment("p", f"property p {cause}") if mode in modes else None)


@pytest.mark.parametrize("mode", MODES)
def test_what_is_required_must_be_there(mode: ExportMode | None) -> None:
    required = Property("r", TEXT, create_required=True)
    expected = mode in ("CreateOnly", "CreateOrUpdate")
    for stored, offered, path in [
        (None, schema(required), "r"),
        (of(TEXT), schema(Property("p", TEXT), required), "r"),
        (of(of(TEXT)), of(schema(Property("p", TEXT), required)), "p.r"),
        (of(ArrayType(of(TEXT))), of(ArrayType(schema(Property("p", TEXT), required))), "p.r"),
    ]:
        found = misalignment(stored, offered, mode)
        assert (found == Misalignment(path, f"property {path} is now required to create records")) is expected
        assert (found is None) is not expected


def test_an_object_that_is_not_sent_needs_no_children() -> None:
    offered = schema(Property("p", TEXT), Property("o", schema(Property("x", TEXT, create_required=True))))
    assert misalignment(of(TEXT), offered, "CreateOnly") is None


@given(schemas(), st.sampled_from(MODES))
def test_a_schema_is_aligned_with_itself(given: Schema, mode: ExportMode | None) -> None:
    assert misalignment(given, given, mode) is None


@given(schemas(), schemas(), st.sampled_from(MODES))
def test_what_is_told_has_a_path(stored: Schema, offered: Schema, mode: ExportMode | None) -> None:
    found = misalignment(stored, offered, mode)
    if found is not None:
        assert found.path in found.cause
    if serialise(stored) == serialise(offered):
        assert found is None
