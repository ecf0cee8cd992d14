"""TransformationService: checking expressions and trying transformations, the same over REST and gRPC."""

import json
from typing import Any

import pytest
from google.api.httpbody_pb2 import HttpBody
from google.protobuf import json_format

from headwater.v1 import schemas_pb2
from headwater.v1 import transformations_pb2 as pb
from tests.api.conftest import Api, CallError

STRING = {"kind": "string"}
INT = {"kind": "int", "bitSize": 32}
PERSON = {"kind": "object", "properties": [{"name": "email", "type": STRING}, {"name": "age", "type": INT}]}
FUNCTION = {
    "language": "Python",
    "source": "def transform(person):\n    return {'age': person['age'] + 1}\n",
    "inPaths": ["age"],
    "outPaths": ["age"],
}


async def raw(api: Api, method: str, body: object) -> Any:
    """Return the JSON of the response to a JSON body."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    response: Any = await api.call(f"rest.TransformationService/{method}", HttpBody(data=data))
    return response if isinstance(response, CallError) else json.loads(response.data)


def make_type(document: dict[str, Any]) -> schemas_pb2.DataType:
    return json_format.ParseDict(document, schemas_pb2.DataType())


async def test_the_languages_that_run_here(api: Api) -> None:
    request = pb.ListTransformationLanguagesRequest()
    response: Any = await api.call("TransformationService/ListTransformationLanguages", request)
    assert list(response.languages) == ["JavaScript", "Python"]


@pytest.mark.parametrize(
    ("expression", "is_valid"), [("lower(email)", True), ("age", True), ("nosuch", False), ("lower(", False)]
)
async def test_an_expression_is_checked(api: Api, expression: str, is_valid: bool) -> None:
    body = {"expression": expression, "properties": PERSON["properties"], "type": STRING}
    problem = await raw(api, "ValidateExpression", body)
    typed: Any = await api.call(
        "TransformationService/ValidateExpression",
        pb.ValidateExpressionRequest(
            expression=expression, properties=make_type(PERSON).properties, type=make_type(STRING)
        ),
    )
    assert typed.problem == problem
    assert (problem == "") == is_valid


async def test_the_properties_that_expressions_read(api: Api) -> None:
    texts = ["lower(email)", "'constant'"]
    body = {"expressions": [{"value": text, "type": STRING} for text in texts], "schema": PERSON}
    assert await raw(api, "ListExpressionProperties", body) == ["email"]
    typed: Any = await api.call(
        "TransformationService/ListExpressionProperties",
        pb.ListExpressionPropertiesRequest(
            expressions=[
                pb.ListExpressionPropertiesRequest.Expression(value=text, type=make_type(STRING)) for text in texts
            ],
            schema=make_type(PERSON),
        ),
    )
    assert list(typed.properties) == ["email"]


@pytest.mark.parametrize(
    ("transformation", "expected"),
    [
        ({"mapping": {"email": "upper(email)"}}, {"email": "A@X"}),
        ({"mapping": None, "function": FUNCTION}, {"age": 42}),
    ],
    ids=["mapping", "function"],
)
async def test_a_transformation_is_tried(api: Api, transformation: dict[str, Any], expected: dict[str, Any]) -> None:
    data = {"email": "a@x", "age": 41}
    body = {
        "data": data,
        "inSchema": PERSON,
        "outSchema": PERSON,
        "transformation": transformation,
        "purpose": "Import",
    }
    assert await raw(api, "TransformData", body) == {"data": expected}
    typed: Any = await api.call(
        "TransformationService/TransformData",
        pb.TransformDataRequest(
            data_json=json.dumps(data),
            in_schema=make_type(PERSON),
            out_schema=make_type(PERSON),
            transformation=json_format.ParseDict(transformation, pb.Transformation()),
        ),
    )
    assert json.loads(typed.data_json) == expected


@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        ({"data": {"email": 5, "age": 1}}, "INVALID_ARGUMENT", "BadRequest"),
        ({"inSchema": None}, "INVALID_ARGUMENT", "BadRequest"),
        ({"outSchema": None}, "INVALID_ARGUMENT", "BadRequest"),
        ({"transformation": None}, "INVALID_ARGUMENT", "BadRequest"),
        ({"transformation": {"mapping": {"email": "nosuch"}}}, "INVALID_ARGUMENT", "BadRequest"),
        ({"purpose": "Nonsense"}, "INVALID_ARGUMENT", "BadRequest"),
        ({"transformation": {"function": {**FUNCTION, "language": "COBOL"}}}, "INVALID_ARGUMENT", "BadRequest"),
        ({"transformation": {"function": {**FUNCTION, "source": "def transform("}}}, None, "TransformationFailed"),
        ({"transformation": {"function": {**FUNCTION, "outPaths": ["no"]}}}, "INVALID_ARGUMENT", "BadRequest"),
    ],
)
async def test_an_invalid_trial_is_rejected(api: Api, change: dict[str, Any], status: str | None, reason: str) -> None:
    body = {
        "data": {"email": "a@x", "age": 41},
        "inSchema": PERSON,
        "outSchema": PERSON,
        "transformation": {"mapping": {"email": "email"}},
        **change,
    }
    response = await raw(api, "TransformData", body)
    assert isinstance(response, CallError), response
    assert response.reason == reason
    assert status is None or response.status == status


async def test_a_trial_has_the_limits_of_pipelines(api: Api) -> None:
    """One request with 900 KB of data and 1,200 characters of mapping took 1.7 GB."""
    large = {"email": "x" * 900_000, "age": 1}
    wide = {"kind": "object", "properties": [{"name": f"p{number}", "type": STRING} for number in range(2_001)]}
    body = {
        "data": large,
        "inSchema": PERSON,
        "outSchema": PERSON,
        "transformation": {"mapping": {"email": "email " * 600}},
    }
    response = await raw(api, "TransformData", body)
    assert isinstance(response, CallError) and response.reason == "TransformationFailed"
    assert "larger than 1048576 characters" in str(response)
    source = "def transform(person):\n    return {'email': person['email'] * 2}"
    function = {**FUNCTION, "source": source, "inPaths": ["email"], "outPaths": ["email"]}
    response = await raw(api, "TransformData", {**body, "transformation": {"function": function}})
    assert isinstance(response, CallError) and response.reason == "TransformationFailed"
    assert "larger than 1048576 characters" in str(response)
    for member in ("inSchema", "outSchema"):
        response = await raw(api, "TransformData", {**body, member: wide})
        assert isinstance(response, CallError) and response.reason == "BadRequest"
        assert f"{member} must have at most 2000 properties" in str(response)
    expressions = [{"value": "'" + "x" * 40_000 + "'", "type": STRING}] * 6
    response = await raw(api, "ListExpressionProperties", {"expressions": expressions, "schema": PERSON})
    assert isinstance(response, CallError) and response.reason == "BadRequest"
    assert "at most 200000 characters together" in str(response)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"expression":5}', b'"\xff"'])
async def test_bodies_that_are_not_of_the_form_are_400(api: Api, body: bytes) -> None:
    for method in ("ValidateExpression", "ListExpressionProperties", "TransformData"):
        response = await raw(api, method, body)
        assert isinstance(response, CallError), method
        assert response.reason == "BadRequest", method
