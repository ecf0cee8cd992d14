"""From the bytes of a call to the log: what is appended, what is kept as refused, what the caller learns."""

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
from headwater.log import Frame, SqliteEventLog
from headwater.events import DialectName, Envelope, Refusal
from headwater.events.envelope import decode_envelope
from headwater.intake import IncomingCall, Intake, RateLimit, RateLimiter
from headwater.management.connections import CreateConnection, create_connection
from headwater.management.event_write_keys import create_event_write_key
from headwater.processing.batch import read_batch
from tests.jsontexts import json_values
from tests.parts import NOW, OpenParts, client_call, open_parts, track_call

GOOD = b'{"type":"track","event":"e","userId":"u"}'
BAD = b'{"type":"track","userId":"u"}'


def batch(*events: bytes) -> bytes:
    return b'{"batch":[' + b",".join(events) + b"]}"


async def envelopes(parts: OpenParts) -> list[Envelope]:
    return [decode_envelope(stored.frame.header) for stored in await parts.frames()]


# --- Accepting ----------------------------------------------------------------------------------------------------


async def test_a_call_is_one_frame_of_its_own_bytes(parts: OpenParts, source: Connection) -> None:
    body = b' {"batch": [' + GOOD + b" ," + BAD + b'], "sentAt":"2026-01-01"} '
    key = base64.b64encode(f"{source.event_write_keys[0]}:".encode()).decode()
    receipt = await parts.intake.accept(
        track_call(
            call="batch",
            body=body,
            authorization=f"Basic {key}",
            ip="203.0.113.9",
            user_agent="analytics-python/2.4.0",
        )
    )
    assert receipt.refusals == [None, Refusal("BadRequest", "event", "event is required in a track event")]
    assert receipt.accepted == 1
    (stored,) = await parts.frames()
    assert (stored.frame.events, stored.frame.body) == (2, body)
    envelope = decode_envelope(stored.frame.header)
    assert len(envelope.nonce) == 16
    assert envelope == Envelope(
        "track",
        "batch",
        parts.workspace,
        source.id,
        microseconds(NOW),
        envelope.nonce,
        "203.0.113.9",
        "analytics-python/2.4.0",
        refused={1: Refusal("BadRequest", "event", "event is required in a track event")},
    )


@pytest.mark.parametrize(
    ("connector", "strategy", "is_client_side"),
    [("javascript", "Conversion", True), ("http", None, False), ("client", None, False)],
)
async def test_only_a_source_whose_calls_can_decline_it_gets_the_address_of_the_person(
    parts: OpenParts, connector: str, strategy: str | None, is_client_side: bool
) -> None:
    request = CreateConnection(name="Shop", role="Source", connector=connector, strategy=strategy)
    made = parts.catalog.connection(
        parts.workspace, (await create_connection(parts.catalog, parts.workspace, request)).id
    )
    assert made is not None
    (key,) = made.event_write_keys
    if connector == "client":
        body = b'[{"name":"e","anonymous_id":"a"}]'
        await parts.intake.accept(client_call(call="events", body=body, key=key))
    else:
        await parts.intake.accept(track_call(call="track", body=GOOD, authorization=f"Bearer {key}"))
    (envelope,) = await envelopes(parts)
    assert envelope.is_client_side is is_client_side


async def test_gzip_is_stored_inflated(parts: OpenParts, source: Connection) -> None:
    key = source.event_write_keys[0]
    call = track_call(
        call="page",
        body=gzip.compress(b'{"userId":"u"}'),
        authorization=f"Bearer {key}",
        content_encoding="gzip",
    )
    assert (await parts.intake.accept(call)).accepted == 1
    (stored,) = await parts.frames()
    assert stored.frame.body == b'{"userId":"u"}'


async def test_what_was_answered_is_on_the_disk(parts: OpenParts, source: Connection) -> None:
    await parts.send(source, batch(GOOD))
    reader = SqliteEventLog(parts.folder / "log.db", parts.clock)
    try:
        assert len(await reader.read(0, max_bytes=1, wait=timedelta(0))) == 1
    finally:
        await reader.close()


async def test_an_empty_batch_is_accepted_and_leaves_nothing(parts: OpenParts, source: Connection) -> None:
    assert (await parts.send(source, batch())).refusals == []
    assert await parts.frames() == []


async def test_every_call_has_a_nonce_of_its_own(parts: OpenParts, source: Connection) -> None:
    await asyncio.gather(*(parts.send(source, batch(GOOD)) for _ in range(20)))
    assert len({envelope.nonce for envelope in await envelopes(parts)}) == 20


# --- Keys ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "body"),
    [
        ("page", b'{"userId":"u","writeKey":"KEY"}'),
        ("batch", b'{"batch":[],"writeKey":"KEY"}'),
        ("batch", b'{"batch":[{"type":"page","userId":"u","writeKey":"KEY"}]}'),
    ],
)
async def test_the_body_may_bring_the_key(parts: OpenParts, source: Connection, call: str, body: bytes) -> None:
    body = body.replace(b"KEY", source.event_write_keys[0].encode())
    receipt = await parts.intake.accept(track_call(call=call, body=body))
    assert set(receipt.refusals) <= {None}


async def test_the_header_comes_before_the_body(parts: OpenParts, source: Connection) -> None:
    body = b'{"userId":"u","writeKey":"%s"}' % source.event_write_keys[0].encode()
    with pytest.raises(Unauthorized, match="the write key is not known"):
        await parts.intake.accept(track_call(call="page", body=body, authorization="Bearer unknown"))


@pytest.mark.parametrize(
    ("authorization", "message"),
    [
        (None, "a write key is required: as Basic user, as Bearer token, or as writeKey in the body"),
        ("Bearer ", "a write key is required: as Basic user, as Bearer token, or as writeKey in the body"),
        ("Bearer unknown", "the write key is not known"),
        ("Basic unknown", "the write key is not known"),
        ("Digest x", "the Authorization header must be 'Basic' with the write key as user, or 'Bearer'"),
    ],
)
async def test_a_call_without_a_known_key_is_unauthorized_and_kept(
    parts: OpenParts, authorization: str | None, message: str
) -> None:
    with pytest.raises(Unauthorized) as raised:
        await parts.intake.accept(track_call(call="batch", body=batch(GOOD, GOOD), authorization=authorization))
    assert raised.value.message == message
    (envelope,) = await envelopes(parts)
    assert (envelope.workspace, envelope.connection) == (0, 0)
    assert envelope.refusal == Refusal("Unauthorized", "", message)


async def test_a_key_that_another_process_made_is_known_at_once(parts: OpenParts, source: Connection) -> None:
    async with open_parts(parts.folder, parts.clock) as other:
        key = await create_event_write_key(other.catalog, parts.workspace, source.id)
    assert (
        await parts.intake.accept(track_call(call="batch", body=batch(GOOD), authorization=f"Bearer {key}"))
    ).accepted == 1


# --- Refusing a whole call ----------------------------------------------------------------------------------------


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
        ("page", gzip.compress(bytes(40_000)), "gzip", "PayloadTooLarge", ""),
        ("batch", b'{"batch":[' + b"0," * 20_000 + b"0]}", None, "PayloadTooLarge", "batch"),
    ],
    ids=lambda value: str(value)[:20],
)
async def test_a_refused_call_is_kept_with_its_reason(
    parts: OpenParts, source: Connection, call: str, body: bytes, encoding: str | None, code: str, path: str
) -> None:
    key = source.event_write_keys[0]
    with pytest.raises((BadRequest, PayloadTooLarge)) as raised:
        await parts.intake.accept(
            track_call(call=call, body=body, authorization=f"Bearer {key}", content_encoding=encoding)
        )
    (stored,) = await parts.frames()
    envelope = decode_envelope(stored.frame.header)
    assert (stored.frame.events, stored.frame.body) == (1, body[: 64 * 1024])
    assert (envelope.call, envelope.workspace, envelope.connection) == (call, parts.workspace, source.id)
    assert envelope.refusal == Refusal(code, path, raised.value.message)


async def test_calls_with_unknown_keys_cannot_fill_the_disk(parts: OpenParts) -> None:
    async def knock(count: int) -> None:
        for _ in range(count):
            with pytest.raises(Unauthorized):
                await parts.intake.accept(track_call(call="batch", body=batch(GOOD), authorization="Bearer unknown"))

    await knock(25)
    assert len(await parts.frames()) == 10
    parts.clock.advance(1)
    await knock(3)
    assert len(await parts.frames()) == 13
    parts.clock.advance(-5)
    await knock(1)
    assert len(await parts.frames()) == 14, "a clock that is set back does not stop it"


async def test_refused_calls_with_a_known_key_are_all_kept(parts: OpenParts, source: Connection) -> None:
    for _ in range(25):
        with pytest.raises(BadRequest):
            await parts.send(source, b"{")
    assert len(await parts.frames()) == 25


# --- When it cannot be stored -------------------------------------------------------------------------------------


class FullLog(SqliteEventLog):
    """A log that has no room."""

    error: HeadwaterError = Unavailable("the event log cannot be written")

    async def append(self, frame: Frame) -> int:
        raise self.error


@pytest.mark.parametrize("error", [Unavailable("no room"), TooManyRequests("too much waits")])
@pytest.mark.parametrize("body", [batch(GOOD), b"{"])
async def test_a_caller_learns_that_nothing_was_stored(
    parts: OpenParts, source: Connection, error: HeadwaterError, body: bytes
) -> None:
    """Even of a call that would be refused: its refusal could not be kept."""
    log = FullLog(parts.folder / "full.db", parts.clock)
    log.error = error
    intake = Intake(parts.catalog, log, parts.clock, Identifiers())
    try:
        with pytest.raises(type(error)):
            await intake.accept(
                track_call(call="batch", body=body, authorization=f"Bearer {source.event_write_keys[0]}")
            )
    finally:
        await log.close()


async def test_a_call_that_could_not_be_judged_is_not_kept_as_refused(
    parts: OpenParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away() -> None:
        raise Unavailable("the catalog's database does not answer")

    monkeypatch.setattr(parts.catalog, "refresh", away)
    with pytest.raises(Unavailable):
        await parts.intake.accept(track_call(call="batch", body=batch(GOOD), authorization="Bearer perhaps-new"))
    assert await parts.frames() == []


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
async def test_every_call_is_accepted_or_refused(
    parts: OpenParts, body: bytes, encoding: str | None, authorization: str | None
) -> None:
    for call in ("batch", "track"):
        try:
            await parts.intake.accept(
                track_call(call=call, body=body, authorization=authorization, content_encoding=encoding)
            )
        except HeadwaterError as error:
            assert error.status in (400, 401, 413)


# --- Limits of how much may be sent -------------------------------------------------------------------------------


class Counted(Metrics):
    def __init__(self) -> None:
        self.refused: list[tuple[str, str, int]] = []

    def events_refused(self, dialect: str, code: str, events: int) -> None:
        self.refused.append((dialect, code, events))


def limited(
    parts: OpenParts,
    metrics: Metrics = NO_METRICS,
    *,
    workspace: RateLimit | None = None,
    key: RateLimit | None = None,
) -> Intake:
    limiter = RateLimiter(parts.clock, workspace=workspace, key=key)
    return Intake(parts.catalog, parts.log, parts.clock, Identifiers(), metrics, limiter=limiter)


async def test_each_event_counts_stored_or_refused(parts: OpenParts, source: Connection) -> None:
    intake = limited(parts, key=RateLimit(1, 5))
    key = f"Bearer {source.event_write_keys[0]}"
    receipt = await intake.accept(track_call(call="batch", body=batch(GOOD, BAD, GOOD), authorization=key))
    assert receipt.headers == {"ratelimit-limit": "5", "ratelimit-remaining": "2", "ratelimit-reset": "3"}
    with pytest.raises(BadRequest) as refused:
        await intake.accept(track_call(call="batch", body=b"{", authorization=key))
    assert refused.value.headers["ratelimit-remaining"] == "1", "what is kept takes room as well"


async def test_too_many_are_not_stored_and_counted(parts: OpenParts, source: Connection) -> None:
    metrics = Counted()
    intake = limited(parts, metrics, workspace=RateLimit(1, 2))
    call = track_call(call="batch", body=batch(GOOD, GOOD), authorization=f"Bearer {source.event_write_keys[0]}")
    await intake.accept(call)
    for again in (call, track_call(call="batch", body=b"{", authorization=call.authorization)):
        with pytest.raises(TooManyRequests) as refused:
            await intake.accept(again)
        assert refused.value.headers["ratelimit-remaining"] == "0"
    assert len(await parts.frames()) == 1
    assert metrics.refused == [("track", "TooManyRequests", 2), ("track", "TooManyRequests", 1)]
    parts.clock.advance(2)
    assert (await intake.accept(call)).accepted == 2


async def test_a_call_that_could_never_pass_is_too_large(parts: OpenParts, source: Connection) -> None:
    intake = limited(parts, key=RateLimit(1000, 2))
    key = f"Bearer {source.event_write_keys[0]}"
    with pytest.raises(PayloadTooLarge):
        await intake.accept(track_call(call="batch", body=batch(GOOD, GOOD, GOOD), authorization=key))
    (envelope,) = await envelopes(parts)
    assert envelope.refusal is not None
    assert envelope.refusal.code == "PayloadTooLarge"


async def test_without_a_limit_nothing_is_said(parts: OpenParts, source: Connection) -> None:
    assert (await parts.send(source, batch(GOOD))).headers == {}


@pytest.mark.parametrize("dialect", ["track", "native"])
async def test_two_message_ids_that_differ_in_an_unpaired_surrogate_are_refused_not_merged(
    parts: OpenParts, source: Connection, dialect: DialectName
) -> None:
    ids = [r"a\ud800", r"a\udfff", r"a\ufffd"]
    body = batch(*(GOOD[:-1] + b',"messageId":"%s"}' % id_.encode() for id_ in ids))
    call = "batch" if dialect == "track" else "events"
    receipt = await parts.intake.accept(IncomingCall(dialect, call, body, f"Bearer {source.event_write_keys[0]}"))
    refusal = Refusal("BadRequest", "messageId", "messageId contains an unpaired surrogate")
    assert receipt.refusals == [refusal, refusal, None]
    read = read_batch(await parts.frames())
    assert [arrival.event.message_id for arrival in read.arrivals] == ["a\ufffd"]
    assert [(row.path, row.message) for row in read.rejected] == [(refusal.path, refusal.message)] * 2


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
    parts: OpenParts, source: Connection, body: object
) -> None:
    """Of the native dialect, which has the most rules: what was accepted, what was refused and why, and no more."""
    before = await parts.log.last_position()
    call = IncomingCall("native", "events", json.dumps(body).encode(), f"Bearer {source.event_write_keys[0]}")
    try:
        receipt = await parts.intake.accept(call)
    except HeadwaterError as error:
        assert error.status in (400, 413)
        (rejected,) = read_batch(await parts.frames(before)).rejected
        assert (rejected.code, rejected.message) == (error.code, error.message)
        return
    batch = read_batch(await parts.frames(before))
    assert len(batch.arrivals) == receipt.accepted
    assert [row.message for row in batch.rejected] == [refusal.message for refusal in receipt.refusals if refusal]
