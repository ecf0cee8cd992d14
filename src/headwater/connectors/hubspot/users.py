"""HubSpot's contacts: searched in pages of 100 in the order of their ids, and written up to 100 in a request.

A contact without an id is sent to `batch/upsert` with its email address, which updates the contact that has it. So a
repetition creates no second one. A contact with an id is sent to `batch/update`. Each input has our key as
`objectWriteTraceId`, by which results and errors name it. A contact that a response does not name is sent again:
HubSpot can respond with COMPLETE although it did nothing.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from headwater.base.errors import BadRequest, Unavailable
from headwater.connectors.contract import (
    MAX_PAGE_USERS,
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
from headwater.connectors.hubspot.api import ORIGIN, VERSION, Error, failure, find_limit, make_request, read_error
from headwater.connectors.hubspot.settings import HubSpotSettings
from headwater.connectors.hubspot.values import Definition, to_text
from headwater.connectors.identities import is_placeholder
from headwater.connectors.responses import read_safe_text
from headwater.connectors.users import format_cursor, parse_cursor
from headwater.schemas import Codec, InvalidValue, ObjectType, Property, Record, Schema, StringType

CONTACTS_URL: Final = f"{ORIGIN}/crm/objects/{VERSION.name}/contacts"
UPSERT_URL: Final = f"{CONTACTS_URL}/batch/upsert"
UPDATE_URL: Final = f"{CONTACTS_URL}/batch/update"
SEARCH_URL: Final = f"{CONTACTS_URL}/search"
PROPERTIES_URL: Final = f"{ORIGIN}/crm/properties/{VERSION.name}/contacts"
SEARCH_LIMIT: Final = spread(5, 1, burst=1, group="search")
"""The limit of all searches in an account."""
MAX_BATCH_USERS: Final = 100
MAX_PAGE_BYTES: Final = 32 << 20
INDEXING: Final = timedelta(seconds=60)
"""The time after which a search finds a change: that long before the given time changes are read again."""

_CODE: Final = "hubspot"
_EMAIL: Final = "email"
_ID: Final = Property("id", StringType(), description="HubSpot ID")
_REFUSALS: Final = frozenset({400, 404, 409, 413, 422})
"""The statuses of a request that HubSpot never accepts in this form."""

_encode: Final = msgspec.json.Encoder().encode


class _Definitions(msgspec.Struct):
    results: list[Definition]


class _Contact(msgspec.Struct, rename="camel"):
    id: str
    properties: dict[str, str | None] = {}
    updated_at: str | None = None


class _Identified(msgspec.Struct):
    id: str


class _Page(msgspec.Struct):
    results: list[msgspec.Raw]
    paging: dict[str, Any] | None = None


class _Result(msgspec.Struct, rename="camel"):
    id: str
    object_write_trace_id: str = ""
    properties: dict[str, str | None] = {}


class _Batch(msgspec.Struct):
    results: list[_Result] = []
    errors: list[Error] = []


_decode_definitions: Final = msgspec.json.Decoder(_Definitions).decode
_decode_page: Final = msgspec.json.Decoder(_Page).decode
_decode_contact: Final = msgspec.json.Decoder(_Contact).decode
_decode_identified: Final = msgspec.json.Decoder(_Identified).decode
_decode_batch: Final = msgspec.json.Decoder(_Batch).decode


class HubSpotContacts:
    """Implements `UserSource` and `UserSink`."""

    case_insensitive = ("email",)
    write_limits = BatchLimits(max_events=MAX_BATCH_USERS)

    def __init__(self, settings: HubSpotSettings | None, context: ConnectorContext) -> None:
        self.write_rates: tuple[RateLimit, ...] = (find_limit(settings),)
        self.read_rates: tuple[RateLimit, ...] = (*self.write_rates, SEARCH_LIMIT)
        self._settings = settings
        self._context = context
        self._definitions: list[Definition] = []
        self._codec: Codec | None = None
        """The codec of the definitions, which takes long to compile; None before they are read."""

    async def readable_schema(self) -> Schema:
        return (await self._load()).schema

    async def writable_schema(self) -> Schema:
        definitions = [each for each in await self._read_definitions() if each.is_writable]
        return ObjectType(
            tuple(
                Property(
                    each.name,
                    each.schema_type(),
                    create_required=each.name == _EMAIL,
                    nullable=each.name != _EMAIL,
                    description=each.label[:250],
                )
                for each in definitions
            )
        )

    async def _load(self) -> Codec:
        """Read the properties again, and return the codec of contacts. Raises Unavailable."""
        self._definitions = await self._read_definitions()
        self._codec = Codec(_readable(self._definitions))
        return self._codec

    async def _read_definitions(self) -> list[Definition]:
        """Return the properties of the account's contacts. Raises Unavailable."""
        response = await self._send("GET", PROPERTIES_URL)
        if response.status != 200:
            raise failure(response, self._context)
        try:
            definitions = _decode_definitions(response.body).results
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise Unavailable("HubSpot responds with properties in another form") from None
        return [each for each in definitions if each.is_usable and each.name != _ID.name]

    async def _send(self, method: str, url: str, body: bytes = b"") -> HttpResponse:
        return await self._context.http.send(make_request(self._settings, method, url, body, MAX_PAGE_BYTES))

    # Reading

    async def users(self, cursor: str, updated_since: datetime | None = None) -> UsersPage:
        after = parse_cursor(_CODE, cursor) or "0"
        if not (after.isascii() and after.isdigit() and len(after) <= 20):
            raise BadRequest("cursor is malformed", field="cursor")
        codec = self._codec or await self._load()
        definitions = self._definitions
        response = await self._send("POST", SEARCH_URL, _encode(search(after, definitions, updated_since)))
        if response.status != 200:
            raise failure(response, self._context)
        try:
            page = _decode_page(response.body)
            users = tuple(_read(_decode_identified(each).id, each, definitions, codec) for each in page.results)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise Unavailable("HubSpot responds with a page of contacts in another form") from None
        has_more = bool(users) and page.paging is not None and "next" in page.paging
        return UsersPage(users=users, cursor=format_cursor(_CODE, users[-1].id if has_more else ""))

    # Writing

    async def write_users(self, users: Sequence[UserWrite]) -> Sequence[ItemResult]:
        results: dict[int, ItemResult] = {}
        inputs: dict[int, dict[str, Any]] = {}
        seen: set[str] = set()
        for position, user in enumerate(users):
            input_ = make_input(user)
            if input_ is None:
                results[position] = rejected("MissingIdentity", "the contact has no email address, or a placeholder")
            elif input_["id"] in seen:  # HubSpot rejects a request that has a contact twice
                results[position] = retry("SameContact", "another contact of the request is the same one", 0.0)
            else:
                inputs[position] = input_
                seen.add(input_["id"])
        if inputs:
            results |= await self._write(bool(users[0].id), inputs)
        return [results[position] for position in range(len(users))]

    async def _write(self, is_update: bool, inputs: dict[int, dict[str, Any]]) -> dict[int, ItemResult]:
        """Write contacts, and return their results by position. If HubSpot rejects all for one, they are halved."""
        response = await self._context.http.send(self.request(is_update, list(inputs.values())))
        if response.status in (200, 201, 207):
            return _read_results(response, inputs, self._context)
        if response.status not in _REFUSALS:
            raise failure(response, self._context)
        if len(inputs) == 1:
            return dict.fromkeys(inputs, self._rejected(response))
        positions = list(inputs)
        results: dict[int, ItemResult] = {}
        for half in (positions[: len(positions) // 2], positions[len(positions) // 2 :]):
            try:
                results |= await self._write(is_update, {position: inputs[position] for position in half})
            except Unavailable as error:
                results |= dict.fromkeys(half, retry("Unavailable", error.message, float(error.retry_after)))
        return results

    def request(self, is_update: bool, inputs: Sequence[dict[str, Any]]) -> HttpRequest:
        """Return the request that writes contacts."""
        url = UPDATE_URL if is_update else UPSERT_URL
        return make_request(self._settings, "POST", url, _encode({"inputs": inputs}), MAX_PAGE_BYTES)

    def _rejected(self, response: HttpResponse) -> ItemResult:
        error = read_error(response)
        if error is None:
            return rejected(f"Status{response.status}", read_safe_text(response, self._context))
        return rejected(error.reason, self._context.redact(error.message))


def make_input(user: UserWrite) -> dict[str, Any] | None:
    """Return a contact as one of a request; None without an identity."""
    properties = {name: to_text(value) for name, value in user.attributes.items()}
    email = properties.pop(_EMAIL, "").strip().lower()
    if not is_placeholder(email):
        properties[_EMAIL] = email
    elif not user.id:
        return None
    input_ = {"id": user.id or email, "properties": properties, "objectWriteTraceId": user.key}
    return input_ if user.id else {**input_, "idProperty": _EMAIL}


def search(after: str, definitions: Sequence[Definition], updated_since: datetime | None) -> dict[str, Any]:
    """Return the search of contacts with a greater id than `after`. HubSpot pages only through 10,000 results, so each
    page is a search of its own."""
    filters = [{"propertyName": "hs_object_id", "operator": "GT", "value": after}]
    if updated_since is not None:
        since = int((updated_since.astimezone(UTC) - INDEXING).timestamp() * 1_000)
        filters.append({"propertyName": "lastmodifieddate", "operator": "GTE", "value": str(since)})
    return {
        "filterGroups": [{"filters": filters}],
        "sorts": [{"propertyName": "hs_object_id", "direction": "ASCENDING"}],
        "properties": [each.name for each in definitions],
        "limit": MAX_PAGE_USERS,
    }


def _readable(definitions: Sequence[Definition]) -> Schema:
    return ObjectType(
        (
            _ID,
            *(
                Property(each.name, each.schema_type(), nullable=True, description=each.label[:250])
                for each in definitions
            ),
        )
    )


def _read(id_: str, contact: msgspec.Raw, definitions: Sequence[Definition], codec: Codec) -> SourceUser:
    """Return a contact as a user, with an error if it is not in the documented form."""
    try:
        found = _decode_contact(contact)
        record: Record = {"id": id_, **{each.name: each.read(found.properties.get(each.name)) for each in definitions}}
        codec.check(record)
        updated = None if found.updated_at is None else datetime.fromisoformat(found.updated_at).astimezone(UTC)
    except (msgspec.DecodeError, UnicodeDecodeError, InvalidValue, ValueError, OverflowError) as error:
        return SourceUser(id=id_, attributes={}, error=f"the contact cannot be read: {error}"[:500])
    return SourceUser(id=id_, attributes=record, updated_at=updated)


def _read_results(
    response: HttpResponse, inputs: dict[int, dict[str, Any]], context: ConnectorContext
) -> dict[int, ItemResult]:
    """Return a result for each contact. One that the response does not name is sent again, with the text of an error
    that names none."""
    try:
        batch = _decode_batch(response.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Unavailable("HubSpot responds with results in another form") from None
    text = "the response does not account for the contact"
    results: dict[int, ItemResult] = {}
    names = {name: position for position, each in inputs.items() for name in (each["id"], each["objectWriteTraceId"])}
    for result in batch.results:
        email = (result.properties.get(_EMAIL) or "").lower()
        position = names.get(result.object_write_trace_id, names.get(result.id, names.get(email, -1)))
        if position >= 0 and result.id:
            results[position] = ItemResult(outcome=Outcome.DELIVERED, id=result.id)
    for error in batch.errors:
        named = [*_texts(error.context.get("objectWriteTraceId")), *_texts(error.context.get("ids"))]
        positions = {names[name] for name in named if name in names}
        results |= dict.fromkeys(positions, rejected(error.reason, context.redact(error.message)))
        if not positions and error.message:
            text = f"HubSpot names no contact for the error: {context.redact(error.message)}"
    return dict.fromkeys(inputs, retry(UNEXPECTED_RESPONSE, text)) | results


def _texts(value: Any) -> list[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []
