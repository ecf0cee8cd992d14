"""Stripe's customers: read in pages of 100, and written with one request each.

Stripe accepts several customers with the same e-mail address. So a repetition is recognised by the idempotency key of
the user alone, for at least 24 hours. Stripe keeps the first response to a key, also that of a failure: a repetition
cannot succeed then, and the customer is rejected with that reason.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final
from urllib.parse import quote, urlencode

import msgspec
from msgspec import Raw

from headwater.base.errors import BadRequest, Unavailable
from headwater.connectors.contract import (
    MAX_PAGE_USERS,
    BatchLimits,
    ConnectorContext,
    HttpRequest,
    HttpResponse,
    ItemResult,
    Outcome,
    RateLimit,
    SourceUser,
    UsersPage,
    UserWrite,
    rejected,
    spread,
)
from headwater.connectors.identities import is_placeholder
from headwater.connectors.responses import read_safe_text
from headwater.connectors.stripe.api import CUSTOMERS_URL, encode_form, headers, read_error
from headwater.connectors.stripe.schemas import (
    ADDRESS_NAMES,
    MAX_METADATA,
    MAX_METADATA_KEY_CHARACTERS,
    MAX_METADATA_VALUE_CHARACTERS,
    READABLE_SCHEMA,
    WRITABLE_SCHEMA,
)
from headwater.connectors.stripe.settings import StripeSettings
from headwater.connectors.users import format_cursor, parse_cursor, unavailable, write_each
from headwater.schemas import Codec, DateTime, InvalidValue, Record, Schema, all_optional

MAX_PAGE_BYTES: Final = 16 << 20
MAX_CUSTOMER_BYTES: Final = 1 << 20
MAX_CALL_USERS: Final = 100
LIMIT: Final = spread(25, 1, burst=1, unit="Event", group="customers")
"""The limit of each endpoint, and of all endpoints in a sandbox."""
MAX_TIME: Final = 253_402_300_799
"""The end of the year 9999, in seconds since 1970."""

_CODE: Final = "stripe"
_IDENTIFIERS: Final = ("email", "phone", "name", "business_name", "individual_name")
_REFUSALS: Final = frozenset({400, 402, 404, 413, 422})
"""The statuses of a customer that Stripe never accepts in this form."""

_readable: Final = Codec(READABLE_SCHEMA)
_writable: Final = Codec(all_optional(WRITABLE_SCHEMA))


class _Id(msgspec.Struct):
    id: str


class _Customer(msgspec.Struct):
    id: str
    created: Annotated[int, msgspec.Meta(ge=0, le=MAX_TIME)]
    email: str | None = None
    name: str | None = None
    business_name: str | None = None
    individual_name: str | None = None
    phone: str | None = None
    description: str | None = None
    address: dict[str, str | None] | None = None
    preferred_locales: list[str] | None = None
    tax_exempt: str | None = None
    metadata: dict[str, str] = {}
    currency: str | None = None
    balance: int | None = None
    delinquent: bool | None = None
    livemode: bool | None = None


class _Page(msgspec.Struct):
    data: list[Raw]
    has_more: bool = False


_decode_page: Final = msgspec.json.Decoder(_Page).decode
_decode_id: Final = msgspec.json.Decoder(_Id).decode
_decode_customer: Final = msgspec.json.Decoder(_Customer).decode


class StripeCustomers:
    """Implements `UserSource` and `UserSink`."""

    write_limits = BatchLimits(max_events=MAX_CALL_USERS)
    write_rates: tuple[RateLimit, ...] = (LIMIT,)
    interval_seconds = LIMIT.seconds / LIMIT.count
    """Time between the requests of one call."""
    read_rates: tuple[RateLimit, ...] = (spread(25, 1, burst=1, group="customers"),)

    def __init__(self, settings: StripeSettings, context: ConnectorContext) -> None:
        self._context = context
        self._headers = headers(settings)

    async def readable_schema(self) -> Schema:
        return READABLE_SCHEMA

    async def writable_schema(self) -> Schema:
        return WRITABLE_SCHEMA

    async def users(self, cursor: str, updated_since: datetime | None = None) -> UsersPage:
        # Stripe does not state when a customer was updated, so all of them are read. The latest are the first: those
        # that are created meanwhile are in front of the first page, and none is left out.
        query = {"limit": str(MAX_PAGE_USERS)}
        if position := parse_cursor(_CODE, cursor):
            query["starting_after"] = position
        response = await self._context.http.send(
            HttpRequest(
                method="GET",
                url=f"{CUSTOMERS_URL}?{urlencode(query)}",
                headers=self._headers,
                max_response_bytes=MAX_PAGE_BYTES,
            )
        )
        if response.status in (400, 404) and (error := read_error(response)) and error.param == "starting_after":
            raise BadRequest("cursor is not valid any more", field="cursor")
        if response.status != 200:
            raise unavailable("Stripe", response, self._context)
        try:
            page = _decode_page(response.body)
            users = tuple(_read(each) for each in page.data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise Unavailable("Stripe responds with a page of customers in another form") from None
        return UsersPage(users=users, cursor=format_cursor(_CODE, users[-1].id if page.has_more and users else ""))

    async def write_users(self, users: Sequence[UserWrite]) -> Sequence[ItemResult]:
        return await write_each(users, self._write, interval_seconds=self.interval_seconds)

    async def _write(self, user: UserWrite) -> ItemResult:
        attributes = _writable.document(user.attributes)
        for name in _IDENTIFIERS:
            if attributes.get(name) is not None and is_placeholder(attributes[name]):
                del attributes[name]
        if not user.id and not any(attributes.get(name) for name in (*_IDENTIFIERS, "metadata")):
            return rejected("MissingIdentity", "the customer has no email, phone, name or metadata, or placeholders")
        if rule := find_broken_rule(attributes.get("metadata", {})):
            return rejected("InvalidMetadata", rule)
        response = await self._context.http.send(self.request(user.id, attributes, user.key))
        if response.status == 200:
            return _written(response)
        if response.status in _REFUSALS:
            return _refused(response, self._context)
        if response.status >= 500 and response.headers.get("idempotent-replayed") == "true":
            return rejected(
                "StoredFailure",
                f"Stripe failed with status {response.status}, and repeats this for the same change for 24 hours",
            )
        raise unavailable("Stripe", response, self._context)

    def request(self, id_: str, attributes: dict[str, Any], key: str) -> HttpRequest:
        """Return the request that creates a customer, or updates one."""
        return HttpRequest(
            method="POST",
            url=f"{CUSTOMERS_URL}/{quote(id_, safe='')}" if id_ else CUSTOMERS_URL,
            headers={
                **self._headers,
                "content-type": "application/x-www-form-urlencoded",
                "idempotency-key": key,
            },
            body=encode_form(attributes),
            max_response_bytes=MAX_CUSTOMER_BYTES,
        )


def find_broken_rule(metadata: dict[str, str]) -> str:
    """Return the rule of metadata that the values break; empty if they break none."""
    if len(metadata) > MAX_METADATA:
        return f"the metadata has {len(metadata)} keys, and {MAX_METADATA} are allowed"
    for key, value in metadata.items():
        if not key or len(key) > MAX_METADATA_KEY_CHARACTERS or "[" in key or "]" in key:
            return (
                f'the key "{key[:MAX_METADATA_KEY_CHARACTERS]}" of the metadata must have 1 to '
                f"{MAX_METADATA_KEY_CHARACTERS} characters, and no square brackets"
            )
        if len(value) > MAX_METADATA_VALUE_CHARACTERS:
            return (
                f'the value of "{key}" in the metadata has {len(value)} characters, and '
                f"{MAX_METADATA_VALUE_CHARACTERS} are allowed"
            )
    return ""


def _read(document: Raw) -> SourceUser:
    """Return a customer as a user, with an error if it is not in the documented form."""
    id_ = _decode_id(document).id
    try:
        attributes = _attributes(_decode_customer(document))
        _readable.check(attributes)
    except (msgspec.DecodeError, UnicodeDecodeError, InvalidValue) as error:
        return SourceUser(id=id_, attributes={}, error=f"the customer cannot be read: {error}"[:500])
    return SourceUser(id=id_, attributes=attributes)


def _attributes(customer: _Customer) -> Record:
    attributes: Record = msgspec.structs.asdict(customer)
    if customer.address is not None:
        attributes["address"] = {name: customer.address.get(name) for name in ADDRESS_NAMES}
    attributes["created"] = DateTime.of(datetime.fromtimestamp(customer.created, UTC))
    return attributes


def _written(response: HttpResponse) -> ItemResult:
    try:
        return ItemResult(outcome=Outcome.DELIVERED, id=_decode_id(response.body).id)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Unavailable("Stripe does not return the id of the customer") from None


def _refused(response: HttpResponse, context: ConnectorContext) -> ItemResult:
    error = read_error(response)
    if error is None:
        return rejected(f"Status{response.status}", read_safe_text(response, context))
    return rejected(error.reason, context.redact(error.text))
