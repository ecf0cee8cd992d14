"""Decides what a call with an API key may do: read-only keys only read, and each key has a limit of calls.

The interceptor opens an `Admission` for every call; whoever has found the key of the call asks it.
"""

import re
from contextvars import ContextVar
from typing import Final

from headwater.catalog import ApiKey
from headwater.catalog.access import check_may_write
from headwater.intake import RateLimiter

_READING: Final = re.compile(r"(Get|Find|List|Count|Trace|Watch|Test)(?!ExpressionProperties)[A-Z]")
"""The names of methods that are GET over HTTP: all begin with one of these verbs, and only one other does."""


class Admission:
    """One call, from its beginning to its response."""

    def __init__(self, method: str, limiter: RateLimiter | None) -> None:
        """`method` is "/package.Service/Method"."""
        self._reads = is_reading(method)
        self._limiter = limiter
        self.headers: dict[str, str] = {}
        """The headers of the response about the limit, once a key was admitted."""

    def admit(self, key: ApiKey) -> None:
        """Count the call. Raises Forbidden with ReadOnlyKey, and TooManyRequests."""
        if self._limiter is not None and not self.headers:
            quota = self._limiter.take(key.workspace or 0, f"api {key.id}", 1)
            self.headers = {} if quota is None else quota.headers
        if not self._reads:
            check_may_write(key)


_admission: ContextVar[Admission | None] = ContextVar("admission", default=None)


def begin(method: str, limiter: RateLimiter | None) -> Admission:
    """Open the admission of the call that this task serves."""
    admission = Admission(method, limiter)
    _admission.set(admission)
    return admission


def admit(key: ApiKey) -> None:
    """Count the call that this task serves. Raises as `Admission.admit` does. A call that nobody opened is limited by
    nothing, and closed to read-only keys."""
    admission = _admission.get()
    (admission or Admission("", None)).admit(key)


def is_reading(method: str) -> bool:
    """Whether the method only reads."""
    return _READING.match(method.rpartition("/")[2]) is not None
