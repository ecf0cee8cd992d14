"""SystemService: is the system taking traffic, and what does its API look like?"""

from typing import Final

from google.api.httpbody_pb2 import HttpBody

from headwater.api.call import Context
from headwater.v1 import system_pb2, system_pb2_grpc

SERVICE: Final = system_pb2.DESCRIPTOR.services_by_name["SystemService"].full_name


class SystemServicer(system_pb2_grpc.SystemServiceServicer):
    """Answers while this backend is there to answer; the gateway answers 503 otherwise."""

    def __init__(self, openapi: bytes) -> None:
        self._openapi = HttpBody(content_type="application/json", data=openapi)

    async def GetHealth(self, request: system_pb2.GetHealthRequest, context: Context) -> system_pb2.GetHealthResponse:
        return system_pb2.GetHealthResponse(status="ok")

    async def GetOpenApi(self, request: system_pb2.GetOpenApiRequest, context: Context) -> HttpBody:
        return self._openapi
