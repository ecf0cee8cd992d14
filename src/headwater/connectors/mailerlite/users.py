"""MailerLite's subscribers: read in pages of 100, created with one request each, and updated 25 a request.

A subscriber without an id is sent to `/api/subscribers`, which updates the one with its e-mail address, if there is
one: a repetition creates no second one. Subscribers with ids are sent to `/api/batch`, which has a response for each.
A batch of new subscribers is not used: MailerLite makes an import of it, with a limit of 5 a minute.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote, urlencode

import msgspec
from msgspec import Raw

from headwater.base.errors import BadRequest, Unavailable
from headwater.connectors.contract import (
    MAX_PAGE_USERS,
    NOT_ATTEMPTED,
    UNEXPECTED_RESPONSE,
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
    retry,
    spread,
)
from headwater.connectors.identities import is_placeholder
from headwater.connectors.mailerlite.api import API_URL, Error, headers
from headwater.connectors.mailerlite.schemas import READABLE, WRITABLE, Field, with_fields
from headwater.connectors.mailerlite.settings import MailerLiteSettings
from headwater.connectors.responses import read_text
from headwater.connectors.users import format_cursor, parse_cursor, unavailable, write_each
from headwater.schemas import Codec, DateTime, InvalidValue, Record, Schema, all_optional, is_property_name

SUBSCRIBERS_URL: Final = f"{API_URL}/subscribers"
BATCH_URL: Final = f"{API_URL}/batch"
BATCH_USERS: Final = 25
"""MailerLite takes 50 in a batch. More of them would leave a smaller part of the rate for subscribers to create."""
MAX_PAGE_BYTES: Final = 16 << 20
MAX_FIELD_PAGES: Final = 20

_CODE: Final = "mailerlite"
_REFUSALS: Final = frozenset({400, 404, 409, 413, 422})
"""The statuses of a subscriber that MailerLite never accepts in this form."""
_TIMES: Final = ("subscribed_at", "unsubscribed_at", "opted_in_at", "created_at", "updated_at")

_encode: Final = msgspec.json.Encoder().encode


class _FieldsMeta(msgspec.Struct, frozen=True):
    current_page: int = 1
    last_page: int = 1


class _Fields(msgspec.Struct):
    data: list[Field]
    meta: _FieldsMeta = _FieldsMeta()


class _PageMeta(msgspec.Struct, frozen=True):
    next_cursor: str | None = None


class _Page(msgspec.Struct):
    data: list[Raw]
    meta: _PageMeta = _PageMeta()


class _Subscriber(msgspec.Struct):
    id: str


class _Written(msgspec.Struct):
    data: _Subscriber


class _Response(msgspec.Struct):
    """The response to one request of a batch."""

    code: int
    body: Raw = Raw(b"null")


class _Batch(msgspec.Struct):
    responses: list[_Response]


_decode_fields: Final = msgspec.json.Decoder(_Fields).decode
_decode_page: Final = msgspec.json.Decoder(_Page).decode
_decode_subscriber: Final = msgspec.json.Decoder(_Subscriber).decode
_decode_document: Final = msgspec.json.Decoder(dict[str, Any]).decode
_decode_written: Final = msgspec.json.Decoder(_Written).decode
_decode_batch: Final = msgspec.json.Decoder(_Batch).decode
_decode_error: Final = msgspec.json.Decoder(Error).decode


class MailerLiteSubscribers:
    """Implements `UserSource` and `UserSink`."""

    write_limits = BatchLimits(max_events=BATCH_USERS)
    # MailerLite allows 120 requests a minute of an account.
    write_rates: tuple[RateLimit, ...] = (spread(120, 60, burst=BATCH_USERS, create_unit="Event", group="account"),)

    def __init__(self, settings: MailerLiteSettings, context: ConnectorContext) -> None:
        self._context = context
        self._headers = headers(settings)
        self._fields: list[Field] | None = None
        self._readable: Codec | None = None
        self._writable: Codec | None = None

    async def readable_schema(self) -> Schema:
        return with_fields(READABLE, await self._read_fields())

    async def writable_schema(self) -> Schema:
        return with_fields(WRITABLE, await self._read_fields())

    async def users(self, cursor: str, updated_since: datetime | None = None) -> UsersPage:
        # MailerLite has no filter of changes, so all subscribers are read.
        query = {"limit": str(MAX_PAGE_USERS)}
        if position := parse_cursor(_CODE, cursor):
            query["cursor"] = position
        response = await self._get(f"{SUBSCRIBERS_URL}?{urlencode(query)}", accepted=(400, 422) if position else ())
        if response.status != 200:
            raise BadRequest("cursor is not valid any more", field="cursor")
        try:
            page = _decode_page(response.body)
            found = [(_decode_subscriber(each).id, each) for each in page.data]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise Unavailable("MailerLite responds with a page of subscribers in another form") from None
        if self._readable is None:
            self._readable = Codec(await self.readable_schema())
        fields = await self._read_fields()
        return UsersPage(
            users=tuple(_read(id_, document, fields, self._readable) for id_, document in found),
            cursor=format_cursor(_CODE, page.meta.next_cursor or ""),
        )

    async def write_users(self, users: Sequence[UserWrite]) -> Sequence[ItemResult]:
        if self._writable is None:
            self._writable = Codec(all_optional(await self.writable_schema()))
        return await (self._update(users) if users[0].id else write_each(users, self._create))

    async def _create(self, user: UserWrite) -> ItemResult:
        subscriber = self._subscriber(user)
        if "email" not in subscriber:
            return rejected("MissingIdentity", "the subscriber has no email address, or a placeholder")
        response = await self._context.http.send(self.create_request(subscriber))
        if response.status in (200, 201):
            return _accepted(response.body)
        if response.status in _REFUSALS:
            return _refused(response.status, response, self._context)
        raise unavailable("MailerLite", response, self._context)

    async def _update(self, users: Sequence[UserWrite]) -> Sequence[ItemResult]:
        response = await self._context.http.send(
            self.update_request([(user.id, self._subscriber(user)) for user in users])
        )
        if response.status in _REFUSALS:
            if len(users) == 1:
                return [_refused(response.status, response, self._context)]
            return [NOT_ATTEMPTED] * len(users)
        if response.status != 200:
            raise unavailable("MailerLite", response, self._context)
        try:
            responses = _decode_batch(response.body).responses
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            responses = []
        if len(responses) != len(users):
            text = f"the response has {len(responses)} results for {len(users)} subscribers"
            return [retry(UNEXPECTED_RESPONSE, text)] * len(users)
        return [self._read_response(each) for each in responses]

    def _read_response(self, response: _Response) -> ItemResult:
        """Return the result of one request of a batch."""
        body = bytes(response.body)
        if response.code in (200, 201):
            try:
                return _accepted(body)
            except Unavailable as error:
                return retry(UNEXPECTED_RESPONSE, error.message)
        found = HttpResponse(status=response.code, body=body)
        if response.code in _REFUSALS:
            return _refused(response.code, found, self._context)
        return retry(f"Status{response.code}", self._context.redact(read_text(found)))

    def create_request(self, subscriber: dict[str, Any]) -> HttpRequest:
        """Return the request that creates a subscriber, or updates the one with the e-mail address."""
        return HttpRequest(
            method="POST",
            url=SUBSCRIBERS_URL,
            headers=self._headers,
            body=_encode(subscriber),
            max_response_bytes=1 << 20,  # the whole subscriber
        )

    def update_request(self, subscribers: Sequence[tuple[str, dict[str, Any]]]) -> HttpRequest:
        """Return the request that updates subscribers by id."""
        requests = [
            {"method": "PUT", "path": f"api/subscribers/{quote(id_, safe='')}", "body": subscriber}
            for id_, subscriber in subscribers
        ]
        return HttpRequest(
            method="POST",
            url=BATCH_URL,
            headers=self._headers,
            body=_encode({"requests": requests}),
            max_response_bytes=MAX_PAGE_BYTES,
        )

    def _subscriber(self, user: UserWrite) -> dict[str, Any]:
        assert self._writable is not None
        subscriber = self._writable.document(user.attributes)
        if is_placeholder(str(subscriber.get("email", ""))):
            subscriber.pop("email", None)
        return subscriber

    async def _read_fields(self) -> list[Field]:
        """Return the fields of the account, read once. Those whose key is no name of a property are left out."""
        if self._fields is None:
            fields: list[Field] = []
            for number in range(1, MAX_FIELD_PAGES + 1):
                response = await self._get(f"{API_URL}/fields?{urlencode({'limit': '100', 'page': str(number)})}")
                try:
                    page = _decode_fields(response.body)
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                    raise Unavailable("MailerLite responds with fields in another form") from None
                fields += [each for each in page.data if is_property_name(each.key)]
                if page.meta.current_page >= page.meta.last_page:
                    break
            self._fields = list({each.key: each for each in fields}.values())
        return self._fields

    async def _get(self, url: str, accepted: Sequence[int] = ()) -> HttpResponse:
        response = await self._context.http.send(
            HttpRequest(method="GET", url=url, headers=self._headers, max_response_bytes=MAX_PAGE_BYTES)
        )
        if response.status != 200 and response.status not in accepted:
            raise unavailable("MailerLite", response, self._context)
        return response


def _read(id_: str, document: Raw, fields: Sequence[Field], codec: Codec) -> SourceUser:
    """Return a subscriber as a user, with an error if it is not in the documented form."""
    try:
        attributes = _attributes(_decode_document(document), fields)
        codec.check(attributes)
    except (InvalidValue, ValueError, AttributeError, TypeError) as error:
        return SourceUser(id=id_, attributes={}, error=f"the subscriber cannot be read: {error}"[:500])
    updated = attributes["updated_at"]
    updated_at = updated.to_datetime() if isinstance(updated, DateTime) else None
    return SourceUser(id=id_, attributes=attributes, updated_at=updated_at)


def _attributes(document: dict[str, Any], fields: Sequence[Field]) -> Record:
    attributes: Record = {name: document.get(name) for name in READABLE.by_name}
    for name in _TIMES:
        attributes[name] = _time(document.get(name))
    given = document.get("fields") or {}
    if values := {each.key: _value(given.get(each.key), each.type) for each in fields}:
        attributes["fields"] = values
    return attributes


def _time(text: Any) -> DateTime | None:
    """Return a time, which is in UTC. Raises ValueError."""
    if not text:
        return None
    moment = datetime.fromisoformat(str(text))
    return DateTime.of(moment.replace(tzinfo=moment.tzinfo or UTC))


def _value(value: Any, type_: str) -> Any:
    """Return the value of a field: null if it is empty."""
    if value is None or value == "":
        return None
    return float(value) if type_ == "number" else str(value)


def _accepted(body: bytes) -> ItemResult:
    try:
        return ItemResult(outcome=Outcome.DELIVERED, id=_decode_written(body).data.id)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Unavailable("MailerLite does not return the id of the subscriber") from None


def _refused(status: int, response: HttpResponse, context: ConnectorContext) -> ItemResult:
    try:
        error = _decode_error(response.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        error = Error()
    if not error.text:
        return rejected(f"Status{status}", context.redact(read_text(response)) or f"status {status}")
    return rejected(error.reason if error.errors else f"Status{status}", context.redact(error.text))
