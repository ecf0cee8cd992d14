"""Braze's users: written in batches, each with one identifier, by which it is created or updated.

Users of Braze are not read, so the identifier is the id of a user. The custom attributes of the workspace are
properties of the schema, if the key has the permission to list them.
"""

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import parse_qs, urlencode, urlsplit

import msgspec

from headwater.base.errors import Unavailable
from headwater.connectors.braze.api import MAX_OBJECTS, RATES, WAITS, headers, read_answer, track_request
from headwater.connectors.braze.objects import InvalidUser, identify_user, make_attributes
from headwater.connectors.braze.schemas import CustomAttribute, with_custom_attributes
from headwater.connectors.braze.settings import BrazeSettings
from headwater.connectors.contract import (
    BatchLimits,
    ConnectorContext,
    HttpRequest,
    HttpResponse,
    ItemResult,
    Outcome,
    RateLimit,
    UserWrite,
    rejected,
)
from headwater.connectors.users import read_batch, unavailable
from headwater.schemas import Codec, Schema, all_optional

MAX_USER_BYTES: Final = 40_000
"""Maximum size of a user. A full batch of such users is within the limit of a request."""
MAX_PAGES: Final = 20
"""Pages of 50 custom attributes that are read. Braze allows 1,000 an hour, for all who use the workspace."""

_NEXT: Final = re.compile(r'<([^<>]*)>\s*;\s*rel="?next"?')
_encode: Final = msgspec.json.Encoder().encode


class _Attributes(msgspec.Struct):
    attributes: list[CustomAttribute]


_decode_attributes: Final = msgspec.json.Decoder(_Attributes).decode


class BrazeUsers:
    """Implements `UserSink`."""

    write_limits = BatchLimits(max_events=MAX_OBJECTS, max_event_bytes=MAX_USER_BYTES)
    write_rates: tuple[RateLimit, ...] = RATES

    def __init__(self, settings: BrazeSettings, context: ConnectorContext) -> None:
        self._settings = settings
        self._context = context
        self._writable: Codec | None = None

    async def writable_schema(self) -> Schema:
        return (await self._read_schema())[0]

    async def write_users(self, users: Sequence[UserWrite]) -> Sequence[ItemResult]:
        writable = self._writable or (await self._read_schema())[1]
        made = [_make(user, writable) for user in users]
        objects = [each[1] for each in made if isinstance(each, tuple)]
        sent = iter(await self._send(objects) if objects else ())
        return [each if isinstance(each, ItemResult) else next(sent) or _written(each[0]) for each in made]

    def request(self, objects: Sequence[bytes]) -> HttpRequest:
        """Return the request that writes users, given as objects."""
        return track_request(self._settings, {"attributes": objects})

    async def _read_schema(self) -> tuple[Schema, Codec]:
        """Return the schema of the workspace, and its codec, which is kept for writes."""
        schema = with_custom_attributes(await self._custom_attributes())
        self._writable = Codec(all_optional(schema))
        return schema, self._writable

    async def _custom_attributes(self) -> list[CustomAttribute]:
        """Return the custom attributes of the workspace, in the order of their names; none without the permission."""
        found: list[CustomAttribute] = []
        cursor = ""
        for _ in range(MAX_PAGES):
            query = f"?{urlencode({'cursor': cursor})}" if cursor else ""
            url = f"{self._settings.rest_endpoint}/custom_attributes{query}"
            response = await self._context.http.send(
                HttpRequest(method="GET", url=url, headers=headers(self._settings), max_response_bytes=1 << 20)
            )
            if response.status == 403:
                return []
            if response.status != 200:
                raise unavailable("Braze", response, self._context, WAITS)
            try:
                found += _decode_attributes(response.body).attributes
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                raise Unavailable("Braze responds with custom attributes in another form") from None
            following = _next_cursor(response)
            if following in ("", cursor):
                break
            cursor = following
        return found

    async def _send(self, objects: Sequence[bytes]) -> Sequence[ItemResult | None]:
        """Send objects, and return a result of each that is not written, and None of the others."""
        response = await self._context.http.send(self.request(objects))
        answer = read_answer(response)
        named = () if answer is None else answer.named()
        return read_batch(
            "Braze",
            response,
            self._context,
            len(objects),
            is_success=200 <= response.status < 300 and answer is not None and answer.is_success,
            refused=[
                (index if array == "attributes" else -1, rejected("InvalidUser", text)) for array, index, text in named
            ],
            waits=WAITS,
        )


def _next_cursor(response: HttpResponse) -> str:
    """Return the cursor of the next page, of which only the host of the connection is asked; empty after the last."""
    link = _NEXT.search(response.headers.get("link", ""))
    return "" if link is None else parse_qs(urlsplit(link[1]).query).get("cursor", [""])[0]


def _written(id_: str) -> ItemResult:
    return ItemResult(outcome=Outcome.DELIVERED, id=id_)


def _make(user: UserWrite, writable: Codec) -> tuple[str, bytes] | ItemResult:
    """Return the identifier and the object of a user, or the result of one that Braze never accepts."""
    values = writable.document(user.attributes)
    try:
        body = _encode(make_attributes(values))
    except InvalidUser as error:
        return rejected(error.reason, str(error))
    if len(body) > MAX_USER_BYTES:
        return rejected("UserTooLarge", f"the user has {len(body)} bytes, and {MAX_USER_BYTES} are allowed")
    return next(iter(identify_user(values).values())), body
