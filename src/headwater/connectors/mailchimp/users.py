"""Mailchimp's contacts: read in pages of 100, created 500 a request, and updated with one request each.

Contacts are created by a request that refuses those that exist: they are updated then, without their status. So a
repetition creates no second contact, and subscribes nobody who has unsubscribed. The other form of the request would
overwrite the status.

Pages begin at the time of the last contact that was read. An offset alone would leave out a contact for each one that
changes meanwhile, because it moves to the end.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import md5
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
)
from headwater.connectors.identities import is_placeholder
from headwater.connectors.mailchimp.api import MAX_CONNECTIONS, audience_url, format_reason, headers, reject
from headwater.connectors.mailchimp.schemas import (
    ADDRESS_NAMES,
    DEFAULT_STATUS,
    READABLE,
    WRITABLE,
    MergeField,
    with_merge_fields,
)
from headwater.connectors.mailchimp.settings import MailchimpSettings
from headwater.connectors.users import format_cursor, parse_cursor, unavailable, write_each
from headwater.schemas import Codec, DateTime, InvalidValue, Record, Schema, all_optional, is_property_name

MAX_BATCH_MEMBERS: Final = 500
MAX_PAGE_BYTES: Final = 16 << 20
MAX_MERGE_FIELDS: Final = 1_000
BATCH_TIMEOUT_SECONDS: Final = 120.0
"""Mailchimp ends a request after this time."""

_CODE: Final = "mailchimp"
_REFUSALS: Final = frozenset({400, 404, 405, 409, 413, 422})
"""The statuses of a contact that Mailchimp never accepts in this form."""
_BATCH_REFUSALS: Final = frozenset({400, 413, 422})
_TIMES: Final = ("timestamp_signup", "timestamp_opt", "last_changed")
_FIELDS: Final = ",".join(f"members.{name}" for name in (*READABLE.by_name, "merge_fields"))
_SECOND: Final = timedelta(seconds=1)
_REPEATED: Final = retry("RepeatedAddress", "another contact of the request has the same address", 0.0)

_encode: Final = msgspec.json.Encoder().encode


class _Fields(msgspec.Struct):
    merge_fields: list[MergeField]


class _Page(msgspec.Struct):
    members: list[Raw]


class _Member(msgspec.Struct):
    """The members that identify a contact, and its place in the order of changes."""

    id: str
    contact_id: str = ""
    email_address: str | None = None
    last_changed: str = ""

    @property
    def key(self) -> str:
        return self.contact_id or self.id


class _Error(msgspec.Struct):
    """A contact of a batch that was not accepted."""

    email_address: str | None = None
    error: str | None = None
    error_code: str | None = None
    field: str | None = None
    field_message: str | None = None

    def result(self, context: ConnectorContext) -> ItemResult:
        text = self.error or "Mailchimp refuses the contact"
        if self.field:
            text = f"{text} ({self.field}: {self.field_message or 'is not valid'})"
        return rejected(format_reason(self.error_code or ""), context.redact(text))


class _Batch(msgspec.Struct):
    new_members: list[_Member]
    errors: list[_Error]
    updated_members: list[_Member] = []


_decode_fields: Final = msgspec.json.Decoder(_Fields).decode
_decode_page: Final = msgspec.json.Decoder(_Page).decode
_decode_member: Final = msgspec.json.Decoder(_Member).decode
_decode_batch: Final = msgspec.json.Decoder(_Batch).decode
_decode_document: Final = msgspec.json.Decoder(dict[str, Any]).decode


class MailchimpContacts:
    """Implements `UserSource` and `UserSink`."""

    case_insensitive = ("email_address",)
    write_limits = BatchLimits(max_events=MAX_BATCH_MEMBERS)
    write_rates: tuple[RateLimit, ...] = ()
    """Mailchimp limits open connections, and not the rate of requests."""

    def __init__(self, settings: MailchimpSettings, context: ConnectorContext) -> None:
        self._context = context
        self._url = audience_url(settings)
        self._headers = headers(settings)
        self._fields: list[MergeField] | None = None
        self._readable: Codec | None = None
        self._writable: Codec | None = None

    async def readable_schema(self) -> Schema:
        return with_merge_fields(READABLE, await self._merge_fields(), is_writable=False)

    async def writable_schema(self) -> Schema:
        return with_merge_fields(WRITABLE, await self._merge_fields(), is_writable=True)

    async def users(self, cursor: str, updated_since: datetime | None = None) -> UsersPage:
        since, offset = _parse_position(parse_cursor(_CODE, cursor), updated_since)
        query = {
            "count": str(MAX_PAGE_USERS),
            "offset": str(offset),
            "sort_field": "last_changed",
            "sort_dir": "ASC",
            "fields": _FIELDS,
        }
        if since:
            query["since_last_changed"] = since
        response = await self._get(f"{self._url}/members?{urlencode(query)}")
        try:
            members = [(_decode_member(each), each) for each in _decode_page(response.body).members]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise Unavailable("Mailchimp responds with a page of contacts in another form") from None
        if self._readable is None:
            self._readable = Codec(await self.readable_schema())
        fields = await self._merge_fields()
        users = tuple(_read(member, document, fields, self._readable) for member, document in members)
        position = ""
        if len(members) == MAX_PAGE_USERS:
            position = _following([member for member, _ in members], since, offset)
        return UsersPage(users=users, cursor=format_cursor(_CODE, position))

    async def write_users(self, users: Sequence[UserWrite]) -> Sequence[ItemResult]:
        if self._writable is None:
            self._writable = Codec(all_optional(await self.writable_schema()))
        if users[0].id:
            return await write_each(users, self._update, max_concurrency=MAX_CONNECTIONS)
        return await self._create(users)

    async def _create(self, users: Sequence[UserWrite]) -> list[ItemResult]:
        results = [NOT_ATTEMPTED] * len(users)
        positions: dict[str, int] = {}
        members: list[dict[str, Any]] = []
        for position, user in enumerate(users):
            member = self._member(user)
            email = normalize(member.get("email_address"))
            status_if_new = member.pop("status_if_new", None) or DEFAULT_STATUS
            member["status"] = member.get("status") or status_if_new
            if is_placeholder(email):
                results[position] = rejected("MissingIdentity", "the contact has no email address, or a placeholder")
            elif email in positions:
                results[position] = _REPEATED
            else:
                positions[email] = position
                members.append(member)
        if not members:
            return results
        response = await self._context.http.send(self.create_request(members))
        if response.status in _BATCH_REFUSALS:
            if len(members) == 1:
                results[next(iter(positions.values()))] = reject(response, self._context)
            return results
        if response.status != 200:
            raise unavailable("Mailchimp", response, self._context)
        return await self._read_batch(response, users, positions, results)

    async def _read_batch(
        self, response: HttpResponse, users: Sequence[UserWrite], positions: dict[str, int], results: list[ItemResult]
    ) -> list[ItemResult]:
        """Complete the results of a batch, and update the contacts that exist already."""
        try:
            batch = _decode_batch(response.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise Unavailable("Mailchimp responds to new contacts in another form") from None
        for position in positions.values():
            results[position] = retry(UNEXPECTED_RESPONSE, "the response does not account for the contact")
        for member in (*batch.new_members, *batch.updated_members):
            if (found := positions.get(normalize(member.email_address))) is not None:
                results[found] = ItemResult(outcome=Outcome.DELIVERED, id=member.key)
        existing: dict[int, UserWrite] = {}
        for error in batch.errors:
            email = normalize(error.email_address)
            if (found := positions.get(email)) is None:
                continue
            if error.error_code == "ERROR_CONTACT_EXISTS":
                existing[found] = msgspec.structs.replace(users[found], id=hash_email(email))
            else:
                results[found] = error.result(self._context)
        try:
            updated = await write_each(list(existing.values()), self._update, max_concurrency=MAX_CONNECTIONS)
        except Unavailable as error:
            updated = [retry("Unavailable", error.message, float(error.retry_after))] * len(existing)
        for position, result in zip(existing, updated, strict=True):
            results[position] = result
        return results

    async def _update(self, user: UserWrite) -> ItemResult:
        member = self._member(user)
        member.pop("status_if_new", None)
        if is_placeholder(str(member.get("email_address", ""))):
            member.pop("email_address", None)
        response = await self._context.http.send(self.update_request(user.id, member))
        if response.status == 200:
            try:
                return ItemResult(outcome=Outcome.DELIVERED, id=_decode_member(response.body).key)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                raise Unavailable("Mailchimp does not return the id of the contact") from None
        if response.status in _REFUSALS:
            return reject(response, self._context)
        raise unavailable("Mailchimp", response, self._context)

    def create_request(self, members: Sequence[dict[str, Any]]) -> HttpRequest:
        """Return the request that creates contacts, and refuses those that exist."""
        return HttpRequest(
            method="POST",
            url=self._url,
            headers={**self._headers, "content-type": "application/json"},
            body=_encode({"members": members, "update_existing": False}),
            timeout_seconds=BATCH_TIMEOUT_SECONDS,
            max_response_bytes=MAX_PAGE_BYTES,
        )

    def update_request(self, id_: str, member: dict[str, Any]) -> HttpRequest:
        """Return the request that updates one contact."""
        return HttpRequest(
            method="PATCH",
            # Without the parameter, a contact that lacks a required merge field cannot be changed in any other.
            url=f"{self._url}/members/{quote(id_, safe='')}?skip_merge_validation=true",
            headers={**self._headers, "content-type": "application/json"},
            body=_encode(member),
            max_response_bytes=1 << 20,  # the whole contact
        )

    def _member(self, user: UserWrite) -> dict[str, Any]:
        """Return the attributes as Mailchimp takes them: an empty text clears a merge field."""
        assert self._writable is not None
        member = self._writable.document(user.attributes)
        if "email_address" in member:
            member["email_address"] = member["email_address"].strip()
        for tag, value in (fields := member.get("merge_fields", {})).items():
            if value is None:
                fields[tag] = ""
            elif isinstance(value, dict):
                fields[tag] = {name: each or "" for name, each in value.items()}
        return member

    async def _merge_fields(self) -> list[MergeField]:
        """Return the fields of the audience, read once. Those whose tag is no name of a property are left out."""
        if self._fields is None:
            names = ",".join(f"merge_fields.{name}" for name in ("tag", "type", "name", "required", "options"))
            query = urlencode({"count": str(MAX_MERGE_FIELDS), "fields": names})
            response = await self._get(f"{self._url}/merge-fields?{query}")
            try:
                found = _decode_fields(response.body).merge_fields
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                raise Unavailable("Mailchimp responds with merge fields in another form") from None
            self._fields = [each for each in found if is_property_name(each.tag)]
        return self._fields

    async def _get(self, url: str) -> HttpResponse:
        response = await self._context.http.send(
            HttpRequest(method="GET", url=url, headers=self._headers, max_response_bytes=MAX_PAGE_BYTES)
        )
        if response.status != 200:
            raise unavailable("Mailchimp", response, self._context)
        return response


def normalize(email: str | None) -> str:
    """Return an address in lower case, as Mailchimp compares it. Its errors have addresses in quotation marks."""
    return (email or "").strip().strip('"').strip().lower()


def hash_email(email: str) -> str:
    """Return the hash of an e-mail address in lower case that identifies a contact."""
    return md5(email.encode(), usedforsecurity=False).hexdigest()


def _parse_position(position: str, updated_since: datetime | None) -> tuple[str, int]:
    """Return the time after which contacts changed, or "", and how many of them were read. Raises BadRequest."""
    if not position:
        # Mailchimp has seconds, and returns what changed after the time.
        return ("" if updated_since is None else _before(updated_since)), 0
    since, _, offset = position.rpartition(" ")
    if not (offset.isascii() and offset.isdigit() and len(offset) < 10) or (since and _time(since) is None):
        raise BadRequest("cursor is malformed", field="cursor")
    return since, int(offset)


def _following(members: Sequence[_Member], since: str, offset: int) -> str:
    """Return the position after a full page: the time before the last contact, and how many were read from it on."""
    last = members[-1].last_changed
    moment = _time(last)
    read = sum(each.last_changed == last for each in members)
    if moment is None or read == len(members):
        return f"{since} {offset + len(members)}"
    return f"{_before(moment)} {read}"


def _before(moment: datetime) -> str:
    return (moment.astimezone(UTC).replace(microsecond=0) - _SECOND).isoformat()


def _time(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.replace(tzinfo=moment.tzinfo or UTC)


def _read(member: _Member, document: Raw, fields: Sequence[MergeField], codec: Codec) -> SourceUser:
    """Return a contact as a user, with an error if it is not in the documented form."""
    try:
        attributes = _attributes(member, _decode_document(document), fields)
        codec.check(attributes)
    except (InvalidValue, ValueError, AttributeError, TypeError, KeyError) as error:
        return SourceUser(id=member.key, attributes={}, error=f"the contact cannot be read: {error}"[:500])
    return SourceUser(id=member.key, attributes=attributes, updated_at=_time(member.last_changed))


def _attributes(member: _Member, document: dict[str, Any], fields: Sequence[MergeField]) -> Record:
    attributes: Record = {name: document.get(name) for name in READABLE.by_name}
    attributes["contact_id"] = member.key
    for name in _TIMES:
        attributes[name] = DateTime.of(datetime.fromisoformat(text)) if (text := document.get(name)) else None
    attributes["tags"] = [each["name"] for each in document.get("tags") or []]
    given = document.get("merge_fields") or {}
    if values := {each.tag: _value(given.get(each.tag), each.type) for each in fields}:
        attributes["merge_fields"] = values
    return attributes


def _value(value: Any, type_: str) -> Any:
    """Return the value of a merge field: null if it is empty."""
    if value is None or value == "":
        return None
    if type_ == "address":
        return {name: value.get(name) or None for name in ADDRESS_NAMES}
    return float(value) if type_ == "number" else str(value)
