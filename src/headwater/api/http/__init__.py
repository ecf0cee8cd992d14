"""Raw calls over plain HTTP/1.1: what the gateway has nothing to transcode of, it passes on as it came.

A call of the intake is a JSON body for which the protos have no message, and its answer is one of a handful. Wrapped in
HTTP/2 and gRPC it costs ten times as much as here (docs/decisions/0025-raw-calls-over-http.md). The servicers, the
interceptor's rules and the routes are those of gRPC; this package is another transport for them.
"""

from headwater.api.http.routes import RawCalls
from headwater.api.http.server import HttpServer

__all__ = ["HttpServer", "RawCalls"]
