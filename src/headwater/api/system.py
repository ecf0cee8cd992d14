"""SystemService: is the system taking traffic?"""

from headwater.api.call import Context
from headwater.v1 import system_pb2, system_pb2_grpc


class SystemServicer(system_pb2_grpc.SystemServiceServicer):
    """Answers while this backend is there to answer; the gateway answers 503 otherwise."""

    async def GetHealth(self, request: system_pb2.GetHealthRequest, context: Context) -> system_pb2.GetHealthResponse:
        return system_pb2.GetHealthResponse(status="ok")
