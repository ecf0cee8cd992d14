"""From the bytes of a call to the log: appended entries, stored rejections, and responses."""

import asyncio
import base64
import gzip
import json
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.base.clock import microseconds
from headwater.base.errors import (
    BadRequest,
    HeadwaterError,
    PayloadTooLarge,
    TooManyRequests,
    Unauthorized,
    Unavailable,
)
from headwater.base.identifiers import Identifiers
from headwater.base.metrics import NO_METRICS, Metrics
from headwater.catalog import Connection
from headwater.events import Envelope, ProtocolName, Rejection
from headwater.events.protocol import decode_envelope
from headwater.intake import IncomingCall, Intake, RateLimit, RateLimiter
from headwater.log import LogEntry, SqliteEventLog
from headwater.management.connections import CreateConnection, create_connection
from headwater.management.event_write_keys import create_event_write_key
from headwater.processing.batch import read_batch
from tests.harness import NOW, Harness, client_call, open_harness, track_call
from tests.jsontexts import json_values

GOOD = b'{"type":"track","event":"e","userId":"u"}'
BAD = b'{"type":"track","userId":"u"}'


def batch(*events: bytes) -> bytes:
    return b'{"batch":[' + b",".join(events) + b"]}"


async def envelopes(harness: Harness) -> list[Envelope]:
    return [decode_envelope(stored.entry.header) for stored in await harness.log_entries()]


# --- Accepting ----------------------------------------------------------------------------------------------------


async def test_a_call_is_one_entry_of_its_own_bytes(harness: Harness, source: Connection) -> None:
    body = b' {"batch": [' + GOOD + b" ," + BAD + b'], "sentAt":"2026-01-01"} '
    key = base64.b64encode(f"{source.event_write_keys[0]}:".encode()).decode()
    receipt = await harness.intake.accept(
        track_call(
            call="batch",
            body=body,
            authorization=f"Basic {key}",
            ip="203.0.113.9",
            user_agent="analytics-python/2.4.0",
        )
    )
    assert receipt.rejections == [None, Rejection("BadRequest", "event", "event is required in a track event")]
    assert receipt.accepted == 1
    (stored,) = await harness.log_entries()
    assert (stored.entry.events, stored.entry.body) == (2, body)
    envelope = decode_envelope(stored.entry.header)
    assert len(envelope.nonce) == 16
    assert envelope == Envelope(
        "track",
        "batch",
        harness.workspace,
        source.id,
        microseconds(NOW),
        envelope.nonce,
        "203.0.113.9",
        "analytics-python/2.4.0",
        rejected={1: Rejection("BadRequest", "event", "event is required in a track event")},
    )


@pytest.mark.parametrize(
    ("connector", "strategy", "is_client_side"),
    [("javascript", "Conversion", True), ("http", None, False), ("client", None, False)],
)
async def test_only_a_source_whose_calls_can_decline_it_gets_the_address_of_the_person(
    harness: Harness, connector: str, strategy: str | None, is_client_side: bool
) -> None:
    request = CreateConnection(name="Shop", role="Source", connector=connector, strategy=strategy)
    made = harness.catalog.connection(
        harness.workspace, (await create_connection(harness.catalog, harness.workspace, request)).id
    )
    assert made is not None
    (key,) = made.event_write_keys
    if connector == "client":
        body = b'[{"name":"e","anonymous_id":"a"}]'
        await harness.intake.accept(client_call(call="events", body=body, key=key))
    else:
        await harness.intake.accept(track_call(call="track", body=GOOD, authorization=f"Bearer {key}"))
    (envelope,) = await envelopes(harness)
    assert envelope.is_client_side is is_client_side


async def test_gzip_is_stored_inflated(harness: Harness, source: Connection) -> None:
    key = source.event_write_keys[0]
    call = track_call(
        call="page",
        body=gzip.compress(b'{"userId":"u"}', mtime=0),
        authorization=f"Bearer {key}",
        content_encoding="gzip",
    )
    assert (await harness.intake.accept(call)).accepted == 1
    (stored,) = await harness.log_entries()
    assert stored.entry.body == b'{"userId":"u"}'


async def test_what_was_answered_is_on_the_disk(harness: Harness, source: Connection) -> None:
    await harness.send(source, batch(GOOD))
    reader = SqliteEventLog(harness.folder / "log.db", harness.clock)
    try:
        assert len(await reader.read(0, max_bytes=1, wait=timedelta(0))) == 1
    finally:
        await reader.close()


async def test_an_empty_batch_is_accepted_and_leaves_nothing(harness: Harness, source: Connection) -> None:
    assert (await harness.send(source, batch())).rejections == []
    assert await harness.log_entries() == []


async def test_every_call_has_a_nonce_of_its_own(harness: Harness, source: Connection) -> None:
    await asyncio.gather(*(harness.send(source, batch(GOOD)) for _ in range(20)))
    assert len({envelope.nonce for envelope in await envelopes(harness)}) == 20


# --- Keys ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "body"),
    [
        ("page", b'{"userId":"u","writeKey":"KEY"}'),
        ("batch", b'{"batch":[],"writeKey":"KEY"}'),
        ("batch", b'{"batch":[{"type":"page","userId":"u","writeKey":"KEY"}]}'),
    ],
)
async def test_the_body_may_bring_the_key(harness: Harness, source: Connection, call: str, body: bytes) -> None:
    body = body.replace(b"KEY", source.event_write_keys[0].encode())
    receipt = await harness.intake.accept(track_call(call=call, body=body))
    assert set(receipt.rejections) <= {None}


async def test_the_header_comes_before_the_body(harness: Harness, source: Connection) -> None:
    body = b'{"userId":"u","writeKey":"%s"}' % source.event_write_keys[0].encode()
    with pytest.raises(Unauthorized, match="the write key is not known"):
        await harness.intake.accept(track_call(call="page", body=body, authorization="Bearer unknown"))


@pytest.mark.parametrize(
    ("authorization", "message"),
    [
        (None, "a write key is required: as Basic user, as Bearer token, in X-Write-Key, or as writeKey in the body"),
        (
            "Bearer ",
            "a write key is required: as Basic user, as Bearer token, in X-Write-Key, or as writeKey in the body",
        ),
        ("Bearer unknown", "the write key is not known"),
        ("Basic unknown", "the write key is not known"),
        ("Digest x", "the Authorization header must be 'Basic' with the write key as user, or 'Bearer'"),
    ],
)
async def test_a_call_without_a_known_key_is_unauthorized_and_kept(
    harness: Harness, authorization: str | None, message: str
) -> None:
    with pytest.raises(Unauthorized) as raised:
        await harness.intake.accept(track_call(call="batch", body=batch(GOOD, GOOD), authorization=authorization))
    assert raised.value.message == message
    (envelope,) = await envelopes(harness)
    assert (envelope.workspace, envelope.connection) == (0, 0)
    assert envelope.rejection == Rejection("Unauthorized", "", message)


async def test_a_key_that_another_process_made_is_known_immediately(harness: Harness, source: Connection) -> None:
    async with open_harness(harness.folder, harness.clock) as other:
        key = await create_event_write_key(other.catalog, harness.workspace, source.id)
    assert (
        await harness.intake.accept(track_call(call="batch", body=batch(GOOD), authorization=f"Bearer {key}"))
    ).accepted == 1


# --- Rejecting a whole call -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "body", "encoding", "code", "path"),
    [
        ("batch", b"{", None, "BadRequest", ""),
        ("batch", b"{}", None, "BadRequest", "batch"),
        ("page", b"[]", None, "BadRequest", ""),
        ("page", b"\xff", None, "BadRequest", ""),
        ("page", b"{}", "br", "BadRequest", "body"),
        ("page", b"{}", "gzip", "BadRequest", "body"),
        ("page", b'{"userId":"%s"}' % (b"x" * 32 * 1024), None, "PayloadTooLarge", ""),
        ("batch", b'{"batch":["%s"]}' % (b"x" * 500 * 1024), None, "PayloadTooLarge", ""),
        ("page", gzip.compress(bytes(40_000), mtime=0), "gzip", "PayloadTooLarge", ""),
        ("batch", b'{"batch":[' + b"0," * 20_000 + b"0]}", None, "PayloadTooLarge", "batch"),
    ],
    ids=lambda value: str(value)[:20],
)
async def test_a_rejected_call_is_kept_with_its_reason(
    harness: Harness, source: Connection, call: str, body: bytes, encoding: str | None, code: str, path: str
) -> None:
    key = source.event_write_keys[0]
    with pytest.raises((BadRequest, PayloadTooLarge)) as raised:
        await harness.intake.accept(
            track_call(call=call, body=body, authorization=f"Bearer {key}", content_encoding=encoding)
        )
    (stored,) = await harness.log_entries()
    envelope = decode_envelope(stored.entry.header)
    assert (stored.entry.events, stored.entry.body) == (1, body[: 64 * 1024])
    assert (envelope.call, envelope.workspace, envelope.connection) == (call, harness.workspace, source.id)
    assert envelope.rejection == Rejection(code, path, raised.value.message)


async def test_calls_with_unknown_keys_cannot_fill_the_disk(harness: Harness) -> None:
    async def knock(count: int) -> None:
        for _ in range(count):
            with pytest.raises(Unauthorized):
                await harness.intake.accept(track_call(call="batch", body=batch(GOOD), authorization="Bearer unknown"))

    await knock(25)
    assert len(await harness.log_entries()) == 10
    harness.clock.advance(1)
    await knock(3)
    assert len(await harness.log_entries()) == 13
    harness.clock.advance(-5)
    await knock(1)
    assert len(await harness.log_entries()) == 14, "a clock that is set back does not stop it"


async def test_rejected_calls_with_a_known_key_are_all_kept(harness: Harness, source: Connection) -> None:
    for _ in range(25):
        with pytest.raises(BadRequest):
            await harness.send(source, b"{")
    assert len(await harness.log_entries()) == 25


# --- When it cannot be stored -------------------------------------------------------------------------------------


class FullLog(SqliteEventLog):
    """A log that is full."""

    error: HeadwaterError = Unavailable("the event log cannot be written")

    async def append(self, entry: LogEntry) -> int:
        raise self.error


@pytest.mark.parametrize("error", [Unavailable("no room"), TooManyRequests("too much waits")])
@pytest.mark.parametrize("body", [batch(GOOD), b"{"])
async def test_a_caller_learns_that_nothing_was_stored(
    harness: Harness, source: Connection, error: HeadwaterError, body: bytes
) -> None:
    """Calls that would be rejected are included, because their rejection could not be stored."""
    log = FullLog(harness.folder / "full.db", harness.clock)
    log.error = error
    intake = Intake(harness.catalog, log, harness.clock, Identifiers())
    try:
        with pytest.raises(type(error)):
            await intake.accept(
                track_call(call="batch", body=body, authorization=f"Bearer {source.event_write_keys[0]}")
            )
    finally:
        await log.close()


async def test_a_call_that_could_not_be_checked_is_not_stored_as_rejected(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away() -> None:
        raise Unavailable("the catalog's database does not respond")

    monkeypatch.setattr(harness.catalog, "refresh", away)
    with pytest.raises(Unavailable):
        await harness.intake.accept(track_call(call="batch", body=batch(GOOD), authorization="Bearer perhaps-new"))
    assert await harness.log_entries() == []


# --- For every body -----------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=st.one_of(
        st.binary(max_size=40),
        json_values.map(json.dumps).map(str.encode),
        st.lists(json_values, max_size=4).map(lambda events: json.dumps({"batch": events}).encode()),
    ),
    encoding=st.sampled_from([None, "gzip", "br"]),
    authorization=st.one_of(st.none(), st.sampled_from(["Bearer k", "Basic Og==", "Basic", "x"]), st.text(max_size=20)),
)
async def test_every_call_is_accepted_or_rejected(
    harness: Harness, body: bytes, encoding: str | None, authorization: str | None
) -> None:
    for call in ("batch", "track"):
        try:
            await harness.intake.accept(
                track_call(call=call, body=body, authorization=authorization, content_encoding=encoding)
            )
        except HeadwaterError as error:
            assert error.status in (400, 401, 413)


# --- Limits of how much may be sent -------------------------------------------------------------------------------


class Counted(Metrics):
    def __init__(self) -> None:
        self.rejected: list[tuple[str, str, int]] = []

    def events_rejected(self, protocol: str, code: str, events: int) -> None:
        self.rejected.append((protocol, code, events))


def limited(
    harness: Harness,
    metrics: Metrics = NO_METRICS,
    *,
    workspace: RateLimit | None = None,
    key: RateLimit | None = None,
) -> Intake:
    limiter = RateLimiter(harness.clock, workspace=workspace, key=key)
    return Intake(harness.catalog, harness.log, harness.clock, Identifiers(), metrics, limiter=limiter)


async def test_each_event_counts_stored_or_rejected(harness: Harness, source: Connection) -> None:
    intake = limited(harness, key=RateLimit(1, 5))
    key = f"Bearer {source.event_write_keys[0]}"
    receipt = await intake.accept(track_call(call="batch", body=batch(GOOD, BAD, GOOD), authorization=key))
    assert receipt.headers == {"ratelimit-limit": "5", "ratelimit-remaining": "2", "ratelimit-reset": "3"}
    with pytest.raises(BadRequest) as rejected:
        await intake.accept(track_call(call="batch", body=b"{", authorization=key))
    assert rejected.value.headers["ratelimit-remaining"] == "1", "what is kept takes room as well"


async def test_too_many_are_not_stored_and_counted(harness: Harness, source: Connection) -> None:
    metrics = Counted()
    intake = limited(harness, metrics, workspace=RateLimit(1, 2))
    call = track_call(call="batch", body=batch(GOOD, GOOD), authorization=f"Bearer {source.event_write_keys[0]}")
    await intake.accept(call)
    for again in (call, track_call(call="batch", body=b"{", authorization=call.authorization)):
        with pytest.raises(TooManyRequests) as rejected:
            await intake.accept(again)
        assert rejected.value.headers["ratelimit-remaining"] == "0"
    assert len(await harness.log_entries()) == 1
    assert metrics.rejected == [("track", "TooManyRequests", 2), ("track", "TooManyRequests", 1)]
    harness.clock.advance(2)
    assert (await intake.accept(call)).accepted == 2


async def test_a_call_that_could_never_pass_is_too_large(harness: Harness, source: Connection) -> None:
    intake = limited(harness, key=RateLimit(1000, 2))
    key = f"Bearer {source.event_write_keys[0]}"
    with pytest.raises(PayloadTooLarge):
        await intake.accept(track_call(call="batch", body=batch(GOOD, GOOD, GOOD), authorization=key))
    (envelope,) = await envelopes(harness)
    assert envelope.rejection is not None
    assert envelope.rejection.code == "PayloadTooLarge"


async def test_without_a_limit_nothing_is_said(harness: Harness, source: Connection) -> None:
    assert (await harness.send(source, batch(GOOD))).headers == {}


@pytest.mark.parametrize("protocol", ["track", "native"])
async def test_two_message_ids_that_differ_in_an_unpaired_surrogate_are_rejected_not_merged(
    harness: Harness, source: Connection, protocol: ProtocolName
) -> None:
    ids = [r"a\ud800", r"a\udfff", r"a\ufffd"]
    body = batch(*(GOOD[:-1] + b',"messageId":"%s"}' % id_.encode() for id_ in ids))
    call = "batch" if protocol == "track" else "events"
    receipt = await harness.intake.accept(IncomingCall(protocol, call, body, f"Bearer {source.event_write_keys[0]}"))
    rejection = Rejection("BadRequest", "messageId", "messageId contains an unpaired surrogate")
    assert receipt.rejections == [rejection, rejection, None]
    read = read_batch(await harness.log_entries())
    assert [arrival.event.message_id for arrival in read.accepted] == ["a\ufffd"]
    assert [(row.path, row.message) for row in read.rejected] == [(rejection.path, rejection.message)] * 2


NATIVE_EVENT = st.one_of(
    json_values,
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(["track", "page", "group", "nonsense"]),
            "userId": st.sampled_from(["u", "", 5, None]),
        },
        optional={
            "event": st.sampled_from(["E", ""]),
            "groupId": st.just("g"),
            "context": st.one_of(json_values, st.fixed_dictionaries({"screen": json_values, "ip": json_values})),
            "traits": json_values,
            "properties": json_values,
            "timestamp": st.sampled_from(["2026-11-22T12:00:00Z", "soon"]),
        },
    ),
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=st.one_of(
        NATIVE_EVENT,
        st.lists(NATIVE_EVENT, max_size=4),
        st.fixed_dictionaries(
            {"batch": st.lists(NATIVE_EVENT, max_size=4)},
            optional={"context": st.one_of(json_values, st.just({"page": {"url": "u"}})), "sentAt": json_values},
        ),
    )
)
async def test_the_worker_finds_what_the_intake_has_promised(
    harness: Harness, source: Connection, body: object
) -> None:
    """The native protocol has the most rules: the receipt has the accepted and the rejected events with their
    reasons."""
    before = await harness.log.last_position()
    call = IncomingCall("native", "events", json.dumps(body).encode(), f"Bearer {source.event_write_keys[0]}")
    try:
        receipt = await harness.intake.accept(call)
    except HeadwaterError as error:
        assert error.status in (400, 413)
        (rejected,) = read_batch(await harness.log_entries(before)).rejected
        assert (rejected.code, rejected.message) == (error.code, error.message)
        return
    batch = read_batch(await harness.log_entries(before))
    assert len(batch.accepted) == receipt.accepted
    assert [row.message for row in batch.rejected] == [
        rejection.message for rejection in receipt.rejections if rejection
    ]
