"""The trace that the present call belongs to: the `traceparent` header of W3C Trace Context."""

from contextvars import ContextVar
from typing import Final

MAX_TRACEPARENT_LENGTH: Final = 200
"""Maximum length of a header that is used, in characters."""

_traceparent: ContextVar[str] = ContextVar("traceparent", default="")


def begin_trace(traceparent: str) -> None:
    """Set the header of the call that this task serves; empty if it has none."""
    _traceparent.set(traceparent if len(traceparent) <= MAX_TRACEPARENT_LENGTH else "")


def current_traceparent() -> str:
    """Return the header of the call that this task serves; empty if it has none."""
    return _traceparent.get()
