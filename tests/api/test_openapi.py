"""GetOpenApi: this server's document, without a key."""

import json
from typing import Any

from google.api.httpbody_pb2 import HttpBody
from openapi_spec_validator import OpenAPIV31SpecValidator

from headwater.rest.v1 import system_pb2
from tests.api.conftest import Api
from tests.api.test_register import unbuilt


async def test_the_document_needs_no_key_and_is_valid(api: Api) -> None:
    response = await api.call("rest.SystemService/GetOpenApi", system_pb2.GetOpenApiRequest(), key=None)
    assert isinstance(response, HttpBody)
    assert response.content_type == "application/json"
    assert [error.message for error in OpenAPIV31SpecValidator(json.loads(response.data)).iter_errors()] == []


async def test_exactly_the_calls_that_are_not_built_state_so(api: Api) -> None:
    response = await api.call("rest.SystemService/GetOpenApi", system_pb2.GetOpenApiRequest(), key=None)
    document: dict[str, Any] = json.loads(response.data)
    not_built = unbuilt(api)
    for path in document["paths"].values():
        for operation in path.values():
            built = operation["x-grpc-method"] not in not_built
            assert any(status < "300" for status in operation["responses"]) == built, operation["operationId"]
            assert ("Not built yet" in operation["description"]) != built
            assert ("x-not-implemented" in operation) != built
            assert built or "501" in operation["responses"]
