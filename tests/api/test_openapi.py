"""GetOpenApi: the document as this server has it, to everybody."""

import json
from typing import Any

from google.api.httpbody_pb2 import HttpBody
from openapi_spec_validator import OpenAPIV31SpecValidator

from headwater.rest.v1 import system_pb2
from tests.api.conftest import Api
from tests.api.test_register import unbuilt


async def test_it_needs_no_key_and_is_valid_json(api: Api) -> None:
    answer = await api.call("rest.SystemService/GetOpenApi", system_pb2.GetOpenApiRequest(), key=None)
    assert isinstance(answer, HttpBody)
    assert answer.content_type == "application/json"
    assert [error.message for error in OpenAPIV31SpecValidator(json.loads(answer.data)).iter_errors()] == []


async def test_calls_that_are_not_built_say_so_and_only_those(api: Api) -> None:
    answer = await api.call("rest.SystemService/GetOpenApi", system_pb2.GetOpenApiRequest(), key=None)
    document: dict[str, Any] = json.loads(answer.data)
    not_built = unbuilt(api)
    for path in document["paths"].values():
        for operation in path.values():
            built = operation["x-grpc-method"] not in not_built
            assert any(status < "300" for status in operation["responses"]) == built, operation["operationId"]
            assert ("Not built yet" in operation["description"]) != built
            assert built or "501" in operation["responses"]
