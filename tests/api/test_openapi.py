"""GetOpenApi: this server's document, without a key."""

import json

from google.api.httpbody_pb2 import HttpBody
from openapi_spec_validator import OpenAPIV31SpecValidator

from headwater.rest.v1 import system_pb2
from tests.api.conftest import Api


async def test_the_document_needs_no_key_and_is_valid(api: Api) -> None:
    response = await api.call("rest.SystemService/GetOpenApi", system_pb2.GetOpenApiRequest(), key=None)
    assert isinstance(response, HttpBody)
    assert response.content_type == "application/json"
    assert [error.message for error in OpenAPIV31SpecValidator(json.loads(response.data)).iter_errors()] == []
