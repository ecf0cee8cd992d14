"""Braze's users: written in batches, each with one identifier, by which it is created or updated.

Users of Braze are not read, so the identifier is the id of a user.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from headwater.connectors.braze.api import (
    MAX_OBJECTS,
    RATES,
    find_broken_attribute,
    identify_user,
    read_answer,
    track_request,
)
from headwater.connectors.braze.schemas import WRITABLE_SCHEMA
from headwater.connectors.braze.settings import BrazeSettings
from headwater.connectors.contract import (
    NOT_ATTEMPTED,
    BatchLimits,
    ConnectorContext,
    HttpRequest,
    ItemResult,
    Outcome,
    RateLimit,
    UserWrite,
    rejected,
)
from headwater.connectors.identities import is_placeholder
from headwater.connectors.responses import read_text
from headwater.connectors.users import unavailable
from headwater.schemas import Codec, Schema, all_optional

MAX_USER_BYTES: Final = 40_000
"""Maximum size of a user. A full batch of such users is within the limit of a request."""

_writable: Final = Codec(all_optional(WRITABLE_SCHEMA))
_encode: Final = msgspec.json.Encoder().encode


class BrazeUsers:
    """Implements `UserSink`."""

    write_limits = BatchLimits(max_events=MAX_OBJECTS, max_event_bytes=MAX_USER_BYTES)
    write_rates: tuple[RateLimit, ...] = RATES

    def __init__(self, settings: BrazeSettings, context: ConnectorContext) -> None:
        self._settings = settings
        self._context = context

    async def writable_schema(self) -> Schema:
        return WRITABLE_SCHEMA

    async def write_users(self, users: Sequence[UserWrite]) -> Sequence[ItemResult]:
        made = [_make(user) for user in users]
        objects = [each[1] for each in made if isinstance(each, tuple)]
        sent = iter(await self._send(objects) if objects else ())
        return [each if isinstance(each, ItemResult) else next(sent) or _written(each[0]) for each in made]

    def request(self, objects: Sequence[bytes]) -> HttpRequest:
        """Return the request that writes users, given as objects."""
        return track_request(self._settings, {"attributes": objects})

    async def _send(self, objects: Sequence[bytes]) -> Sequence[ItemResult | None]:
        """Send objects, and return a result of each that is not written, and None of the others."""
        response = await self._context.http.send(self.request(objects))
        answer = read_answer(response)
        is_success = 200 <= response.status < 300 and answer is not None and answer.is_success
        if not is_success and response.status not in (400, 413):
            raise unavailable("Braze", response, self._context)
        results: list[ItemResult | None] = [None if is_success else NOT_ATTEMPTED] * len(objects)
        for array, index, text in () if answer is None else answer.named():
            if array == "attributes" and 0 <= index < len(objects):
                results[index] = rejected("InvalidUser", self._context.redact(text))
        if not is_success and len(objects) == 1 and results[0] is NOT_ATTEMPTED:
            results[0] = rejected(f"Status{response.status}", self._context.redact(read_text(response)))
        return results


def _written(id_: str) -> ItemResult:
    return ItemResult(outcome=Outcome.DELIVERED, id=id_)


def _make(user: UserWrite) -> tuple[str, bytes] | ItemResult:
    """Return the identifier and the object of a user, or the result of one that Braze never accepts."""
    values: dict[str, Any] = _writable.document(user.attributes)
    custom = values.pop("custom_attributes", None) or {}
    identifier = identify_user(values)
    if not identifier:
        return rejected("MissingIdentity", "the user has no identifier, or only a placeholder")
    if rule := find_broken_attribute(custom):
        return rejected("InvalidAttributes", rule)
    for name in ("external_id", "email", "phone"):
        if is_placeholder(values.get(name) or ""):
            values.pop(name, None)
    body = _encode({"_update_existing_only": False, **custom, **values, **identifier})
    if len(body) > MAX_USER_BYTES:
        return rejected("UserTooLarge", f"the user has {len(body)} bytes, and {MAX_USER_BYTES} are allowed")
    return next(iter(identifier.values())), body
