from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.schemas import (
    ExportMode,
    Misalignment,
    misalignment,
    serialise,
    without,
)
from headwater.schemas import types as t
from tests.schemas.strategies import schemas

TEXT = t.StringType()
MODES: list[ExportMode | None] = [None, "CreateOnly", "UpdateOnly", "CreateOrUpdate"]


def schema(*properties: t.Property) -> t.Schema:
    return t.ObjectType(properties)


def of(type: t.Type) -> t.Schema:
    return schema(t.Property("p", type))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("before", "after", "difference"),
    [
        (TEXT, t.IntType(8), "the type of property p was string and is now int(8)"),
        (t.IpType(), TEXT, "the type of property p was ip and is now string"),
        (t.StringType(max_length=20), t.StringType(max_length=30), "changed: maxLength was 20 and is now 30"),
        (t.StringType(max_length=20), TEXT, "changed: maxLength was 20 and is now not set"),
        (TEXT, t.StringType(max_bytes=9), "changed: maxBytes was not set and is now 9"),
        (t.StringType(pattern="a"), t.StringType(pattern="b"), 'changed: pattern was "a" and is now "b"'),
        (
            t.StringType(values=("a", "b")),
            t.StringType(values=("b", "a")),
            'changed: values was ["a","b"] and is now ["b","a"]',
        ),
        (t.IntType(8), t.IntType(16), "changed: bitSize was 8 and is now 16"),
        (t.IntType(8), t.IntType(8, True), "changed: unsigned was not set and is now true"),
        (t.IntType(8, minimum=1), t.IntType(8), "changed: minimum was 1 and is now not set"),
        (t.FloatType(32, True), t.FloatType(32), "changed: real was true and is now not set"),
        (t.FloatType(64, maximum=0.5), t.FloatType(64, maximum=1.0), "changed: maximum was 0.5 and is now 1"),
        (t.DecimalType(5, 2), t.DecimalType(6, 2), "changed: precision was 5 and is now 6"),
        (t.DecimalType(5, 2), t.DecimalType(5, 1), "changed: scale was 2 and is now 1"),
        (t.DecimalType(5, 2, Decimal("0.1")), t.DecimalType(5, 2), "changed: minimum was 0.1 and is now not set"),
        (t.ArrayType(TEXT, 1), t.ArrayType(TEXT), "changed: minElements was 1 and is now not set"),
        (t.ArrayType(TEXT), t.ArrayType(TEXT, 0, 5), "changed: maxElements was not set and is now 5"),
        (
            t.ArrayType(TEXT),
            t.ArrayType(TEXT, unique_elements=True),
            "changed: uniqueElements was not set and is now true",
        ),
        (t.ArrayType(TEXT), t.ArrayType(t.IpType()), "the type of property p was string and is now ip"),
        (t.ArrayType(TEXT), t.MapType(TEXT), "the type of property p was array(string) and is now map(string)"),
        (t.MapType(t.IntType(8)), t.MapType(t.IntType(16)), "changed: bitSize was 8 and is now 16"),
        (t.MapType(of(TEXT)), t.MapType(of(t.IpType())), "the type of property p.p was string and is now ip"),
    ],
)
def test_types_must_be_equal(before: t.Type, after: t.Type, difference: str, mode: ExportMode | None) -> None:
    found = misalignment(of(before), of(after), mode)
    assert found is not None
    assert found.cause.endswith(difference)
    assert found.cause.split(":")[0].startswith(("the type of property p",))


@pytest.mark.parametrize("mode", MODES)
def test_a_property_that_is_gone(mode: ExportMode | None) -> None:
    gone = Misalignment("o.x", "property o.x no longer exists")
    inner = t.Property("o", schema(t.Property("x", TEXT), t.Property("y", TEXT)))
    assert misalignment(schema(inner), without(schema(inner), "o.x"), mode) == gone
    assert misalignment(of(TEXT), None, mode) == Misalignment("p", "property p no longer exists")


@pytest.mark.parametrize("mode", MODES)
def test_more_properties_do_not_matter(mode: ExportMode | None) -> None:
    assert misalignment(of(TEXT), schema(t.Property("q", TEXT), t.Property("p", TEXT)), mode) is None
    assert misalignment(None, of(TEXT), mode) is None
    assert misalignment(None, None, mode) is None


@pytest.mark.parametrize("mode", MODES)
def test_descriptions_and_prefilled_do_not_matter(mode: ExportMode | None) -> None:
    assert misalignment(of(TEXT), schema(t.Property("p", TEXT, prefilled="x", description="y")), mode) is None


@pytest.mark.parametrize("mode", MODES)
def test_nullable(mode: ExportMode | None) -> None:
    never, now = t.Property("p", TEXT), t.Property("p", TEXT, nullable=True)
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
    plain = t.Property("p", TEXT)
    marked = t.Property(
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
def test_required_properties_must_exist(mode: ExportMode | None) -> None:
    required = t.Property("r", TEXT, create_required=True)
    expected = mode in ("CreateOnly", "CreateOrUpdate")
    for stored, offered, path in [
        (None, schema(required), "r"),
        (of(TEXT), schema(t.Property("p", TEXT), required), "r"),
        (of(of(TEXT)), of(schema(t.Property("p", TEXT), required)), "p.r"),
        (of(t.ArrayType(of(TEXT))), of(t.ArrayType(schema(t.Property("p", TEXT), required))), "p.r"),
    ]:
        found = misalignment(stored, offered, mode)
        assert (found == Misalignment(path, f"property {path} is now required to create records")) is expected
        assert (found is None) is not expected


def test_an_object_that_is_not_sent_needs_no_children() -> None:
    offered = schema(t.Property("p", TEXT), t.Property("o", schema(t.Property("x", TEXT, create_required=True))))
    assert misalignment(of(TEXT), offered, "CreateOnly") is None


@given(schemas(), st.sampled_from(MODES))
def test_a_schema_is_aligned_with_itself(given: t.Schema, mode: ExportMode | None) -> None:
    assert misalignment(given, given, mode) is None


@given(schemas(), schemas(), st.sampled_from(MODES))
def test_a_misalignment_has_a_path(stored: t.Schema, offered: t.Schema, mode: ExportMode | None) -> None:
    found = misalignment(stored, offered, mode)
    if found is not None:
        assert found.path in found.cause
    if serialise(stored) == serialise(offered):
        assert found is None
