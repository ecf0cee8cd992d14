"""Customer.io's people: written in batches, each with one identifier, by which it is created or updated.

The Track API cannot be read and returns no ids, so the identifier is the id of a person.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from headwater.connectors.contract import (
    BatchLimits,
    ConnectorContext,
    HttpRequest,
    ItemResult,
    Outcome,
    RateLimit,
    UserWrite,
    rejected,
)
from headwater.connectors.customerio.api import (
    MAX_ITEM_BYTES,
    RATES,
    batch_request,
    convert_times,
    find_broken_limit,
    identify_person,
    read_errors,
)
from headwater.connectors.customerio.schemas import WRITABLE_SCHEMA
from headwater.connectors.customerio.settings import CustomerIoSettings
from headwater.connectors.identities import is_placeholder
from headwater.connectors.users import read_batch
from headwater.schemas import Codec, Schema, all_optional

BATCH_PEOPLE: Final = 200
MAX_BATCH_BYTES: Final = 400_000
"""Attributes of one request. The rest of what Customer.io allows is for identifiers."""

_IDENTIFIERS: Final = ("id", "email")
_writable: Final = Codec(all_optional(WRITABLE_SCHEMA))
_encode: Final = msgspec.json.Encoder().encode


class CustomerIoPeople:
    """Implements `UserSink`."""

    write_limits = BatchLimits(max_events=BATCH_PEOPLE, max_bytes=MAX_BATCH_BYTES, max_event_bytes=MAX_ITEM_BYTES)
    write_rates: tuple[RateLimit, ...] = RATES

    def __init__(self, settings: CustomerIoSettings, context: ConnectorContext) -> None:
        self._settings = settings
        self._context = context

    async def writable_schema(self) -> Schema:
        return WRITABLE_SCHEMA

    async def write_users(self, users: Sequence[UserWrite]) -> Sequence[ItemResult]:
        made = [_make(user) for user in users]
        items = [each[1] for each in made if isinstance(each, tuple)]
        sent = iter(await self._send(items) if items else ())
        return [each if isinstance(each, ItemResult) else next(sent) or _written(each[0]) for each in made]

    def request(self, items: Sequence[bytes]) -> HttpRequest:
        """Return the request that writes people, given as items."""
        return batch_request(self._settings, items)

    async def _send(self, items: Sequence[bytes]) -> Sequence[ItemResult | None]:
        """Send items, and return a result of each that is not written, and None of the others."""
        response = await self._context.http.send(self.request(items))
        errors = read_errors(response)
        return read_batch(
            "Customer.io",
            response,
            self._context,
            len(items),
            is_success=200 <= response.status < 300 and errors is not None,
            refused=[(error.batch_index, error.result) for error in errors or ()],
        )


def _written(id_: str) -> ItemResult:
    return ItemResult(outcome=Outcome.DELIVERED, id=id_)


def _make(user: UserWrite) -> tuple[str, bytes] | ItemResult:
    """Return the identifier and the item of a person, or the result of one that Customer.io never accepts."""
    values = _writable.document(user.attributes)
    person = identify_person(values)
    if not person:
        return rejected("MissingIdentity", "the person has no identifier, or only a placeholder")
    attributes: dict[str, Any] = {name: each for name, each in values.items() if name not in ("attributes", "id")}
    attributes |= values.get("attributes") or {}
    for name in _IDENTIFIERS:
        if name in person or is_placeholder(values.get(name) or ""):
            attributes.pop(name, None)
    if rule := find_broken_limit(attributes):
        return rejected("InvalidAttributes", rule)
    converted = msgspec.Raw(convert_times(_encode(attributes)))
    item = _encode({"type": "person", "identifiers": person, "action": "identify", "attributes": converted})
    if len(item) > MAX_ITEM_BYTES:
        return rejected("PersonTooLarge", f"the person has {len(item)} bytes, and {MAX_ITEM_BYTES} are allowed")
    return next(iter(person.values())), item
