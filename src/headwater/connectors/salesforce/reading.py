"""Reads the records of an object in the order of their changes.

Salesforce responds with up to 2,000 records and the URL of the next ones. That URL ends after two days at the latest,
and a page of users has 100. So a cursor has the time and the id of the last record of its page, from which a query can
continue at any time, and the records after it are kept in memory for the next page.
"""

import re
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import quote

import msgspec

from headwater.base.errors import BadRequest, Unavailable
from headwater.connectors.contract import MAX_PAGE_USERS, ConnectorContext, HttpResponse, SourceUser, UsersPage
from headwater.connectors.salesforce.api import PATH, ask_description, failure, has_error, read_description, request
from headwater.connectors.salesforce.schemas import (
    MODIFIED,
    find_reader,
    format_time,
    make_readable_schema,
    read_time,
)
from headwater.connectors.salesforce.settings import ID, SalesforceSettings
from headwater.connectors.users import format_cursor, parse_cursor
from headwater.schemas import Codec, InvalidValue, Schema

_CODE: Final = "salesforce"
_ID: Final = re.compile(r"[A-Za-z0-9]{15}([A-Za-z0-9]{3})?")
_POSITION: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) ([A-Za-z0-9]{15,18})")
_NEXT: Final = re.compile(r"/services/data/v[0-9.]+/query/[A-Za-z0-9-]+")


def is_id(text: str) -> bool:
    """Return whether the text has the form of a record's id."""
    return _ID.fullmatch(text) is not None


class _Found(msgspec.Struct, rename="camel"):
    records: list[dict[str, Any]]
    next_records_url: str | None = None


class _Ahead(msgspec.Struct, frozen=True):
    """The records after a cursor that Salesforce has returned already, and the path of those that follow."""

    cursor: str
    records: list[dict[str, Any]]
    next: str


_decode: Final = msgspec.json.Decoder(_Found).decode


class Reader:
    """Reads the records of one connection."""

    def __init__(self, settings: SalesforceSettings, context: ConnectorContext) -> None:
        self._object = settings.object
        self._context = context
        self._codec: Codec | None = None
        """The codec of the latest schema."""
        self._ahead: _Ahead | None = None

    async def schema(self) -> Schema:
        """Return the present schema of the account. Raises Unavailable."""
        response = await ask_description(self._context, self._object)
        if response.status != 200:
            raise failure(response, self._context)
        schema = make_readable_schema(read_description(response))
        self._codec = Codec(schema)
        return schema

    async def users(self, cursor: str, updated_since: datetime | None) -> UsersPage:
        """Return a page, as `UserSource.users`."""
        condition = _find_condition(parse_cursor(_CODE, cursor), updated_since)
        codec = self._codec or Codec(await self.schema())
        records, following = await self._find(codec.schema, cursor, condition)
        page, rest = records[:MAX_PAGE_USERS], records[MAX_PAGE_USERS:]
        next_cursor = format_cursor(_CODE, _position(page[-1])) if page and (rest or following) else ""
        self._ahead = _Ahead(next_cursor, rest, following) if next_cursor else None
        return UsersPage(users=tuple(_read(record, codec) for record in page), cursor=next_cursor)

    async def _find(self, schema: Schema, cursor: str, condition: str) -> tuple[list[dict[str, Any]], str]:
        """Return the records after a cursor, at least a page of them if there are so many, and the path of the next."""
        ahead = self._ahead
        if ahead is not None and cursor and ahead.cursor == cursor:
            if len(ahead.records) >= MAX_PAGE_USERS or not ahead.next:
                return ahead.records, ahead.next
            response = await self._ask(ahead.next)
            if response.status == 200:
                found = self._read_response(response)
                return [*ahead.records, *found.records], found.next_records_url or ""
            if not has_error(response, "INVALID_QUERY_LOCATOR"):
                raise failure(response, self._context)
        names = ",".join(each.name for each in schema)
        query = f"SELECT {names} FROM {self._object}{condition} ORDER BY {MODIFIED},{ID}"
        response = await self._ask(f"{PATH}/query?q={quote(query, safe=',')}")
        if response.status != 200:
            self._codec = None  # a field of it can be gone
            raise failure(response, self._context)
        found = self._read_response(response)
        return found.records, found.next_records_url or ""

    async def _ask(self, path: str) -> HttpResponse:
        return await self._context.http.send(await request(self._context, "GET", path))

    def _read_response(self, response: HttpResponse) -> _Found:
        try:
            found = _decode(response.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise Unavailable("Salesforce responds with records in another form") from None
        if found.next_records_url is not None and not _NEXT.fullmatch(found.next_records_url):
            raise Unavailable("Salesforce responds with a path of the next records in another form")
        return found


def _find_condition(position: str, updated_since: datetime | None) -> str:
    """Return the condition of a query, with a space before it. Raises BadRequest for another position."""
    if position:
        found = _POSITION.fullmatch(position)
        if found is None:
            raise BadRequest("cursor is malformed", field="cursor")
        moment, id_ = found.groups()
        return f" WHERE {MODIFIED} > {moment} OR ({MODIFIED} = {moment} AND {ID} > '{id_}')"
    if updated_since is None:
        return ""
    return f" WHERE {MODIFIED} >= {format_time(updated_since - timedelta(seconds=1))}"


def _position(record: dict[str, Any]) -> str:
    try:
        return f"{format_time(read_time(record[MODIFIED]))} {record[ID]}"
    except (KeyError, ValueError, OverflowError):
        raise Unavailable("Salesforce responds with a record without an id and a time of change") from None


def _read(record: dict[str, Any], codec: Codec) -> SourceUser:
    """Return a record as a user, with an error if it is not in the documented form."""
    id_ = str(record.get(ID))
    try:
        attributes = {
            each.name: None if (value := record.get(each.name)) is None else find_reader(each.type)(value)
            for each in codec.schema
        }
        codec.check(attributes)
        updated_at = read_time(record[MODIFIED])
    except (InvalidValue, ValueError, TypeError, KeyError, OverflowError) as error:
        return SourceUser(id=id_, attributes={}, error=f"the record cannot be read: {error}"[:500])
    return SourceUser(id=id_, attributes=attributes, updated_at=updated_at)
