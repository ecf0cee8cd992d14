"""TransformationService: expressions are checked and transformations tried, the same over both faces."""

import json
from typing import Any

import pytest
from google.api.httpbody_pb2 import HttpBody
from google.protobuf import json_format

from headwater.v1 import schemas_pb2
from headwater.v1 import transformations_pb2 as pb
from tests.api.conftest import Api, Refused

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
    """The JSON of the answer to a JSON body."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer: Any = await api.call(f"rest.TransformationService/{method}", HttpBody(data=data))
    return answer if isinstance(answer, Refused) else json.loads(answer.data)


def type_of(document: dict[str, Any]) -> schemas_pb2.Type:
    return json_format.ParseDict(document, schemas_pb2.Type())


async def test_the_languages_that_run_here(api: Api) -> None:
    request = pb.ListTransformationLanguagesRequest()
    answer: Any = await api.call("TransformationService/ListTransformationLanguages", request)
    assert list(answer.languages) == ["JavaScript", "Python"]


@pytest.mark.parametrize(
    ("expression", "is_valid"), [("lower(email)", True), ("age", True), ("nosuch", False), ("lower(", False)]
)
async def test_an_expression_is_checked(api: Api, expression: str, is_valid: bool) -> None:
    body = {"expression": expression, "properties": PERSON["properties"], "type": STRING}
    problem = await raw(api, "ValidateExpression", body)
    typed: Any = await api.call(
        "TransformationService/ValidateExpression",
        pb.ValidateExpressionRequest(
            expression=expression, properties=type_of(PERSON).properties, type=type_of(STRING)
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
                pb.ListExpressionPropertiesRequest.Expression(value=text, type=type_of(STRING)) for text in texts
            ],
            schema=type_of(PERSON),
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
            in_schema=type_of(PERSON),
            out_schema=type_of(PERSON),
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
async def test_what_cannot_be_tried_is_refused(
    api: Api, change: dict[str, Any], status: str | None, reason: str
) -> None:
    body = {
        "data": {"email": "a@x", "age": 41},
        "inSchema": PERSON,
        "outSchema": PERSON,
        "transformation": {"mapping": {"email": "email"}},
        **change,
    }
    answer = await raw(api, "TransformData", body)
    assert isinstance(answer, Refused), answer
    assert answer.reason == reason
    assert status is None or answer.status == status


async def test_a_trial_has_the_limits_of_pipelines(api: Api) -> None:
    """One request with 900 KB of data and 1,200 characters of mapping needed 1.7 GB."""
    large = {"email": "x" * 900_000, "age": 1}
    wide = {"kind": "object", "properties": [{"name": f"p{number}", "type": STRING} for number in range(2_001)]}
    body = {
        "data": large,
        "inSchema": PERSON,
        "outSchema": PERSON,
        "transformation": {"mapping": {"email": "email " * 600}},
    }
    answer = await raw(api, "TransformData", body)
    assert isinstance(answer, Refused) and answer.reason == "TransformationFailed"
    assert "larger than 1048576 characters" in str(answer)
    source = "def transform(person):\n    return {'email': person['email'] * 2}"
    function = {**FUNCTION, "source": source, "inPaths": ["email"], "outPaths": ["email"]}
    answer = await raw(api, "TransformData", {**body, "transformation": {"function": function}})
    assert isinstance(answer, Refused) and answer.reason == "TransformationFailed"
    assert "larger than 1048576 characters" in str(answer)
    for member in ("inSchema", "outSchema"):
        answer = await raw(api, "TransformData", {**body, member: wide})
        assert isinstance(answer, Refused) and answer.reason == "BadRequest"
        assert f"{member} must have at most 2000 properties" in str(answer)
    expressions = [{"value": "'" + "x" * 40_000 + "'", "type": STRING}] * 6
    answer = await raw(api, "ListExpressionProperties", {"expressions": expressions, "schema": PERSON})
    assert isinstance(answer, Refused) and answer.reason == "BadRequest"
    assert "at most 200000 characters together" in str(answer)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"expression":5}', b'"\xff"'])
async def test_bodies_that_are_not_of_the_form_are_400(api: Api, body: bytes) -> None:
    for method in ("ValidateExpression", "ListExpressionProperties", "TransformData"):
        answer = await raw(api, method, body)
        assert isinstance(answer, Refused), method
        assert answer.reason == "BadRequest", method
