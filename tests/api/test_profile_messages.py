"""Conditions on profiles and names of identities, as requests have them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.api.messages.profilequery import path_tree, profile_query, select_attributes
from headwater.api.messages.profiles import (
    kpid_text,
    name_message,
    parse_name,
    read_kpid,
    read_name,
    separation_message,
)
from headwater.base.errors import BadRequest, HeadwaterError
from headwater.rest.v1 import profiles_pb2 as rest_pb
from headwater.schemas import Schema, parse_schema, serialise
from headwater.state.profiles import IdentityName, Separation
from headwater.v1 import filters_pb2, identities_pb2
from headwater.v1 import profiles_pb2 as pb

ATTRIBUTES = '{"address":{"city":"Rome","geo":{"lat":1.50}},"age":12345678901234567890.0,"tags":["a"]}'


def schema() -> Schema:
    def member(name: str, type_: dict[str, Any]) -> dict[str, Any]:
        return {"name": name, "type": type_, "readOptional": True}

    def nested(*members: dict[str, Any]) -> dict[str, Any]:
        return {"kind": "object", "properties": list(members)}

    string = {"kind": "string"}
    parsed = parse_schema(
        json.dumps(
            nested(
                member("email", string),
                member("age", {"kind": "int", "bitSize": 32}),
                member("address", nested(member("city", string), member("geo", nested(member("lat", string))))),
                member("tags", {"kind": "array", "elementType": string}),
                member("extra", {"kind": "json"}),
            )
        )
    )
    assert parsed is not None
    return parsed


def condition(property_: str, operator: str = "is", *values: str) -> dict[str, Any]:
    return {"logical": "and", "conditions": [{"property": property_, "operator": operator, "values": list(values)}]}


@pytest.mark.parametrize(
    ("paths", "shown"),
    [
        ([], ATTRIBUTES),
        (["age"], '{"age":12345678901234567890.0}'),
        (["address"], '{"address":{"city":"Rome","geo":{"lat":1.50}}}'),
        (["address.geo.lat"], '{"address":{"geo":{"lat":1.50}}}'),
        (["address.geo.lat", "address"], '{"address":{"city":"Rome","geo":{"lat":1.50}}}'),
        (["address.city", "address.geo"], '{"address":{"city":"Rome","geo":{"lat":1.50}}}'),
        (["tags.x", "age.x", "unknown"], "{}"),
    ],
    ids=str,
)
def test_attributes_are_selected_as_they_are(paths: list[str], shown: str) -> None:
    assert select_attributes(ATTRIBUTES, path_tree(paths)) == shown


@pytest.mark.parametrize(
    ("properties", "shown"),
    [
        ([], ["email", "age", "address", "tags", "extra"]),
        (["age,email"], ["email", "age"]),
        (["address.city", "age"], ["age", "address"]),
    ],
    ids=str,
)
def test_the_schema_has_only_the_properties_that_were_asked_for(properties: list[str], shown: list[str]) -> None:
    for request in (pb.ListProfilesRequest(properties=properties), rest_pb.ListProfilesRequest(properties=properties)):
        query = profile_query(request, schema())
        assert query.schema is not None
        assert [each.name for each in query.schema.properties] == shown
        assert b"geo" not in serialise(query.schema) or not properties


@pytest.mark.parametrize(
    ("request_", "code", "field"),
    [
        ({"properties": ["unknown"]}, "PropertyNotExist", "properties"),
        ({"properties": ["email.x"]}, "PropertyNotExist", "properties"),
        ({"properties": ["a-b"]}, "BadRequest", "properties"),
        ({"order": "unknown"}, "OrderNotExist", "order"),
        ({"order": ""}, "BadRequest", "order"),
        ({"order": "tags"}, "OrderTypeNotSortable", "order"),
        ({"order": "address"}, "OrderTypeNotSortable", "order"),
        ({"order": "extra"}, "OrderTypeNotSortable", "order"),
        ({"filter": condition("unknown", "is", "x")}, "PropertyNotExist", "filter.conditions[0].property"),
        ({"filter": condition("age", "is", "x")}, "BadRequest", "filter.conditions[0].values[0]"),
        ({"filter": condition("extra", "is null")}, "BadRequest", "filter.conditions[0].operator"),
        ({"filter": condition("age", "equals", "1")}, "BadRequest", "filter.conditions[0].operator"),
    ],
    ids=str,
)
def test_conditions_that_do_not_fit_the_schema_are_rejected(request_: dict[str, Any], code: str, field: str) -> None:
    filter_ = request_.pop("filter", None)
    typed, rest = pb.ListProfilesRequest(**request_), rest_pb.ListProfilesRequest(**request_)
    if filter_ is not None:
        typed.filter.CopyFrom(filters_pb2.Filter(**filter_))
        rest.filter = json.dumps(filter_)
    for request in (typed, rest):
        with pytest.raises(HeadwaterError) as raised:
            profile_query(request, schema())
        assert (raised.value.code, raised.value.field) == (code, field)


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (rest_pb.ListProfilesRequest(filter="{"), "BadRequest"),
        (rest_pb.ListProfilesRequest(filter=json.dumps(condition("email", "is", "x"))), "PropertyNotExist"),
        (rest_pb.ListProfilesRequest(properties=["email"]), "PropertyNotExist"),
        (rest_pb.ListProfilesRequest(order="email"), "OrderNotExist"),
    ],
    ids=str,
)
def test_profiles_without_a_schema_have_no_properties(request_: rest_pb.ListProfilesRequest, code: str) -> None:
    with pytest.raises(HeadwaterError) as raised:
        profile_query(request_, None)
    assert raised.value.code == code
    assert profile_query(rest_pb.ListProfilesRequest(filter="null"), None).schema is None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("1:userId:9", IdentityName(1, "9", False)),
        ("1:anonymousId:x", IdentityName(1, "x", True)),
        ("12:userId:a:b:c", IdentityName(12, "a:b:c", False)),
        ("1:userId: ", IdentityName(1, " ", False)),
    ],
)
def test_an_identity_is_named_by_a_text(text: str, name: IdentityName) -> None:
    assert parse_name(text, "from") == name


@pytest.mark.parametrize(
    "text",
    [
        *("", "1", "1:9", "1:userId", "1:userId:", "userId:9", "1:user:9", "0:userId:9", "-1:userId:9", "1:userId:a\0"),
        *("2147483648:userId:9", "99999999999999999999:userId:9", "¹:userId:9", "1:userId:" + "x" * 5_000),
    ],
)
def test_other_texts_name_no_identity(text: str) -> None:
    with pytest.raises(BadRequest):
        parse_name(text, "from")


@given(st.integers(1, 2**31 - 1), st.text(min_size=1, max_size=50).filter(lambda id_: "\0" not in id_), st.booleans())
def test_names_survive_messages(connection: int, id_: str, is_anonymous: bool) -> None:
    try:
        id_.encode()
    except UnicodeEncodeError:
        return
    name = IdentityName(connection, id_, is_anonymous)
    assert read_name(name_message(name), "identities[0]") == name
    assert parse_name(f"{connection}:{'anonymousId' if is_anonymous else 'userId'}:{id_}", "from") == name


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (identities_pb2.IdentityName(connection=1), "identities[0]"),
        (identities_pb2.IdentityName(connection=1, user_id="a", anonymous_id="b"), "identities[0]"),
        (identities_pb2.IdentityName(connection=1, user_id=""), "identities[0]"),
        (identities_pb2.IdentityName(user_id="a"), "identities[0].connection"),
    ],
    ids=str,
)
def test_a_name_has_one_id_and_a_connection(message: identities_pb2.IdentityName, field: str) -> None:
    with pytest.raises(BadRequest) as raised:
        read_name(message, "identities[0]")
    assert raised.value.field == field


def test_the_id_of_a_profile_is_a_uuid_in_any_letter_case() -> None:
    text = "0b8f1f0a-6c0d-4b06-9e0e-8f4d1c2b3a4f"
    assert kpid_text(read_kpid(text.upper())) == text
    for wrong in ("", "x", text[:-1], f"{{{text}}}", text.replace("-", "")):
        with pytest.raises(BadRequest):
            read_kpid(wrong)


def test_a_long_side_of_a_separation_is_cut() -> None:
    names = tuple(IdentityName(1, str(number), False) for number in range(150))
    message = separation_message(Separation(7, 1, 5_000_000, (names[:1], names[1:]), bytes(16)))
    assert [(len(side.identities), side.total) for side in message.sides] == [(1, 1), (100, 149)]
    assert (message.id, message.create_time.seconds, message.kpid[:8]) == (7, 5, "00000000")
