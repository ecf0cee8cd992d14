"""Klaviyo's profiles: read in pages of 100, and written with one request each.

A profile without an id is sent to `/api/profile-import`, which updates the profile that has its identifiers, if there
is one: a repetition creates no second one. A profile with an id is sent to `/api/profiles/<id>`, which creates none.
Jobs in bulk are not used: they do not return the ids of profiles, cannot clear a value, and report errors later.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import parse_qs, quote, urlencode, urlsplit

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
from headwater.connectors.klaviyo.api import ORIGIN, headers, read_errors, reading_headers, refuses_key
from headwater.connectors.klaviyo.schemas import LOCATION_NAMES, READABLE_SCHEMA, TEXT_NAMES, WRITABLE_SCHEMA
from headwater.connectors.klaviyo.settings import KlaviyoSettings
from headwater.connectors.users import format_cursor, parse_cursor, unavailable, write_each
from headwater.schemas import Codec, DateTime, InvalidValue, Json, Record, Schema, all_optional

PROFILES_URL: Final = f"{ORIGIN}/api/profiles"
IMPORT_URL: Final = f"{ORIGIN}/api/profile-import"
MAX_PROFILE_BYTES: Final = 100_000
MAX_PAGE_BYTES: Final = 16 << 20
BATCH_USERS: Final = 25

_CODE: Final = "klaviyo"
_IDENTIFIERS: Final = ("email", "phone_number", "external_id")
_TIMES: Final = ("created", "updated", "last_event_date")
_CONSENTS: Final = {"email_consent": "email", "sms_consent": "sms"}
_FIELDS: Final = ",".join(
    [each.name for each in READABLE_SCHEMA if each.name != "id" and each.name not in _CONSENTS]
    + [f"subscriptions.{channel}.marketing.consent" for channel in _CONSENTS.values()]
)
_TEXTS: Final = (*_IDENTIFIERS, *TEXT_NAMES)
_REFUSALS: Final = frozenset({400, 404, 409, 413, 422})
"""The statuses of a profile that Klaviyo never accepts in this form."""

_readable: Final = Codec(READABLE_SCHEMA)
_writable: Final = Codec(all_optional(WRITABLE_SCHEMA))
_encode: Final = msgspec.json.Encoder().encode


class _Attributes(msgspec.Struct):
    """The attributes that are not texts."""

    location: dict[str, str | int | float | None] | None = None
    properties: dict[str, Raw] | None = None
    subscriptions: dict[str, Any] | None = None


class _Profile(msgspec.Struct):
    id: str
    attributes: Raw = Raw(b"{}")


class _Links(msgspec.Struct, frozen=True):
    next: str | None = None


class _Page(msgspec.Struct):
    data: list[_Profile]
    links: _Links = _Links()


class _Written(msgspec.Struct):
    data: _Profile


_decode_page: Final = msgspec.json.Decoder(_Page).decode
_decode_attributes: Final = msgspec.json.Decoder(_Attributes).decode
_decode_texts: Final = msgspec.json.Decoder(dict[str, Any]).decode
_decode_written: Final = msgspec.json.Decoder(_Written).decode


class KlaviyoProfiles:
    """Implements `UserSource` and `UserSink`."""

    case_insensitive = ("email",)
    write_limits = BatchLimits(max_events=BATCH_USERS, max_event_bytes=MAX_PROFILE_BYTES)
    # Klaviyo allows 75/s and 750/min.
    write_rates: tuple[RateLimit, ...] = (spread(750, 60, burst=BATCH_USERS, unit="Event", group="profiles"),)
    # Klaviyo allows the same for reading, apart from it.
    read_rates: tuple[RateLimit, ...] = (spread(750, 60, burst=BATCH_USERS, group="profiles read"),)

    def __init__(self, settings: KlaviyoSettings, context: ConnectorContext) -> None:
        self._context = context
        self._headers = headers(settings)
        self._reading_headers = reading_headers(settings)

    async def readable_schema(self) -> Schema:
        return READABLE_SCHEMA

    async def writable_schema(self) -> Schema:
        return WRITABLE_SCHEMA

    async def users(self, cursor: str, updated_since: datetime | None = None) -> UsersPage:
        # In this order a profile that changes meanwhile is read again later, and none is left out.
        query = {
            "additional-fields[profile]": "subscriptions",
            "fields[profile]": _FIELDS,
            "page[size]": str(MAX_PAGE_USERS),
            "sort": "updated",
        }
        if updated_since is not None:  # Klaviyo has seconds, and only "greater-than"
            before = updated_since.astimezone(UTC) - timedelta(seconds=1)
            query["filter"] = f"greater-than(updated,{before:%Y-%m-%dT%H:%M:%SZ})"
        if position := parse_cursor(_CODE, cursor):
            query["page[cursor]"] = position
        response = await self._context.http.send(
            HttpRequest(
                method="GET",
                url=f"{PROFILES_URL}?{urlencode(query, quote_via=quote)}",
                headers=self._reading_headers,
                max_response_bytes=MAX_PAGE_BYTES,
            )
        )
        if response.status == 400 and any(error.is_about_cursor for error in read_errors(response)):
            raise BadRequest("cursor is not valid any more", field="cursor")
        if response.status != 200:
            raise unavailable("Klaviyo", response, self._context)
        try:
            page = _decode_page(response.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise Unavailable("Klaviyo responds with a page of profiles in another form") from None
        return UsersPage(
            users=tuple(_read(profile) for profile in page.data), cursor=format_cursor(_CODE, _position(page.links))
        )

    async def write_users(self, users: Sequence[UserWrite]) -> Sequence[ItemResult]:
        return await write_each(users, self._write)

    async def _write(self, user: UserWrite) -> ItemResult:
        attributes = _writable.document(user.attributes)
        for name in _IDENTIFIERS:
            if name in attributes and is_placeholder(attributes[name]):
                del attributes[name]
        if not user.id and not any(name in attributes for name in _IDENTIFIERS):
            return rejected("MissingIdentity", "the profile has no identifier, or only a placeholder")
        request = self.request(user.id, attributes)
        if len(request.body) > MAX_PROFILE_BYTES:
            return rejected(
                "ProfileTooLarge", f"the profile has {len(request.body)} bytes, and {MAX_PROFILE_BYTES} are allowed"
            )
        response = await self._context.http.send(request)
        if response.status in (200, 201):
            return _written(response)
        if response.status in _REFUSALS and not refuses_key(response):
            return _refused(response, self._context)
        raise unavailable("Klaviyo", response, self._context)

    def request(self, id_: str, attributes: dict[str, Any]) -> HttpRequest:
        """Return the request that writes one profile. The response has its id only."""
        resource = {"type": "profile", "id": id_, "attributes": attributes}
        if not id_:
            del resource["id"]
        return HttpRequest(
            method="PATCH" if id_ else "POST",
            url=f"{PROFILES_URL}/{quote(id_, safe='')}" if id_ else IMPORT_URL,
            headers=self._headers,
            body=_encode({"data": resource}),
            max_response_bytes=1 << 20,  # the whole profile
        )


def _position(links: _Links) -> str:
    """Return Klaviyo's cursor of the next page; empty after the last one."""
    return parse_qs(urlsplit(links.next or "").query).get("page[cursor]", [""])[0]


def _read(profile: _Profile) -> SourceUser:
    """Return a profile as a user, with an error if it is not in the documented form."""
    try:
        attributes = _attributes(profile)
        _readable.check(attributes)
    except (msgspec.DecodeError, UnicodeDecodeError, InvalidValue, ValueError) as error:
        return SourceUser(id=profile.id, attributes={}, error=f"the profile cannot be read: {error}"[:500])
    updated = attributes["updated"]
    updated_at = updated.to_datetime() if isinstance(updated, DateTime) else None
    return SourceUser(id=profile.id, attributes=attributes, updated_at=updated_at)


def _attributes(profile: _Profile) -> Record:
    texts = _decode_texts(profile.attributes)
    others = _decode_attributes(profile.attributes)
    location: Record | None = None
    if others.location is not None:
        location = {name: _text(others.location.get(name)) for name in LOCATION_NAMES}
    return {
        "id": profile.id,
        **{name: texts.get(name) for name in _TEXTS},
        "location": location,
        **{name: _time(texts.get(name)) for name in _TIMES},
        **{name: _consent(others.subscriptions, channel) for name, channel in _CONSENTS.items()},
        "properties": {name: Json.parse(bytes(value)) for name, value in (others.properties or {}).items()},
    }


def _text(value: str | int | float | None) -> str | None:
    return value if value is None or isinstance(value, str) else str(value)


def _time(value: Any) -> DateTime | None:
    """Return a time, which is in UTC if it has no zone. Raises ValueError."""
    return None if value is None else DateTime.of(datetime.fromisoformat(str(value)))


def _consent(subscriptions: Any, channel: str) -> str | None:
    for name in (channel, "marketing", "consent"):
        subscriptions = subscriptions.get(name) if isinstance(subscriptions, dict) else None
    return subscriptions if isinstance(subscriptions, str) else None


def _written(response: HttpResponse) -> ItemResult:
    try:
        return ItemResult(outcome=Outcome.DELIVERED, id=_decode_written(response.body).data.id)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Unavailable("Klaviyo does not return the id of the profile") from None


def _refused(response: HttpResponse, context: ConnectorContext) -> ItemResult:
    errors = read_errors(response)
    if not errors:
        return rejected(f"Status{response.status}", context.redact(response.body[:1_000].decode(errors="replace")))
    message = errors[0].message
    if (meta := errors[0].meta) is not None and meta.duplicate_profile_id:
        message = f"{message}: profile {meta.duplicate_profile_id}"
    return rejected(errors[0].reason, context.redact(message))
