"""Evidence of attributes: kinds, blanks, blocked values and long values."""

from typing import Any, Final

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from headwater.catalog.profiles import Identifier, ResolutionSettings
from headwater.profiles.evidence import MAX_VALUE_BYTES, EvidenceReader, make_links, storable
from headwater.schemas import (
    BooleanType,
    DecimalType,
    IntType,
    IpType,
    ObjectType,
    Property,
    Schema,
    StringType,
    Type,
    UuidType,
)
from headwater.state.profiles.model import Link, LinkValue

UUID: Final = "0A1B2C3D-0000-4000-8000-00000000000F"


def schema(**types: Type) -> Schema:
    return Schema(tuple(Property(name, type, read_optional=True) for name, type in types.items()))


def read(type: Type, text: str, **guards: Any) -> str | None:
    """Return the evidence of the only identifier, whose value has this JSON text."""
    reader = EvidenceReader(ResolutionSettings(identifiers=(Identifier(path="id", **guards),)), schema(id=type))
    (value,) = reader.read(f'{{"other":1,"id":{text}}}')
    return value


@pytest.mark.parametrize(
    ("type", "text", "value"),
    [
        (StringType(), '"a@x"', "a@x"),
        (StringType(), '"A@x"', "A@x"),
        (StringType(), '" a "', " a "),
        (StringType(), '"\\u00e9\\u4e2d"', "é中"),
        (StringType(), "null", None),
        (StringType(), '""', None),
        (StringType(), '" \\t\\u00a0"', None),
        (StringType(), "5", None),
        (StringType(), "true", None),
        (StringType(), '{"a":"b"}', None),
        (IntType(32), "5", "5"),
        (IntType(32), "-0", "0"),
        (IntType(32), "0", "0"),
        (IntType(32), '"5"', None),
        (IntType(32), "5.5", None),
        (IntType(32), "true", None),
        (IntType(64), '"9223372036854775807"', "9223372036854775807"),
        (IntType(64), '"-5"', "-5"),
        (IntType(64), '"05"', None),
        (IntType(64), "5", None),
        (DecimalType(38), "1e3", "1000"),
        (DecimalType(38), "5.00", "5"),
        (DecimalType(38), "-12345678901234567890123456789", "-12345678901234567890123456789"),
        (DecimalType(38), '"5"', None),
        (DecimalType(38), "null", None),
        (UuidType(), f'"{UUID}"', UUID.lower()),
        (UuidType(), '"0a1b"', None),
        (IpType(), '"10.0.0.1"', "10.0.0.1"),
        (IpType(), '"2001:DB8:0::1"', "2001:db8::1"),
        (IpType(), '"localhost"', None),
        (BooleanType(), "true", None),
    ],
)
def test_a_value_is_its_canonical_text(type: Type, text: str, value: str | None) -> None:
    assert read(type, text) == value


@pytest.mark.parametrize(
    ("type", "text", "guards", "value"),
    [
        (StringType(), '""', {"allows_blank": True}, ""),
        (StringType(), '" "', {"allows_blank": True}, " "),
        (StringType(), '"qa@x"', {"blocked_values": ("qa@x",)}, None),
        (StringType(), '"QA@x"', {"blocked_values": ("qa@x",)}, "QA@x"),
        (StringType(), '" NULL "', {"blocked_presets": ("EmptyWords",)}, None),
        (StringType(), '"N/A"', {"blocked_presets": ("EmptyWords",)}, None),
        (StringType(), '"nullable"', {"blocked_presets": ("EmptyWords",)}, "nullable"),
        (StringType(), '"0"', {"blocked_presets": ("EmptyWords",)}, "0"),
        (StringType(), '"00-00 +0.0"', {"blocked_presets": ("ZerosAndDashes",)}, None),
        (StringType(), '"0-1"', {"blocked_presets": ("ZerosAndDashes",)}, "0-1"),
        (StringType(), '" "', {"blocked_presets": ("ZerosAndDashes",), "allows_blank": True}, " "),
        (IntType(32), "0", {"blocked_presets": ("ZerosAndDashes",)}, None),
        (IntType(32), "7", {"blocked_values": ("07", "7")}, None),
        (IntType(64), '"7"', {"blocked_values": ("7",)}, None),
        (DecimalType(9), "7", {"blocked_values": ("7.0",)}, None),
        (UuidType(), f'"{UUID}"', {"blocked_values": (UUID,)}, None),
    ],
)
def test_blank_and_blocked_values_are_absent(type: Type, text: str, guards: dict[str, Any], value: str | None) -> None:
    assert read(type, text, **guards) == value


@pytest.mark.parametrize(
    ("text", "is_kept"),
    [
        ("a" * MAX_VALUE_BYTES, True),
        ("a" * (MAX_VALUE_BYTES + 1), False),
        ("é" * (MAX_VALUE_BYTES // 2), True),
        ("é" * (MAX_VALUE_BYTES // 2 + 1), False),
        ("a\0b", False),
        ("\x01a", False),
        ("a\x01", True),
    ],
)
def test_a_digest_replaces_long_values_and_those_that_databases_refuse(text: str, is_kept: bool) -> None:
    value = read(StringType(), msgspec.json.encode(text).decode())
    assert value is not None
    assert (value == text) == is_kept
    assert value == storable(text)
    assert len(value.encode()) <= MAX_VALUE_BYTES and "\0" not in value


@given(st.text(), st.text())
def test_different_values_stay_different(first: str, second: str) -> None:
    assert (storable(first) == storable(second)) == (first == second)


NESTED: Final = schema(
    email=StringType(), contact=schema(phone=StringType(), more=schema(ref=IntType(32))), plan=StringType()
)
PATHS: Final = ("contact.more.ref", "email", "contact.phone", "gone", "contact")


@pytest.mark.parametrize(
    ("attributes", "evidence"),
    [
        ("{}", (None, None, None, None, None)),
        ('{"email":"a","contact":{"phone":"5","more":{"ref":7}}}', ("7", "a", "5", None, None)),
        ('{"email":"a","contact":null}', (None, "a", None, None, None)),
        ('{"email":"a","contact":"5"}', (None, "a", None, None, None)),
        ('{"email":"a","contact":{"phone":5,"more":{"ref":7}}}', ("7", "a", None, None, None)),
        ('{"email":"a","contact":{"phone":"5","more":null}}', (None, "a", "5", None, None)),
        ('{"email":{},"contact":{"phone":"5"},"gone":"x"}', (None, None, "5", None, None)),
    ],
)
def test_identifiers_are_read_from_objects(attributes: str, evidence: tuple[str | None, ...]) -> None:
    settings = ResolutionSettings(identifiers=tuple(Identifier(path=path) for path in PATHS))
    assert isinstance(NESTED, ObjectType)
    assert EvidenceReader(settings, NESTED).read(attributes) == evidence


def test_without_a_schema_there_is_no_evidence() -> None:
    settings = ResolutionSettings(identifiers=(Identifier(path="email"),))
    assert EvidenceReader(settings, None).read('{"email":"a"}') == (None,)
    assert EvidenceReader(ResolutionSettings(), NESTED).read('{"email":"a"}') == ()


def test_blocked_values_are_found() -> None:
    identifiers = (
        Identifier(path="email", blocked_values=("qa@x",)),
        Identifier(path="plan", blocked_presets=("EmptyWords",)),
    )
    reader = EvidenceReader(ResolutionSettings(identifiers=identifiers), NESTED)
    assert reader.blocked('{"email":"qa@x","plan":"None"}') == [LinkValue(0, "qa@x"), LinkValue(1, "None")]
    assert reader.blocked('{"email":" ","plan":"Pro"}') == []
    assert reader.blocked("{}") == []


def test_the_mask_of_a_link_has_the_stronger_identifiers() -> None:
    assert make_links(7, ("a", None, "5", "z")) == [
        Link(LinkValue(0, "a"), 7, 0b000),
        Link(LinkValue(2, "5"), 7, 0b001),
        Link(LinkValue(3, "z"), 7, 0b101),
    ]


json_values: Final = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.sampled_from(["a@x", "", " ", "!", "é", "a\nb", "\x01", "n/a", "x" * 60]),
    st.fixed_dictionaries({"id": st.sampled_from(["a", None, 5])}),
)


@given(st.lists(st.dictionaries(st.sampled_from(["email", "phone", "user"]), json_values), max_size=5), st.booleans())
def test_many_identities_are_read_as_each(documents: list[dict[str, Any]], has_presets: bool) -> None:
    identifiers = (
        Identifier(path="email", blocked_presets=("EmptyWords",) if has_presets else ()),
        Identifier(path="phone"),
        Identifier(path="user.id"),
    )
    types = schema(email=StringType(), phone=StringType(), user=ObjectType(schema(id=StringType()).properties))
    reader = EvidenceReader(ResolutionSettings(identifiers=identifiers), types)
    texts = [msgspec.json.encode(document).decode() for document in documents]
    assert reader.read_all(texts) == [reader.read(text) for text in texts]
