"""Calls with a raw body over plain HTTP/1.1: the gateway passes them on as they came, because nothing is transcoded.

Such a call has a JSON body without a message in the protos, and one of a handful of responses. Wrapped in HTTP/2 and
gRPC it costs ten times as much as here (docs/decisions/0025-raw-calls-over-http.md). The handlers and the routes are
those of the RPCs.
"""

from headwater.api.ingest_http.router import Router
from headwater.api.ingest_http.server import HttpServer

__all__ = ["HttpServer", "Router"]
