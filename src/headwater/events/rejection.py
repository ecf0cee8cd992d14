"""Why an event, or a whole call, was not accepted."""

from msgspec import Struct


class Rejection(Struct, frozen=True):
    """An event that breaks a rule of its dialect. It is counted and kept with its reason, never dropped in silence."""

    code: str
    """For programs: an error code of `headwater.base.errors` ("BadRequest", "PayloadTooLarge", "Unauthorized"), or
    "ValidationError" of the client API."""
    path: str
    """The offending value, from the event's own root ("userId", "context.ip"); empty when it is the event itself."""
    message: str
    """For people: names the field and the rule."""
