"""Each conformance suite finds each kind of fault that it is for: one row for an implementation with one fault."""

import csv
import io
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, BinaryIO

import msgspec
import pytest

from headwater.base.errors import BadRequest, Unavailable
from headwater.connectors.contract import (
    DELIVERED,
    Attempt,
    AuthorizationRequest,
    AuthorizationRevoked,
    BatchLimits,
    Column,
    EncodedEvent,
    HttpRequest,
    ItemResult,
    OAuthTokens,
    OutgoingEvent,
    QueryRejected,
    Row,
    RowRead,
    SendResult,
    StoredFile,
    TableWrite,
    UsersPage,
    UserWrite,
    succeeded,
)
from headwater.connectors.dummy.customers import Customers
from headwater.connectors.dummy.events import DummyEventSink
from headwater.connectors.dummy.settings import DummySettings
from headwater.connectors.dummy.users import DummyUsers
from headwater.connectors.responses import STATUS_ONLY, read_response
from headwater.connectors.segment_api.events import SegmentSink
from headwater.schemas import ObjectType, Property, Schema, StringType, Value
from tests.connectors import test_references as references
from tests.connectors.conformance.context import NOW, make_context
from tests.connectors.conformance.running import failing_checks
from tests.connectors.dummy import test_events, test_users
from tests.connectors.reference.files import CsvFormat, CsvReader, MemoryStorage
from tests.connectors.reference.oauth import PlainOAuth
from tests.connectors.reference.tables import SqliteRows, SqliteSink, SqliteSource
from tests.connectors.segment_api import test_events as segment

# --- UserSource


class RepeatsUsers(DummyUsers):
    async def users(self, cursor: str, updated_since: datetime | None = None) -> UsersPage:
        page = await super().users(cursor, updated_since)
        return UsersPage(users=(*page.users, *page.users[:1]), cursor=page.cursor)


class NeverEnds(DummyUsers):
    async def users(self, cursor: str, updated_since: datetime | None = None) -> UsersPage:
        return UsersPage(users=(), cursor="again")


class HugePages(DummyUsers):
    async def users(self, cursor: str, updated_since: datetime | None = None) -> UsersPage:
        page = await super().users(cursor)
        many = [msgspec.structs.replace(user, id=f"{user.id}-{number}") for user in page.users for number in range(20)]
        return UsersPage(users=tuple(many), cursor="")


class AnyCursor(DummyUsers):
    async def users(self, cursor: str, updated_since: datetime | None = None) -> UsersPage:
        try:
            return await super().users(cursor, updated_since)
        except BadRequest:
            return await super().users("", updated_since)


class OtherSchema(DummyUsers):
    async def readable_schema(self) -> Schema:
        return ObjectType((Property("email", StringType()),))


class WritingSchema(DummyUsers):
    async def readable_schema(self) -> Schema:
        email, *others = await super().readable_schema()
        return ObjectType((Property(email.name, email.type, create_required=True), *others))


class LosesUpdates(DummyUsers):
    async def users(self, cursor: str, updated_since: datetime | None = None) -> UsersPage:
        page = await super().users(cursor, updated_since)
        return page if updated_since is None else UsersPage(users=page.users[1:], cursor=page.cursor)


class OneCursorOnly(DummyUsers):
    """Keeps its position between calls, so that a cursor works once."""

    _used: frozenset[str] = frozenset()

    async def users(self, cursor: str, updated_since: datetime | None = None) -> UsersPage:
        if cursor in self._used:
            return UsersPage(users=(), cursor="")
        self._used |= {cursor}
        return await super().users(cursor, updated_since)


# --- UserSink


class NoIds(DummyUsers):
    async def write_users(self, users: Sequence[UserWrite]) -> Sequence[ItemResult]:
        return [DELIVERED if result.id else result for result in await super().write_users(users)]


class CreatesTwice(DummyUsers):
    _count = 0

    async def write_users(self, users: Sequence[UserWrite]) -> Sequence[ItemResult]:
        self._count += 1
        return await super().write_users(
            [msgspec.structs.replace(user, key=f"{user.key}{self._count}") for user in users]
        )


class ReplacesAll(DummyUsers):
    async def write_users(self, users: Sequence[UserWrite]) -> Sequence[ItemResult]:
        emptied = [
            msgspec.structs.replace(user, attributes={"lastName": None, "address": None, **user.attributes})
            for user in users
        ]
        return await super().write_users(emptied)


class AllOrNothing(DummyUsers):
    async def write_users(self, users: Sequence[UserWrite]) -> Sequence[ItemResult]:
        results = await super().write_users(users)
        bad = [result for result in results if not result.id]
        return [bad[0]] * len(results) if bad else results


class OmitsFailures(DummyUsers):
    async def write_users(self, users: Sequence[UserWrite]) -> Sequence[ItemResult]:
        return [result for result in await super().write_users(users) if result.id]


class ReadingSchema(DummyUsers):
    async def writable_schema(self) -> Schema:
        return await super().readable_schema()


class NoLimit(DummyUsers):
    write_limits = BatchLimits(max_events=0)


# --- EventSink


class RetriesItself(DummyEventSink):
    async def send(self, request: HttpRequest, events: Sequence[EncodedEvent]) -> SendResult:
        await super().send(request, events)
        return await super().send(request, events)


class BelievesEverything(DummyEventSink):
    async def send(self, request: HttpRequest, events: Sequence[EncodedEvent]) -> SendResult:
        await super().send(request, events)
        return succeeded([DELIVERED] * len(events), 200)


class LosesResults(DummyEventSink):
    async def send(self, request: HttpRequest, events: Sequence[EncodedEvent]) -> SendResult:
        result = await super().send(request, events)
        return msgspec.structs.replace(result, items=result.items[1:])


class RaisesErrors(DummyEventSink):
    async def send(self, request: HttpRequest, events: Sequence[EncodedEvent]) -> SendResult:
        response = await self._context.http.send(request)
        return succeeded([DELIVERED] * len(events), response.status)


class RepeatsSecrets(SegmentSink):
    async def send(self, request: HttpRequest, events: Sequence[EncodedEvent]) -> SendResult:
        response = await self._context.http.send(request)
        return read_response(response, events, STATUS_ONLY, NOW)


class NewKeyEachTime(DummyEventSink):
    _count = 0

    def request(self, events: Sequence[EncodedEvent], attempt: Attempt) -> HttpRequest:
        self._count += 1
        return super().request(events, msgspec.structs.replace(attempt, key=f"{self._count:032x}"))


class KeyByAttempt(DummyEventSink):
    def request(self, events: Sequence[EncodedEvent], attempt: Attempt) -> HttpRequest:
        request = super().request(events, attempt)
        key = f"{attempt.key}-{attempt.number}"
        return msgspec.structs.replace(request, headers={**request.headers, "idempotency-key": key})


class OneUserForAll(DummyEventSink):
    def encode(self, event: OutgoingEvent) -> EncodedEvent:
        return msgspec.structs.replace(super().encode(event), user="")


class SendsAnything(DummyEventSink):
    def encode(self, event: OutgoingEvent) -> EncodedEvent:
        return EncodedEvent(id=event.key, body=event.document, user=event.user_id)


class WrongScope(DummyEventSink):
    policy = msgspec.structs.replace(DummyEventSink.policy, scope="Event")


class SmallBody(DummyEventSink):
    policy = msgspec.structs.replace(DummyEventSink.policy, limits=BatchLimits(max_events=100, max_bytes=100))


class EncodesTime(DummyEventSink):
    _count = 0

    def encode(self, event: OutgoingEvent) -> EncodedEvent:
        self._count += 1
        return super().encode(msgspec.structs.replace(event, document=b'{"n":%d}' % self._count))


class SendsSomethingElse(DummyEventSink):
    async def send(self, request: HttpRequest, events: Sequence[EncodedEvent]) -> SendResult:
        return await super().send(msgspec.structs.replace(request, body=request.body + b" "), events)


# --- QuerySource


class InterpolatesText(SqliteSource):
    def run(self, cursor: sqlite3.Cursor, text: str, parameters: Mapping[str, Value], limit: int | None) -> SqliteRows:
        for name, value in parameters.items():
            text = text.replace("${" + name + "}", f"'{value}'" if isinstance(value, str) else str(value))
        return super().run(cursor, text, {}, limit)


class Writes(SqliteSource):
    def __init__(self, rows: Sequence[Row]) -> None:
        super().__init__(rows)
        self.database.execute("PRAGMA query_only = 0")


class NoLimitOfRows(SqliteSource):
    def run(self, cursor: sqlite3.Cursor, text: str, parameters: Mapping[str, Value], limit: int | None) -> SqliteRows:
        return super().run(cursor, text, parameters, None)


class OneBatch(SqliteSource):
    def run(self, cursor: sqlite3.Cursor, text: str, parameters: Mapping[str, Value], limit: int | None) -> SqliteRows:
        result: Any = super().run(cursor, text, parameters, limit)
        rows = [row for batch in result.batches() for row in batch]
        result.batches = lambda: iter([rows])
        return result  # type: ignore[no-any-return]


class AnyColumns(SqliteSource):
    def run(self, cursor: sqlite3.Cursor, text: str, parameters: Mapping[str, Value], limit: int | None) -> SqliteRows:
        return super().run(cursor, text.replace("id, id", "id, id AS other"), parameters, limit)


class OtherErrors(SqliteSource):
    def run(self, cursor: sqlite3.Cursor, text: str, parameters: Mapping[str, Value], limit: int | None) -> SqliteRows:
        try:
            return super().run(cursor, text, parameters, limit)
        except QueryRejected as error:
            raise Unavailable(error.message) from error


# --- TableSink


class InsertsOnly(SqliteSink):
    def statement(self, write: TableWrite) -> str:
        return super().statement(write).partition(" ON CONFLICT")[0]


class ReplacesRows(SqliteSink):
    def statement(self, write: TableWrite) -> str:
        return "INSERT OR REPLACE" + super().statement(write).partition(" ON CONFLICT")[0].removeprefix("INSERT")


class HalfBatches(SqliteSink):
    def upsert(self, write: TableWrite, rows: Sequence[Row]) -> Sequence[ItemResult]:
        return [result for row in rows for result in super(HalfBatches, self).upsert(write, [row])]


class UnquotedTable(SqliteSink):
    def columns(self, table: str) -> tuple[Column, ...]:
        return super().columns("people" if "people" in table else table)


# --- FileStorage


class Traverses(MemoryStorage):
    def absolute_path(self, name: str) -> str:
        return f"/memory/{name}"


class VisibleAtOnce(MemoryStorage):
    @contextmanager
    def create(self, name: str, content_type: str) -> Iterator[BinaryIO]:
        self.absolute_path(name)
        stream = io.BytesIO()
        self.files[name] = b""
        yield stream
        self.files[name] = stream.getvalue()


class KeepsHalves(MemoryStorage):
    @contextmanager
    def create(self, name: str, content_type: str) -> Iterator[BinaryIO]:
        self.absolute_path(name)
        stream = io.BytesIO()
        try:
            yield stream
        finally:
            self.files[name] = stream.getvalue()


class EmptyIfMissing(MemoryStorage):
    @contextmanager
    def open(self, name: str) -> Iterator[StoredFile]:
        self.absolute_path(name)
        yield StoredFile(stream=io.BytesIO(self.files.get(name, b"")))


class WrongSize(MemoryStorage):
    @contextmanager
    def open(self, name: str) -> Iterator[StoredFile]:
        with super().open(name) as file:
            yield msgspec.structs.replace(file, size=1)


# --- FileFormat


class Unquoted(CsvFormat):
    @contextmanager
    def write(self, stream: BinaryIO, columns: Sequence[Column], sheet: str) -> Iterator[Any]:
        text = io.TextIOWrapper(stream, "utf-8", newline="", write_through=True)
        yield _Lines(text, [column.name for column in columns])
        text.detach()


class _Lines:
    def __init__(self, text: io.TextIOWrapper, header: Sequence[str]) -> None:
        self._text = text
        self.write([tuple(header)])

    def write(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self._text.write(",".join(map(str, row)) + "\r\n")


class ClosesStream(CsvFormat):
    @contextmanager
    def write(self, stream: BinaryIO, columns: Sequence[Column], sheet: str) -> Iterator[Any]:
        with super().write(stream, columns, sheet) as writer:
            yield writer
        stream.close()


class Numberless(CsvFormat):
    @contextmanager
    def read(self, stream: BinaryIO, sheet: str) -> Iterator[Any]:
        with super().read(stream, sheet) as reader:
            yield _Unnumbered(reader)


class _Unnumbered:
    def __init__(self, reader: CsvReader) -> None:
        self._reader = reader
        self.columns = reader.columns

    def rows(self) -> Iterator[RowRead]:
        return (msgspec.structs.replace(row, number=0) for row in self._reader.rows())


class TakesAnything(CsvFormat):
    @contextmanager
    def read(self, stream: BinaryIO, sheet: str) -> Iterator[Any]:
        content = stream.read().decode(errors="replace")
        rows = list(csv.reader(io.StringIO(content, newline="")))
        yield _Lenient(rows or [["name", "text"]])


class _Lenient:
    def __init__(self, rows: list[list[str]]) -> None:
        self.columns = tuple(Column(name=name, type=StringType()) for name in rows[0])
        self._rows = rows[1:]

    def rows(self) -> Iterator[RowRead]:
        return (RowRead(number=number, values=tuple(row)) for number, row in enumerate(self._rows, start=1))


# --- OAuthProvider


class CodeInUrl(PlainOAuth):
    def request(self, form: dict[str, str]) -> HttpRequest:
        request = super().request(form)
        return msgspec.structs.replace(request, url=f"{request.url}?{request.body.decode()}")


class ForgetsState(PlainOAuth):
    def authorization_url(self, request: AuthorizationRequest) -> str:
        return super().authorization_url(msgspec.structs.replace(request, state="state"))


class AlwaysPkce(PlainOAuth):
    def authorization_url(self, request: AuthorizationRequest) -> str:
        return super().authorization_url(msgspec.structs.replace(request, code_challenge=request.code_challenge or "x"))


class RevokesOnErrors(PlainOAuth):
    async def refresh(self, refresh_token: str) -> OAuthTokens:
        try:
            return await super().refresh(refresh_token)
        except Unavailable as error:
            raise AuthorizationRevoked(error.message) from error


class RefreshesTwice(PlainOAuth):
    async def refresh(self, refresh_token: str) -> OAuthTokens:
        try:
            return await super().refresh(refresh_token)
        except Unavailable:
            return await super().refresh(refresh_token)


class GuessesLife(PlainOAuth):
    async def refresh(self, refresh_token: str) -> OAuthTokens:
        tokens = await super().refresh(refresh_token)
        return tokens if tokens.expires_at else msgspec.structs.replace(tokens, expires_at=self._context.clock.now())


FAULTS: list[tuple[Any, Any, str]] = [
    (test_users.TestSource, RepeatsUsers, "every_user_is_returned_once"),
    (test_users.TestSource, NeverEnds, "pages_are_bounded_and_end"),
    (test_users.TestSource, HugePages, "pages_are_bounded_and_end"),
    (test_users.TestSource, AnyCursor, "a_cursor_that_it_has_not_made_is_rejected"),
    (test_users.TestSource, OtherSchema, "users_conform_to_the_schema"),
    (test_users.TestSource, WritingSchema, "the_schema_is_for_reading"),
    (test_users.TestSource, LosesUpdates, "updated_since_leaves_out_only_users_that_were_not_updated"),
    (test_users.TestSource, OneCursorOnly, "a_cursor_can_be_used_again_and_by_another_instance"),
    (test_users.TestSink, NoIds, "created_users_have_ids_and_can_be_read"),
    (test_users.TestSink, CreatesTwice, "a_repetition_creates_no_second_user"),
    (test_users.TestSink, ReplacesAll, "an_update_changes_only_its_attributes"),
    (test_users.TestSink, AllOrNothing, "each_user_has_its_own_result"),
    (test_users.TestSink, OmitsFailures, "each_user_has_its_own_result"),
    (test_users.TestSink, ReadingSchema, "the_schema_is_for_writing"),
    (test_users.TestSink, NoLimit, "the_limits_are_positive"),
    (test_events.TestEventSink, RetriesItself, "an_error_status_fails_the_whole_request"),
    (test_events.TestEventSink, BelievesEverything, "an_error_status_fails_the_whole_request"),
    (test_events.TestEventSink, BelievesEverything, "no_other_status_delivers"),
    (test_events.TestEventSink, BelievesEverything, "a_rejected_event_does_not_affect_others"),
    (test_events.TestEventSink, LosesResults, "success_delivers_every_event"),
    (test_events.TestEventSink, RaisesErrors, "a_missing_response_is_a_result"),
    (test_events.TestEventSink, NewKeyEachTime, "attempts_have_the_same_url_and_idempotency_key"),
    (test_events.TestEventSink, KeyByAttempt, "attempts_have_the_same_url_and_idempotency_key"),
    (test_events.TestEventSink, OneUserForAll, "events_are_distinguished"),
    (test_events.TestEventSink, SendsAnything, "unacceptable_events_are_rejected_before_sending"),
    (test_events.TestEventSink, WrongScope, "the_policy_is_consistent"),
    (test_events.TestEventSink, SmallBody, "the_limits_hold_for_the_body"),
    (test_events.TestEventSink, EncodesTime, "equal_events_have_equal_bytes"),
    (test_events.TestEventSink, SendsSomethingElse, "send_sends_the_given_request"),
    (segment.TestSegment, RepeatsSecrets, "secrets_that_the_destination_repeats_are_not_in_the_result"),
    (references.TestQuerySource, InterpolatesText, "parameters_are_values"),
    (references.TestQuerySource, Writes, "queries_that_write_are_rejected_and_write_nothing"),
    (references.TestQuerySource, NoLimitOfRows, "the_limit_of_a_query_applies"),
    (references.TestQuerySource, OneBatch, "batches_are_bounded_and_not_empty"),
    (references.TestQuerySource, AnyColumns, "invalid_queries_are_rejected"),
    (references.TestQuerySource, OtherErrors, "invalid_queries_are_rejected"),
    (references.TestTableSink, InsertsOnly, "rows_are_inserted_and_updated_by_key"),
    (references.TestTableSink, ReplacesRows, "other_columns_keep_their_values"),
    (references.TestTableSink, HalfBatches, "a_batch_is_written_whole_or_not_at_all"),
    (references.TestTableSink, UnquotedTable, "a_missing_table_is_an_error"),
    (references.TestFileStorage, Traverses, "invalid_names_are_rejected"),
    (references.TestFileStorage, VisibleAtOnce, "a_file_appears_when_it_is_complete"),
    (references.TestFileStorage, KeepsHalves, "a_failure_leaves_the_storage_as_it_was"),
    (references.TestFileStorage, EmptyIfMissing, "a_missing_file_is_an_error"),
    (references.TestFileStorage, WrongSize, "an_open_file_has_its_size_and_time"),
    (references.TestFileFormat, Unquoted, "rows_are_read_as_they_were_written"),
    (references.TestFileFormat, ClosesStream, "the_columns_are_read"),
    (references.TestFileFormat, Numberless, "rows_are_numbered"),
    (references.TestFileFormat, TakesAnything, "other_content_is_rejected"),
    (references.TestOAuth, CodeInUrl, "a_code_is_exchanged_once_and_outside_the_url"),
    (references.TestOAuth, ForgetsState, "the_authorization_url_has_the_parameters"),
    (references.TestOAuth, AlwaysPkce, "no_challenge_without_pkce"),
    (references.TestOAuth, RevokesOnErrors, "temporary_failures_revoke_nothing"),
    (references.TestOAuth, RefreshesTwice, "temporary_failures_revoke_nothing"),
    (references.TestOAuth, GuessesLife, "a_token_without_an_expiry_has_none"),
]

MAKE: dict[Any, Callable[[Any], Callable[..., Any]]] = {
    test_users.TestSource: lambda broken: lambda: broken(DummySettings(), make_context(), Customers()),
    test_users.TestSink: lambda broken: lambda: broken(DummySettings(), make_context(), Customers()),
    test_events.TestEventSink: lambda broken: lambda context: broken(test_events.SETTINGS, context),
    segment.TestSegment: lambda broken: lambda context: broken(segment.SETTINGS, context),
    references.TestQuerySource: lambda broken: lambda rows: broken(rows),
    references.TestTableSink: lambda broken: lambda: broken(),
    references.TestFileStorage: lambda broken: lambda: broken(),
    references.TestFileFormat: lambda broken: lambda: broken(),
    references.TestOAuth: lambda broken: lambda http: broken(make_context(http)),
}


@pytest.mark.parametrize(("suite", "broken", "check"), FAULTS, ids=lambda value: getattr(value, "__name__", str(value)))
async def test_a_fault_is_found(suite: Any, broken: Any, check: str) -> None:
    instance = suite()
    assert hasattr(instance, f"test_{check}")
    instance.make = MAKE[suite](broken)
    assert check in await failing_checks(instance)


@pytest.mark.parametrize("suite", MAKE, ids=lambda suite: suite.__name__)
async def test_without_a_fault_nothing_is_found(suite: Any) -> None:
    assert await failing_checks(suite()) == set()
    assert {each for each, _, _ in FAULTS} == set(MAKE)
