"""Mixpanel's profiles: written in batches, each with the distinct id by which it is created or updated.

Profiles are not read with the token of a project, so the distinct id is the id of a user.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw

from headwater.connectors.contract import (
    BatchLimits,
    ConnectorContext,
    EncodedEvent,
    EventRejected,
    FailureScope,
    HttpRequest,
    ItemResult,
    Outcome,
    RateLimit,
    UserWrite,
    rejected,
)
from headwater.connectors.identities import is_placeholder
from headwater.connectors.mixpanel.api import ENGAGE_PATH, MAX_RECORD_BYTES, MAX_RECORDS, RATES, records_request
from headwater.connectors.mixpanel.profiles import check_names, remove_properties, set_properties
from headwater.connectors.mixpanel.responses import RULES
from headwater.connectors.mixpanel.schemas import WRITABLE_NAMES, WRITABLE_SCHEMA
from headwater.connectors.mixpanel.settings import MixpanelSettings
from headwater.connectors.responses import read_response
from headwater.connectors.users import unavailable
from headwater.schemas import Codec, Schema, all_optional

MAX_USERS: Final = MAX_RECORDS // 2
"""A user is one update, or two if properties are removed."""
MAX_BATCH_BYTES: Final = 8_000_000
"""Properties of one request. The rest of what Mixpanel allows is for tokens and distinct ids."""

_TIME_CHARACTERS: Final = 19
"""Length of a time as Mixpanel documents it: in UTC, with seconds and without a zone."""
_writable: Final = Codec(all_optional(WRITABLE_SCHEMA))


class MixpanelUsers:
    """Implements `UserSink`."""

    write_limits = BatchLimits(max_events=MAX_USERS, max_bytes=MAX_BATCH_BYTES, max_event_bytes=MAX_RECORD_BYTES)
    write_rates: tuple[RateLimit, ...] = RATES

    def __init__(self, settings: MixpanelSettings, context: ConnectorContext) -> None:
        self._settings = settings
        self._context = context

    async def writable_schema(self) -> Schema:
        return WRITABLE_SCHEMA

    async def write_users(self, users: Sequence[UserWrite]) -> Sequence[ItemResult]:
        made = [self._make(user) for user in users]
        items = [each for each in made if isinstance(each, EncodedEvent)]
        sent = iter(await self._send(items) if items else ())
        return [each if isinstance(each, ItemResult) else self._finish(next(sent), each.user) for each in made]

    def request(self, items: Sequence[EncodedEvent]) -> HttpRequest:
        """Return the request that writes users, given as their updates."""
        return records_request(self._settings, ENGAGE_PATH, [item.body for item in items])

    async def _send(self, items: Sequence[EncodedEvent]) -> Sequence[ItemResult]:
        """Send users, and return a result of each. Raises Unavailable if the response says nothing about users."""
        response = await self._context.http.send(self.request(items))
        result = read_response(response, items, RULES[ENGAGE_PATH], self._context.clock.now())
        if result.failure is None:
            return result.items
        if result.failure.scope is not FailureScope.BATCH:
            raise unavailable("Mixpanel", response, self._context)
        return result.items if len(items) > 1 else [rejected(result.failure.reason, result.failure.message)]

    def _make(self, user: UserWrite) -> EncodedEvent | ItemResult:
        """Return the updates of a user, or the result of one that Mixpanel never accepts."""
        values = _writable.document(user.attributes)
        id_ = values.pop("distinct_id", None) or ""
        if is_placeholder(id_):
            return rejected("MissingIdentity", "the user has no distinct_id, or only a placeholder")
        try:
            properties = _properties(values)
        except EventRejected as error:
            return rejected(error.reason, error.message)
        removed = [name for name, value in properties.items() if value is None]
        kept = {name: value for name, value in properties.items() if value is not None}
        token = self._settings.project_token
        updates = [set_properties(token, id_, kept)] if kept else []
        if removed:
            updates.append(remove_properties(token, id_, removed))
        if not updates:
            return rejected("MissingProperties", "the user has no properties for a profile")
        if (size := max(map(len, updates))) > MAX_RECORD_BYTES:
            return rejected("UserTooLarge", f"the user has {size} bytes, and {MAX_RECORD_BYTES} are allowed")
        return EncodedEvent(id=user.key, body=b",".join(updates), user=id_, count=len(updates))

    def _finish(self, result: ItemResult, id_: str) -> ItemResult:
        """Return the result of a user that was sent: with its id, or without secrets that Mixpanel repeats."""
        if result.outcome is Outcome.DELIVERED:
            return msgspec.structs.replace(result, id=id_)
        return msgspec.structs.replace(result, message=self._context.redact(result.message))


def _properties(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the properties of a profile by the names that Mixpanel has for them; None for those to remove.

    Raises EventRejected for a reserved name.
    """
    others: dict[str, Any] = values.get("properties") or {}
    check_names(others)
    properties = {
        name: None if isinstance(each, Raw) and bytes(each) == b"null" else each for name, each in others.items()
    }
    for name, value in values.items():
        if name == "created" and value is not None:
            value = value[:_TIME_CHARACTERS]
        if name != "properties":
            properties[WRITABLE_NAMES[name]] = value
    return properties
