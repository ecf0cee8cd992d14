"""The records of an object of Salesforce: read with queries, and written in collections of 200.

A record without an id is written by its external id: Salesforce updates the record that has it, if there is one, so a
repetition creates no second one. A record with an id is updated. One call has one request, because concurrent writes of
records with the same parent wait for each other, and fail.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from headwater.base.errors import Unavailable
from headwater.connectors.contract import (
    UNEXPECTED_RESPONSE,
    BatchLimits,
    ConnectorContext,
    HttpRequest,
    HttpResponse,
    ItemResult,
    Outcome,
    RateLimit,
    UsersPage,
    UserWrite,
    rejected,
    retry,
)
from headwater.connectors.identities import is_placeholder
from headwater.connectors.salesforce.api import (
    LIMIT_EXCEEDED,
    LIMIT_PAUSE_SECONDS,
    PATH,
    Error,
    ask_description,
    failure,
    has_error,
    read_description,
    read_errors,
    request,
)
from headwater.connectors.salesforce.reading import Reader, is_id
from headwater.connectors.salesforce.schemas import (
    find_lookups,
    format_time,
    make_readable_schema,
    make_writable_schema,
)
from headwater.connectors.salesforce.settings import ID, SalesforceSettings
from headwater.connectors.settings import invalid
from headwater.schemas import Codec, DateTime, Schema, all_optional

MAX_RECORDS: Final = 200

_TEMPORARY: Final = frozenset({"SERVER_UNAVAILABLE", "UNABLE_TO_LOCK_ROW"})
"""The codes of records that Salesforce accepts later."""
_OF_ALL: Final = frozenset({"INVALID_FIELD", "INVALID_TYPE", "NOT_FOUND"})
"""The codes of requests that are as wrong for each of their records."""

_encode: Final = msgspec.json.Encoder().encode


class _Result(msgspec.Struct):
    success: bool
    id: str | None = None
    errors: list[Error] = []


_decode_results: Final = msgspec.json.Decoder(list[_Result]).decode


class SalesforceRecords:
    """Implements `UserSource` and `UserSink`."""

    case_insensitive = ("Email",)
    write_limits = BatchLimits(max_events=MAX_RECORDS)
    write_rates: tuple[RateLimit, ...] = ()

    def __init__(self, settings: SalesforceSettings, context: ConnectorContext) -> None:
        self._settings = settings
        self._context = context
        self._reader = Reader(settings, context)
        self._codec: Codec | None = None

    async def readable_schema(self) -> Schema:
        return await self._reader.schema()

    async def writable_schema(self) -> Schema:
        response = await ask_description(self._context, self._settings.object)
        if response.status != 200:
            raise failure(response, self._context)
        schema = make_writable_schema(read_description(response), self._settings.external_id_field)
        self._codec = Codec(all_optional(schema))
        return schema

    async def users(self, cursor: str, updated_since: datetime | None = None) -> UsersPage:
        return await self._reader.users(cursor, updated_since)

    async def write_users(self, users: Sequence[UserWrite]) -> Sequence[ItemResult]:
        if self._codec is None:
            await self.writable_schema()
        results: dict[int, ItemResult] = {}
        records: dict[int, dict[str, Any]] = {}
        found: set[str] = set()
        for index, user in enumerate(users):
            record = self._record(user)
            key = user.id or str(record.get(self._settings.external_id_field) or "").casefold()
            if (reason := self._find_reason(user, key)) is not None:
                results[index] = reason
            elif key in found:  # Salesforce refuses both
                results[index] = retry("NotTaken", "the request has another record with the same identifier", 0.0)
            else:
                found.add(key)
                records[index] = record
        await self._send(records, results, is_update=bool(users and users[0].id))
        return [results[index] for index in range(len(users))]

    def request_body(self, records: Sequence[dict[str, Any]]) -> bytes:
        """Return the body that writes records. Each is independent of the others."""
        attributes = {"attributes": {"type": self._settings.object}}
        return _encode({"allOrNone": False, "records": [attributes | record for record in records]})

    async def request(self, records: Sequence[dict[str, Any]], *, is_update: bool) -> HttpRequest:
        """Return the request that writes records. Raises Unavailable."""
        path = f"{PATH}/composite/sobjects"
        if not is_update:
            path = f"{path}/{self._settings.object}/{self._settings.external_id_field}"
        return await request(self._context, "PATCH", path, self.request_body(records))

    def _record(self, user: UserWrite) -> dict[str, Any]:
        assert self._codec is not None
        record = self._codec.document(user.attributes)
        for name, value in user.attributes.items():
            if isinstance(value, DateTime):
                record[name] = format_time(value.to_datetime())
        field = self._settings.external_id_field
        if field in record and is_placeholder(str(record[field] or "")):
            del record[field]
        return {"id": user.id, **record} if user.id else record

    def _find_reason(self, user: UserWrite, key: str) -> ItemResult | None:
        """Return the rejection of a record that cannot be sent."""
        field = self._settings.external_id_field
        if user.id:
            return None if is_id(user.id) else rejected("MalformedId", f'"{user.id[:40]}" is no id of Salesforce')
        if field == ID:
            return rejected("NoExternalIDField", "records are created only with a field that is an external id")
        return None if key else rejected("MissingIdentity", f"{field} has no value, or only a placeholder")

    async def _send(
        self, records: dict[int, dict[str, Any]], results: dict[int, ItemResult], *, is_update: bool
    ) -> None:
        """Write records, and add their results. A request that is refused as a whole is halved.

        Raises Unavailable if the outcome of all of them is unknown.
        """
        waiting, known = [list(records)] if records else [], False
        while waiting:
            indexes = waiting.pop()
            try:
                some = [records[index] for index in indexes]
                response = await self._context.http.send(await self.request(some, is_update=is_update))
                answered = self._results(response, len(indexes))
            except Unavailable as error:
                if not known:
                    raise
                rest = [index for group in (indexes, *waiting) for index in group]
                results |= dict.fromkeys(rest, retry("Unavailable", error.message, float(error.retry_after)))
                return
            if answered is None:
                middle = len(indexes) // 2
                waiting += [indexes[middle:], indexes[:middle]]
                continue
            known = True
            results |= dict(zip(indexes, answered, strict=True))

    def _results(self, response: HttpResponse, count: int) -> list[ItemResult] | None:
        """Return the results of a response; None if the request is rejected without naming a record."""
        if response.status in (400, 404) and (errors := read_errors(response)):
            if count > 1 and not any(error.code in _OF_ALL for error in errors):
                return None
            return [rejected(errors[0].reason, self._context.redact(errors[0].text))] * count
        if response.status != 200:
            raise failure(response, self._context)
        try:
            found = _decode_results(response.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise Unavailable("Salesforce responds with results in another form") from None
        if len(found) != count:
            raise Unavailable(f"Salesforce responds with {len(found)} results for {count} records")
        return [self._result(each) for each in found]

    def _result(self, result: _Result) -> ItemResult:
        if result.success and result.id:
            return ItemResult(outcome=Outcome.DELIVERED, id=result.id)
        if result.success or not result.errors:
            return retry(UNEXPECTED_RESPONSE, "Salesforce does not return the id of the record")
        error = result.errors[0]
        text = self._context.redact(error.text)
        if error.code == LIMIT_EXCEEDED:
            return retry(error.reason, text, float(LIMIT_PAUSE_SECONDS))
        return retry(error.reason, text) if self._is_temporary(error) else rejected(error.reason, text)

    def _is_temporary(self, error: Error) -> bool:
        """Return whether Salesforce accepts the record later. A repetition can arrive while the first request creates
        the record: then its external id is a duplicate, until the first request has ended."""
        is_repetition = error.code == "DUPLICATE_VALUE" and self._settings.external_id_field in error.message
        return error.code in _TEMPORARY or is_repetition


async def check(settings: SalesforceSettings, context: ConnectorContext) -> SalesforceSettings:
    """Implements `Engine.http_check`: the account has the object, and the field finds records of it."""
    response = await ask_description(context, settings.object)
    if response.status == 404:
        raise invalid("settings.object", f'"{settings.object}" does not exist, or the account has no access to it')
    if response.status == 401 or (response.status == 403 and not has_error(response, LIMIT_EXCEEDED)):
        errors = read_errors(response)
        text = context.redact(errors[0].message[:200]) if errors else ""
        raise invalid("authToken", f"is not accepted by Salesforce (status {response.status}): {text}")
    if response.status != 200:
        raise failure(response, context)
    description = read_description(response)
    make_readable_schema(description)
    lookups = find_lookups(description)
    if settings.external_id_field not in lookups:
        raise invalid("settings.externalIDField", f"must be an external id of the object: {', '.join(lookups[:10])}")
    return settings
