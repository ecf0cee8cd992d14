"""Responses that no vendor documents: each event has a result, and an error delivers none."""

import asyncio
from functools import cache
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.connectors.contract import EncodedEvent, EventSink, HttpResponse, Outcome
from headwater.connectors.contract.results import MAX_MESSAGE_CHARACTERS
from tests.connectors.conformance.context import NOW, ScriptedHttp
from tests.connectors.conformance.event_sink import FIRST
from tests.connectors.test_recorded_bodies import CODES, documents, find_suite, groups, make_sink, prepare
from tests.connectors.vendors.server import CALM, VendorServer
from tests.virtualtime import START

MEMBERS = (
    "code",
    "error",
    "error_subcode",
    "errors",
    "events_ingested",
    "events_received",
    "events_with_invalid_fields",
    "failed_records",
    "id",
    "index",
    "is_transient",
    "message",
    "messages",
    "num_records_imported",
    "quota_limited",
    "results",
    "silenced_events",
    "source",
    "status",
    "throttled_events",
)
"""Names of members that vendors use in their responses."""
ERRORS = (301, 404, 500, 503)

scalars = (
    st.none() | st.booleans() | st.integers(-2, 5) | st.floats() | st.sampled_from(("Ok", "ok", "success", "", "7"))
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(MEMBERS), inner, max_size=4),
    max_leaves=12,
)
pages = st.sampled_from((b"<html>", b"[" * 3_000))
bodies = values.map(lambda value: msgspec.json.encode(value)) | st.binary(max_size=40) | pages


@cache
def case(code: str) -> tuple[EventSink, ScriptedHttp, list[EncodedEvent]]:
    """Return a sink, its client, and valid events for one request: several, if a request can have several."""
    suite = find_suite(code)
    server: VendorServer = suite.make_server(CALM, lambda: (NOW - START).total_seconds())
    sink, http = make_sink(suite, server), ScriptedHttp()

    async def find() -> list[EncodedEvent]:
        found: list[EncodedEvent] = []
        for number, type_ in enumerate(await sink.event_types()):
            prepared = await prepare(sink, type_, number, documents())
            requests = groups(sink, [each for each in prepared if isinstance(each, EncodedEvent)])
            found = max([found, *requests], key=len)
        return found

    events = asyncio.run(find())
    return make_sink(suite, server, http), http, events


@pytest.mark.parametrize("code", CODES)
@given(status=st.sampled_from((200, 202, 204, 207, 400, 401, 413, 422, 429, *ERRORS)), body=bodies, cuts=st.booleans())
@settings(max_examples=60, deadline=None)
def test_each_event_has_a_result(code: str, status: int, body: bytes, cuts: bool) -> None:
    sink, http, events = case(code)
    response = HttpResponse(status=status, body=body[: len(body) // 2] if cuts else body, is_cut=cuts)
    http.respond = lambda _: response
    result: Any = asyncio.run(sink.send(sink.request(events, FIRST), events))
    assert len(result.items) == len(events)
    delivered = sum(item.outcome is Outcome.DELIVERED for item in result.items)
    assert not delivered or (result.failure is None and status not in ERRORS)
    assert all(item.reason or item.outcome in (Outcome.DELIVERED, Outcome.NOT_ATTEMPTED) for item in result.items)
    assert all(len(item.message) <= MAX_MESSAGE_CHARACTERS for item in result.items)
    if result.failure is not None:
        assert len(result.failure.message) <= MAX_MESSAGE_CHARACTERS and result.failure.reason
