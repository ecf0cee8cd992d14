"""Attributes of a profile, from those of its identities."""

from typing import Final

import hypothesis.strategies as st
import pytest
from hypothesis import given

from headwater.catalog.profiles import ProfileSchema
from headwater.profiles.merging import Merger
from headwater.schemas import (
    ArrayType,
    BooleanType,
    DateTimeType,
    DecimalType,
    FloatType,
    IntType,
    JsonType,
    MapType,
    Property,
    Schema,
    StringType,
    Type,
)
from headwater.state.profiles.model import IdentityName, IdentityRow


def schema(**types: Type) -> Schema:
    return Schema(tuple(Property(name, type, read_optional=True) for name, type in types.items()))


SCHEMA: Final = ProfileSchema(
    schema=schema(
        name=StringType(),
        age=IntType(8),
        vip=BooleanType(),
        plan=StringType(),
        tags=ArrayType(StringType()),
        sizes=ArrayType(FloatType(64)),
        prices=ArrayType(DecimalType(10, 2)),
        days=ArrayType(DateTimeType()),
        notes=ArrayType(JsonType()),
        scores=MapType(IntType(8)),
        raw=JsonType(),
        address=schema(city=StringType(), geo=schema(lat=FloatType(64)), zip=StringType()),
    ),
    primary_sources={"plan": 1, "address.zip": 1},
)


def merge(*identities: tuple[int, int, str]) -> str:
    """Return the attributes of identities, given by connection, time and attributes, the oldest first."""
    rows = [
        IdentityRow(id, 1, IdentityName(connection, str(id), False), 1, time, attributes, "[]")
        for id, (connection, time, attributes) in enumerate(identities, start=1)
    ]
    merger = Merger(SCHEMA)
    attributes, updated_at = merger.merge(rows)
    assert merger.merge(rows[::-1]) == (attributes, updated_at)
    assert updated_at == max(row.updated_at for row in rows)
    return attributes


@pytest.mark.parametrize(
    ("identities", "attributes"),
    [
        pytest.param([(1, 1, "{}")], "{}", id="no attributes"),
        pytest.param([(1, 1, '{"vip":true,"age":5,"name":"A"}')], '{"age":5,"name":"A","vip":true}', id="sorted"),
        pytest.param([(1, 1, '{"name":"A"}'), (2, 2, '{"name":"B"}')], '{"name":"B"}', id="latest"),
        pytest.param([(1, 2, '{"name":"A"}'), (2, 1, '{"name":"B"}')], '{"name":"A"}', id="latest by time, not by id"),
        pytest.param([(1, 2, '{"name":"A"}'), (2, 2, '{"name":"B"}')], '{"name":"B"}', id="tie: the higher identity"),
        pytest.param([(1, 1, '{"name":"A"}'), (2, 2, '{"name":null}')], '{"name":"A"}', id="null"),
        pytest.param([(1, 1, '{"name":"A"}'), (2, 2, '{"age":3}')], '{"age":3,"name":"A"}', id="missing"),
        pytest.param([(1, 1, '{"name":"A"}'), (2, 2, '{"name":""}')], '{"name":""}', id="blank is a value"),
        pytest.param([(1, 1, '{"plan":"A"}'), (2, 2, '{"plan":"B"}')], '{"plan":"A"}', id="primary source"),
        pytest.param([(1, 1, '{"plan":null}'), (2, 2, '{"plan":"B"}')], '{"plan":"B"}', id="primary source has null"),
        pytest.param([(3, 1, '{"plan":"A"}'), (2, 2, '{"plan":"B"}')], '{"plan":"B"}', id="no primary source"),
        pytest.param(
            [(1, 1, '{"plan":"A"}'), (1, 2, '{"plan":"C"}'), (2, 3, '{"plan":"B"}')],
            '{"plan":"C"}',
            id="latest of the primary source",
        ),
        pytest.param(
            [(1, 1, '{"address":{"zip":"1","city":"A"}}'), (2, 2, '{"address":{"zip":"2","city":"B"}}')],
            '{"address":{"city":"B","zip":"1"}}',
            id="primary source in an object",
        ),
        pytest.param(
            [(1, 1, '{"address":{"city":"A","geo":{"lat":1.5}}}'), (2, 2, '{"address":{"city":"B","geo":{}}}')],
            '{"address":{"city":"B","geo":{"lat":1.5}}}',
            id="objects merge by property",
        ),
        pytest.param(
            [(1, 1, '{"address":{"city":"A"}}'), (2, 2, '{"address":null}'), (3, 3, '{"address":"x"}')],
            '{"address":{"city":"A"}}',
            id="object that is null or none",
        ),
        pytest.param(
            [(1, 1, '{"tags":["b","a"]}'), (2, 2, '{"tags":["b","c"]}')], '{"tags":["a","b","c"]}', id="union of arrays"
        ),
        pytest.param([(1, 1, '{"tags":["b","b"]}')], '{"tags":["b"]}', id="repeated elements"),
        pytest.param([(1, 1, '{"tags":[]}'), (2, 2, '{"tags":null}')], '{"tags":[]}', id="empty array"),
        pytest.param([(1, 1, '{"tags":["a",5,null]}'), (2, 2, '{"tags":"b"}')], '{"tags":["a"]}', id="misfit elements"),
        pytest.param(
            [(1, 1, '{"sizes":[10,9.5]}'), (2, 2, '{"sizes":["NaN",-1]}')],
            '{"sizes":[-1,9.5,10,"NaN"]}',
            id="numbers sort by value",
        ),
        pytest.param(
            [(1, 1, '{"prices":[10,9.50]}'), (2, 2, '{"prices":[9.5]}')], '{"prices":[9.5,10]}', id="decimals"
        ),
        pytest.param(
            [(1, 1, '{"days":["2024-01-02T00:00:00Z"]}'), (2, 2, '{"days":["2024-01-01T00:00:00.5Z"]}')],
            '{"days":["2024-01-01T00:00:00.500Z","2024-01-02T00:00:00Z"]}',
            id="times",
        ),
        pytest.param(
            [(1, 1, '{"notes":[{"a":1},2]}'), (2, 2, '{"notes":[2,"x"]}')],
            '{"notes":["x",2,{"a":1}]}',
            id="JSON by text",
        ),
        pytest.param(
            [(1, 1, '{"scores":{"a":1}}'), (2, 2, '{"scores":{"b":2}}')], '{"scores":{"b":2}}', id="maps are whole"
        ),
        pytest.param(
            [(1, 1, '{"raw":{"b":1,"a":2}}'), (2, 2, '{"raw":null}')], '{"raw":{"b":1,"a":2}}', id="JSON is whole"
        ),
        pytest.param([(1, 1, '{"name":"A"}'), (2, 2, '{"name":5}')], '{"name":"A"}', id="value of another kind"),
        pytest.param([(1, 1, '{"age":7}'), (2, 2, '{"age":300}')], '{"age":7}', id="value out of range"),
        pytest.param([(1, 1, '{"plan":5}'), (2, 2, '{"plan":"B"}')], '{"plan":"B"}', id="misfit of the primary source"),
        pytest.param([(1, 1, '{"old":5,"name":"A"}')], '{"name":"A"}', id="not in the schema"),
    ],
)
def test_attributes_are_merged(identities: list[tuple[int, int, str]], attributes: str) -> None:
    assert merge(*identities) == attributes


def test_without_a_schema_profiles_have_no_attributes() -> None:
    row = IdentityRow(1, 1, IdentityName(1, "a", False), 1, 7, '{"name":"A"}', "[]")
    assert Merger(None).merge([row]) == ("{}", 7)


def test_flat_and_nested_schemas_agree() -> None:
    flat = ProfileSchema(schema=schema(name=StringType(), tags=ArrayType(StringType())), primary_sources={"name": 2})
    nested = ProfileSchema(
        schema=schema(name=StringType(), tags=ArrayType(StringType()), o=schema(p=StringType())),
        primary_sources={"name": 2},
    )
    texts = ['{"name":"A","tags":["b"]}', '{"name":null,"tags":["a"]}', '{"x":1}', '{"name":"C"}']
    rows = [
        IdentityRow(id, 1, IdentityName(id % 3, "a", False), 1, time, text, "[]")
        for id, (time, text) in enumerate(zip((3, 9, 9, 1), texts, strict=True), start=1)
    ]
    assert Merger(flat).merge(rows) == Merger(nested).merge(rows) == ('{"name":"A","tags":["a","b"]}', 9)


_FLAT: Final = schema(
    name=StringType(),
    short=StringType(max_length=2),
    bytes=StringType(max_bytes=2),
    age=IntType(8),
    vip=BooleanType(),
    day=DateTimeType(),
    raw=JsonType(),
)
_TEXTS: Final = ("null", '"a"', '"abc"', '"\u00e9\u00e9"', '""', "5", "500", "true", "{}", '"2024-03-05T10:00:00Z"')


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2),
            st.integers(0, 3),
            st.dictionaries(st.sampled_from([*(each.name for each in _FLAT.properties), "x"]), st.sampled_from(_TEXTS)),
        ),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from([{}, {"name": 1}, {"age": 0, "short": 2}]),
)
def test_a_flat_schema_is_merged_like_a_part_of_another(
    people: list[tuple[int, int, dict[str, str]]], primary_sources: dict[str, int]
) -> None:
    """A schema without objects and arrays has a faster way."""
    rows = [
        IdentityRow(id, 1, IdentityName(source, "a", False), 1, time, _object(members), "[]")
        for id, (source, time, members) in enumerate(people, start=1)
    ]
    nested = Schema((*_FLAT.properties, Property("object", schema(p=StringType()), read_optional=True)))
    merged = [
        Merger(ProfileSchema(schema=each, primary_sources=primary_sources)).merge(rows) for each in (_FLAT, nested)
    ]
    assert merged[0] == merged[1]


def _object(members: dict[str, str]) -> str:
    return "{" + ",".join(f'"{name}":{text}' for name, text in members.items()) + "}"
