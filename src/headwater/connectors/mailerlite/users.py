"""MailerLite's subscribers: read in pages of 100, and written 25 a request.

Subscribers are sent to `/api/batch`, which makes a request of its own for each, and returns the responses in order. One
without an id is a `POST` to `api/subscribers`, which updates the one with its e-mail address, if there is one: a
repetition creates no second one. If that one has unsubscribed, MailerLite refuses it with its id, and it is updated by
this id: its status stays.

MailerLite makes an import of a batch with nothing but such requests: it allows 5 a minute, and documents no response
with ids. So a batch of new subscribers also reads the fields of the account.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias
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
)
from headwater.connectors.identities import is_placeholder
from headwater.connectors.mailerlite.api import API_URL, Error, headers
from headwater.connectors.mailerlite.schemas import READABLE, WRITABLE, Field, with_fields
from headwater.connectors.mailerlite.settings import MailerLiteSettings
from headwater.connectors.responses import read_safe_text
from headwater.connectors.users import format_cursor, parse_cursor, unavailable
from headwater.schemas import Codec, DateTime, InvalidValue, Record, Schema, all_optional, is_property_name

SUBSCRIBERS_URL: Final = f"{API_URL}/subscribers"
SUBSCRIBERS_PATH: Final = "api/subscribers"
FIELDS_PATH: Final = "api/fields"
"""The paths of requests of a batch."""
BATCH_URL: Final = f"{API_URL}/batch"
BATCH_USERS: Final = 25
"""MailerLite takes 50 requests in a batch, and makes them one after another."""
MAX_PAGE_BYTES: Final = 16 << 20
MAX_FIELD_PAGES: Final = 20

_CODE: Final = "mailerlite"
_REFUSALS: Final = frozenset({400, 404, 409, 413, 422})
"""The statuses of a subscriber that MailerLite never accepts in this form."""
_WITHOUT_ADDRESS: Final = rejected("MissingIdentity", "the subscriber has no email address, or a placeholder")
_TIMES: Final = ("subscribed_at", "unsubscribed_at", "opted_in_at", "created_at", "updated_at")

_Subscribed: TypeAlias = tuple[str, dict[str, Any]]
"""The id of a subscriber, which is empty for one to create, and the members to write."""

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

    case_insensitive = ("email",)
    write_limits = BatchLimits(max_events=BATCH_USERS)
    # MailerLite allows 120 requests a minute of an account. A few are left for fields and checks of settings.
    write_rates: tuple[RateLimit, ...] = (RateLimit(count=116, seconds=60, group="account"),)
    read_rates = write_rates

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
        subscribers = [(user.id, self._subscriber(user)) for user in users]
        written = [(id_, each) for id_, each in subscribers if id_ or "email" in each]
        found = iter(await self._write(written) if written else ())
        return [next(found) if id_ or "email" in each else _WITHOUT_ADDRESS for id_, each in subscribers]

    async def _write(self, subscribers: Sequence[_Subscribed]) -> Sequence[ItemResult]:
        results = list(await self._send(subscribers))
        known = {
            position: each.id for position, each in enumerate(results) if each.outcome is Outcome.REJECTED and each.id
        }
        if known:  # MailerLite creates nobody who has unsubscribed, but it has an id to update
            updated = await self._send([(id_, subscribers[position][1]) for position, id_ in known.items()])
            for position, result in zip(known, updated, strict=True):
                results[position] = result
        return results

    async def _send(self, subscribers: Sequence[_Subscribed]) -> Sequence[ItemResult]:
        """Send subscribers: in a batch, except for a single one to create."""
        if len(subscribers) == 1 and not subscribers[0][0]:
            return [await self._create(subscribers[0][1])]
        response = await self._context.http.send(self.batch_request(subscribers))
        if response.status in _REFUSALS and len(subscribers) == 1:
            return [_refused(response.status, response, self._context)]
        if response.status in _REFUSALS:
            return [NOT_ATTEMPTED] * len(subscribers)
        if response.status != 200:
            raise unavailable("MailerLite", response, self._context)
        results = self._read_batch(response, subscribers)
        if len(results) > 1 and all(each.reason == UNEXPECTED_RESPONSE for each in results):
            return [NOT_ATTEMPTED] * len(results)  # a smaller batch, and at last a request for each
        return results

    async def _create(self, subscriber: dict[str, Any]) -> ItemResult:
        response = await self._context.http.send(self.create_request(subscriber))
        if response.status in (200, 201):
            return _accepted(response.body)
        if response.status in _REFUSALS:
            return _refused(response.status, response, self._context)
        raise unavailable("MailerLite", response, self._context)

    def _read_batch(self, response: HttpResponse, subscribers: Sequence[_Subscribed]) -> list[ItemResult]:
        """Return the results of a batch. MailerLite returns one for each request, in their order."""
        try:
            responses = _decode_batch(response.body).responses
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            responses = []
        expected = len(_batched(subscribers))
        if len(responses) != expected:
            text = f"the response has {len(responses)} results for {expected} requests"
            return [retry(UNEXPECTED_RESPONSE, text)] * len(subscribers)
        return [self._read_response(each) for each in responses[: len(subscribers)]]

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
        return retry(f"Status{response.code}", read_safe_text(found, self._context))

    def create_request(self, subscriber: dict[str, Any]) -> HttpRequest:
        """Return the request that creates a subscriber, or updates the one with the e-mail address."""
        return HttpRequest(
            method="POST",
            url=SUBSCRIBERS_URL,
            headers=self._headers,
            body=_encode(subscriber),
            max_response_bytes=1 << 20,  # the whole subscriber
        )

    def batch_request(self, subscribers: Sequence[_Subscribed]) -> HttpRequest:
        """Return the request that writes subscribers by id, or those without one by e-mail address."""
        return HttpRequest(
            method="POST",
            url=BATCH_URL,
            headers=self._headers,
            body=_encode({"requests": _batched(subscribers)}),
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


def _batched(subscribers: Sequence[_Subscribed]) -> list[dict[str, Any]]:
    """Return the requests of a batch: one for each subscriber, and one more for subscribers to create."""
    requests: list[dict[str, Any]] = [
        {"method": "PUT", "path": f"{SUBSCRIBERS_PATH}/{quote(id_, safe='')}", "body": subscriber}
        if id_
        else {"method": "POST", "path": SUBSCRIBERS_PATH, "body": subscriber}
        for id_, subscriber in subscribers
    ]
    is_import = all(not id_ for id_, _ in subscribers)
    return [*requests, {"method": "GET", "path": FIELDS_PATH}] if is_import else requests


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
    text = (
        context.redact(error.text) or read_safe_text(response, context) or f"MailerLite responds with status {status}"
    )
    result = rejected(error.reason or f"Status{status}", text)
    return msgspec.structs.replace(result, id=error.subscriber)
