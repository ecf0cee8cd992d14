"""Brevo's contacts: read in pages of 100, and written with one request each.

A contact without an id is sent to `/v3/contacts` as an update of the contact that has its identifiers, if there is one:
a repetition creates no second one. Brevo returns no id for such an update, so the id is read with a second request,
which the rate allows for. Imports of Brevo are not used: they return no ids and report errors later.

Brevo subscribes a contact again whose address changes, also a blocked one. So a contact with an id is read before its
address is written: it stays blocked, and an address that it has is left out.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import quote, urlencode

import msgspec

from headwater.base.errors import BadRequest, Unavailable
from headwater.connectors.brevo.api import ORIGIN, WAITS, headers, is_empty, read_error, reading_headers
from headwater.connectors.brevo.schemas import Attribute, attributes_by_property, readable_schema, writable_schema
from headwater.connectors.brevo.settings import BrevoSettings
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
)
from headwater.connectors.identities import is_placeholder
from headwater.connectors.responses import read_safe_text
from headwater.connectors.users import format_cursor, parse_cursor, unavailable, write_each
from headwater.schemas import Codec, DateTime, InvalidValue, Property, Record, Schema

CONTACTS_URL: Final = f"{ORIGIN}/v3/contacts"
ATTRIBUTES_URL: Final = f"{CONTACTS_URL}/attributes"
MAX_PAGE_BYTES: Final = 16 << 20
MAX_ATTRIBUTES_BYTES: Final = 4 << 20
MAX_CONTACT_BYTES: Final = 1 << 20
BATCH_USERS: Final = 5
"""With two requests for each, a call has as many requests as Brevo allows in a second."""

_CODE: Final = "brevo"
_REFUSALS: Final = frozenset({400, 404, 409, 413, 422})
"""The statuses of a contact that Brevo never accepts in this form."""
_MEMBERS: Final = {
    "email": "email",
    "ext_id": "ext_id",
    "email_blacklisted": "emailBlacklisted",
    "sms_blacklisted": "smsBlacklisted",
}
"""The names of properties that are no attributes."""

_encode: Final = msgspec.json.Encoder().encode


class _Attributes(msgspec.Struct):
    attributes: list[Attribute]


class _Contact(msgspec.Struct, rename="camel"):
    id: int
    email: str | None = None
    email_blacklisted: bool = False
    sms_blacklisted: bool = False
    list_ids: list[int] = []
    created_at: str | None = None
    modified_at: str | None = None
    attributes: dict[str, Any] = {}


class _Identified(msgspec.Struct):
    id: int


class _Page(msgspec.Struct):
    contacts: list[msgspec.Raw]
    count: int


_decode_attributes: Final = msgspec.json.Decoder(_Attributes).decode
_decode_page: Final = msgspec.json.Decoder(_Page).decode
_decode_contact: Final = msgspec.json.Decoder(_Contact).decode
_decode_identified: Final = msgspec.json.Decoder(_Identified).decode


class BrevoContacts:
    """Implements `UserSource` and `UserSink`."""

    case_insensitive = ("email",)
    write_limits = BatchLimits(max_events=BATCH_USERS, max_event_bytes=MAX_CONTACT_BYTES)
    # Brevo allows 10 requests a second and 36,000 an hour. A call has up to ten: two for each contact.
    write_rates: tuple[RateLimit, ...] = (RateLimit(count=96, seconds=100, group="contacts"),)
    read_rates: tuple[RateLimit, ...] = (RateLimit(count=97, seconds=10, group="contacts"),)

    def __init__(self, settings: BrevoSettings, context: ConnectorContext) -> None:
        self._context = context
        self._headers = headers(settings)
        self._reading_headers = reading_headers(settings)
        self._attributes: dict[str, tuple[Property, Attribute]] | None = None

    async def readable_schema(self) -> Schema:
        return readable_schema(await self._read_attributes())

    async def writable_schema(self) -> Schema:
        return writable_schema(await self._read_attributes())

    async def _read_attributes(self) -> dict[str, tuple[Property, Attribute]]:
        """Return the attributes of the account, which are read again for each schema."""
        response = await self._get(ATTRIBUTES_URL, MAX_ATTRIBUTES_BYTES)
        if response.status != 200:
            raise unavailable("Brevo", response, self._context, WAITS)
        try:
            attributes = _decode_attributes(response.body).attributes
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise Unavailable("Brevo responds with attributes in another form") from None
        self._attributes = attributes_by_property(attributes)
        return self._attributes

    async def _get(self, url: str, max_bytes: int) -> HttpResponse:
        return await self._context.http.send(
            HttpRequest(method="GET", url=url, headers=self._reading_headers, max_response_bytes=max_bytes)
        )

    async def users(self, cursor: str, updated_since: datetime | None = None) -> UsersPage:
        offset = _offset(cursor)
        # In the order of creation, contacts that are created or changed meanwhile do not move those before them.
        query = {"limit": str(MAX_PAGE_USERS), "offset": str(offset), "sort": "asc"}
        if updated_since is not None:  # Brevo has milliseconds, and only "after"
            before = updated_since.astimezone(UTC) - timedelta(milliseconds=1)
            query["modifiedSince"] = f"{before:%Y-%m-%dT%H:%M:%S}.{before.microsecond // 1_000:03d}Z"
        attributes = self._attributes if self._attributes is not None else await self._read_attributes()
        response = await self._get(f"{CONTACTS_URL}?{urlencode(query)}", MAX_PAGE_BYTES)
        if response.status != 200:
            raise unavailable("Brevo", response, self._context, WAITS)
        try:
            page = _decode_page(response.body)
            codec = Codec(readable_schema(attributes))
            users = tuple(_read(_decode_identified(each).id, each, attributes, codec) for each in page.contacts)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise Unavailable("Brevo responds with a page of contacts in another form") from None
        end = offset + len(users)
        return UsersPage(users=users, cursor=format_cursor(_CODE, str(end) if users and end < page.count else ""))

    async def write_users(self, users: Sequence[UserWrite]) -> Sequence[ItemResult]:
        return await write_each(users, self._write)

    async def _write(self, user: UserWrite) -> ItemResult:
        attributes = dict(user.attributes)
        for name in ("email", "ext_id"):
            if name in attributes and is_placeholder(str(attributes[name])):
                del attributes[name]
        identity = _identity(attributes)
        if not user.id and identity is None:
            return rejected("MissingIdentity", "the contact has no email, ext_id or SMS, or only a placeholder")
        if user.id and attributes.get("email"):
            response = await self._get(contact_url("contact_id", user.id), MAX_CONTACT_BYTES)
            if response.status in _REFUSALS:
                return _refused(response, self._context)
            if response.status != 200:
                raise unavailable("Brevo", response, self._context, WAITS)
            attributes = _keep_blocked(attributes, response)
        request = self.request(user.id, attributes)
        if len(request.body) > MAX_CONTACT_BYTES:
            return rejected(
                "ContactTooLarge", f"the contact has {len(request.body)} bytes, and {MAX_CONTACT_BYTES} are allowed"
            )
        response = await self._context.http.send(request)
        if response.status in _REFUSALS:
            return _refused(response, self._context)
        if not 200 <= response.status < 300:
            raise unavailable("Brevo", response, self._context, WAITS)
        if user.id and not is_empty(response):
            raise Unavailable("Brevo responds to the update of a contact in another form")
        if user.id:
            return ItemResult(outcome=Outcome.DELIVERED, id=user.id)
        if response.status != 201:
            assert identity is not None
            response = await self._get(contact_url(*identity), MAX_CONTACT_BYTES)
        if response.status not in (200, 201):
            raise unavailable("Brevo", response, self._context, WAITS)
        return _written(response)

    def request(self, id_: str, attributes: Record) -> HttpRequest:
        """Return the request that writes one contact."""
        body: dict[str, Any] = {
            member: attributes[name] for name, member in _MEMBERS.items() if attributes.get(name) is not None
        }
        # Brevo clears an attribute that is an empty text.
        named: dict[str, Any] = {
            name: "" if value is None else value for name, value in attributes.items() if name not in _MEMBERS
        }
        if id_ and "email" in body:
            named["EMAIL"] = body.pop("email")
        body["attributes"] = named
        if not id_:
            body["updateEnabled"] = True
        return HttpRequest(
            method="PUT" if id_ else "POST",
            url=contact_url("contact_id", id_) if id_ else CONTACTS_URL,
            headers=self._headers,
            body=_encode(body),
        )


def contact_url(type_: str, identifier: str) -> str:
    """Return the URL of the contact with an identifier of a type."""
    return f"{CONTACTS_URL}/{quote(identifier, safe='')}?identifierType={type_}"


def _identity(attributes: Record) -> tuple[str, str] | None:
    """Return the identifier by which Brevo finds a contact, and its type."""
    for name, type_ in (("email", "email_id"), ("ext_id", "ext_id"), ("SMS", "phone_id")):
        if value := attributes.get(name):
            return type_, str(value)
    return None


def _keep_blocked(attributes: Record, response: HttpResponse) -> Record:
    """Return the attributes to write to the contact of a response, so that a new address does not subscribe it."""
    try:
        contact = _decode_contact(response.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Unavailable("Brevo responds with a contact in another form") from None
    if str(attributes["email"]).lower() == (contact.email or "").lower():
        return {name: value for name, value in attributes.items() if name != "email"}
    return {"email_blacklisted": True, **attributes} if contact.email_blacklisted else attributes


def _offset(cursor: str) -> int:
    position = parse_cursor(_CODE, cursor) or "0"
    if not (position.isascii() and position.isdigit() and len(position) <= 10):
        raise BadRequest("cursor is malformed", field="cursor")
    return int(position)


def _read(
    id_: int, contact: msgspec.Raw, attributes: dict[str, tuple[Property, Attribute]], codec: Codec
) -> SourceUser:
    """Return a contact as a user, with an error if it is not in the documented form."""
    try:
        record = _record(_decode_contact(contact), attributes)
        codec.check(record)
    except (msgspec.DecodeError, UnicodeDecodeError, InvalidValue, TypeError, ValueError) as error:
        return SourceUser(id=str(id_), attributes={}, error=f"the contact cannot be read: {error}"[:500])
    modified = record["modified_at"]
    updated_at = modified.to_datetime() if isinstance(modified, DateTime) else None
    return SourceUser(id=str(id_), attributes=record, updated_at=updated_at)


def _record(contact: _Contact, attributes: dict[str, tuple[Property, Attribute]]) -> Record:
    external = contact.attributes.get("EXT_ID")
    return {
        "id": str(contact.id),
        "email": contact.email or None,
        "ext_id": str(external) if external else None,
        "email_blacklisted": contact.email_blacklisted,
        "sms_blacklisted": contact.sms_blacklisted,
        "list_ids": list(contact.list_ids),
        "created_at": _time(contact.created_at),
        "modified_at": _time(contact.modified_at),
        **{name: each.read(contact.attributes.get(each.name)) for name, (_, each) in attributes.items()},
    }


def _time(value: str | None) -> DateTime | None:
    """Return a time, which is in UTC if it has no zone. Raises ValueError."""
    return None if value is None else DateTime.of(datetime.fromisoformat(value))


def _written(response: HttpResponse) -> ItemResult:
    try:
        return ItemResult(outcome=Outcome.DELIVERED, id=str(_decode_identified(response.body).id))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Unavailable("Brevo does not return the id of the contact") from None


def _refused(response: HttpResponse, context: ConnectorContext) -> ItemResult:
    error = read_error(response)
    if error is None:
        reason, text = f"Status{response.status}", read_safe_text(response, context)
    else:
        reason, text = error.reason, context.redact(error.message)
    return rejected(reason, text or f"Brevo responds with status {response.status}")
