"""SystemService: whether the system takes traffic, and the description of its API."""

from functools import cache
from importlib.resources import files
from typing import Final

import msgspec
from google.api.httpbody_pb2 import HttpBody

from headwater.api.request import Context
from headwater.rest.v1 import system_pb2 as rest_pb
from headwater.rest.v1 import system_pb2_grpc as rest_grpc
from headwater.v1 import system_pb2, system_pb2_grpc

SERVICES: Final = (
    system_pb2.DESCRIPTOR.services_by_name["SystemService"].full_name,
    rest_pb.DESCRIPTOR.services_by_name["SystemService"].full_name,
)


class SystemServicer(system_pb2_grpc.SystemServiceServicer):
    """Responds while this backend runs; without a backend the gateway responds 503."""

    async def GetHealth(self, request: system_pb2.GetHealthRequest, context: Context) -> system_pb2.GetHealthResponse:
        return system_pb2.GetHealthResponse(status="ok")


class SystemRestServicer(rest_grpc.SystemServiceServicer):
    """Returns the OpenAPI document and the descriptor set."""

    def __init__(self, descriptors: bytes) -> None:
        self._openapi = HttpBody(content_type="application/json", data=_read_openapi())
        self._descriptors = HttpBody(content_type="application/octet-stream", data=descriptors)

    async def GetOpenApi(self, request: rest_pb.GetOpenApiRequest, context: Context) -> HttpBody:
        return self._openapi

    async def GetDescriptors(self, request: rest_pb.GetDescriptorsRequest, context: Context) -> HttpBody:
        return self._descriptors


@cache
def _read_openapi() -> bytes:
    """Return the document that is generated from the protos, without white space."""
    return msgspec.json.format((files("headwater.v1") / "openapi.json").read_bytes(), indent=-1)
