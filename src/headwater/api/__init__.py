"""The RPCs: one servicer for each service, and the errors that they return.

There are no rules in this package. Functions of the domain raise `headwater.base.errors`, which `ErrorInterceptor`
turns into responses.
"""

from headwater.api.errors import ErrorInterceptor
from headwater.api.register import ERROR_BODIES, LENIENT_SERVICES, Services, ingest_router, register

__all__ = ["ERROR_BODIES", "LENIENT_SERVICES", "ErrorInterceptor", "Services", "ingest_router", "register"]
