"""Each event has one outcome, whatever a destination responds, and every wait is bounded."""

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.connectors.contract import (
    EncodedEvent,
    Failure,
    FailureScope,
    HttpResponse,
    ItemResult,
    Outcome,
    TransportError,
    TransportFailure,
    rejected,
)
from headwater.connectors.responses import (
    MAX_WAIT_SECONDS,
    NOT_TAKEN,
    STATUS_ONLY,
    RequestFailed,
    ResponseRules,
    credentials_refused,
    read_response,
    read_text,
    reject_named,
    transport_failure,
)
from tests.connectors.axes import DESTINATIONS

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
HEADERS = sorted({wait.header for one in DESTINATIONS for wait in one.rules.waits} | {"ratelimit-remaining"})
HEADERS += ["ratelimit-reset"]

values = st.one_of(
    st.text(max_size=20),
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(["", "0", "Mon, 04 May 2026 12:02:00 GMT", "Mon, 99 May 2026", "Mon, 04 May 9999 12:02:00 -9999"]),
    st.sampled_from(
        ["1.\xb2", "\xb2", f"Mon, 04 May {'9' * 20} 12:02:00 GMT", f"Mon, 04 May 2026 12:02:00 +{'9' * 14}"]
    ),
)
members = st.sampled_from(["status", "accepted", "processed", "errors", "index", "id", "pointer", "code", "message"])
texts = st.sampled_from(["ok", "/data/0", "/data/", "e0", "throttled", "a"])
scalars = st.one_of(st.none(), st.booleans(), st.integers(-2, 9), st.floats(allow_nan=False), texts)
documents = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(members, inner, max_size=5), max_leaves=20
)
bodies = st.binary(max_size=40) | documents.map(msgspec.json.encode)
responses = st.builds(
    HttpResponse,
    status=st.sampled_from([200, 201, 204, 207, 299, 400, 413, 429]) | st.integers(100, 599),
    headers=st.dictionaries(st.sampled_from(HEADERS), values, max_size=3),
    body=bodies,
)


@given(
    rules=st.sampled_from([STATUS_ONLY, *(one.rules for one in DESTINATIONS)]),
    response=responses,
    counts=st.lists(st.integers(1, 3), min_size=1, max_size=4),
)
def test_every_event_has_one_outcome(rules: ResponseRules, response: HttpResponse, counts: list[int]) -> None:
    events = [EncodedEvent(id=f"e{number}", body=b"{}", count=count) for number, count in enumerate(counts)]
    result = read_response(response, events, rules, NOW)
    outcomes = [item.outcome for item in result.items]
    assert len(outcomes) == len(events) and result.status == response.status
    if result.failure is None:
        assert Outcome.NOT_ATTEMPTED not in outcomes
        assert 200 <= response.status < 300 or response.status in rules.item_statuses
    else:
        assert set(outcomes) == {Outcome.NOT_ATTEMPTED}
        assert result.failure.reason and not 200 <= response.status < 300
    for item in result.items:
        assert bool(item.reason) is (item.outcome in (Outcome.REJECTED, Outcome.RETRY))
        assert len(item.message) <= 1_000
    waits = [result.pause_seconds, None if result.failure is None else result.failure.retry_after_seconds]
    assert all(wait is None or 0 <= wait <= MAX_WAIT_SECONDS for wait in waits)


@pytest.mark.parametrize(
    ("status", "scope"),
    [
        *[(status, FailureScope.BATCH) for status in (400, 413, 415, 422)],
        (401, FailureScope.CREDENTIALS),
        (410, FailureScope.CLOSED),
        *[
            (status, FailureScope.DESTINATION)
            for status in (100, 301, 403, 404, 405, 407, 408, 421, 425, 429, 500, 599)
        ],
    ],
)
def test_the_scope_of_each_status(status: int, scope: FailureScope) -> None:
    result = read_response(HttpResponse(status=status), [EncodedEvent(id="1", body=b"")], STATUS_ONLY, NOW)
    assert result.failure is not None and result.failure.scope is scope


def test_a_body_can_state_that_the_credentials_are_refused() -> None:
    def read(response: HttpResponse, events: Sequence[EncodedEvent]) -> Sequence[ItemResult]:
        raise credentials_refused(response)

    rules = ResponseRules(items=read, item_statuses=frozenset({400}))
    result = read_response(HttpResponse(status=400, body=b"bad key"), [EncodedEvent(id="1", body=b"")], rules, NOW)
    assert result.failure is not None and result.failure.scope is FailureScope.CREDENTIALS
    assert (result.failure.reason, result.failure.message) == ("Status400", "bad key")


@pytest.mark.parametrize("failure", TransportFailure)
def test_only_what_a_user_must_change_closes_the_destination(failure: TransportFailure) -> None:
    found = transport_failure(TransportError(failure, "text"))
    is_closed = failure in (TransportFailure.ADDRESS_FORBIDDEN, TransportFailure.AUTHORIZATION_REVOKED)
    assert found.scope is (FailureScope.CLOSED if is_closed else FailureScope.DESTINATION)
    assert (found.reason, found.message) == (failure.value, "text")


def test_a_destination_can_have_its_own_statuses() -> None:
    rules = ResponseRules(batch=frozenset({409}), closed=frozenset({404}), others=FailureScope.BATCH)
    responses = [HttpResponse(status=status) for status in (409, 404, 410, 418, 503)]
    failures = [read_response(response, [], rules, NOW).failure for response in responses]
    assert [failure and failure.scope for failure in failures] == [
        FailureScope.BATCH,
        FailureScope.CLOSED,
        FailureScope.BATCH,
        FailureScope.BATCH,
        FailureScope.DESTINATION,
    ]


def test_texts_of_destinations_are_one_line() -> None:
    body = b"  line\r\nnext\x00\x1b[31m \xff" + b"x" * 5_000
    text = read_text(HttpResponse(status=500, body=body))
    assert text.startswith("line  next") and text.isprintable() and len(text) <= 1_000


def test_a_request_that_is_refused_for_some_events_is_sent_again_without_them() -> None:
    events = [EncodedEvent(id=str(number), body=b"") for number in range(3)]
    assert reject_named(events, {1: rejected("Invalid")}) == [NOT_TAKEN, rejected("Invalid"), NOT_TAKEN]

    def read(response: HttpResponse, events: Sequence[EncodedEvent]) -> Sequence[ItemResult]:
        return reject_named(events, {1: rejected("Invalid")} if response.body else {})

    rules = ResponseRules(items=read, item_statuses=frozenset({400}))
    named = read_response(HttpResponse(status=400, body=b"1"), events, rules, NOW)
    assert named.failure is None and named.items[0] == NOT_TAKEN
    for response in (HttpResponse(status=400), HttpResponse(status=400, body=b"1", is_cut=True)):
        unnamed = read_response(response, events, rules, NOW)
        assert unnamed.failure is not None and unnamed.failure.scope is FailureScope.BATCH


def test_the_body_of_a_success_may_state_that_nothing_was_taken() -> None:
    failure = Failure(scope=FailureScope.DESTINATION, reason="QuotaExceeded", retry_after_seconds=60.0)

    def read(_response: HttpResponse, _events: Sequence[EncodedEvent]) -> Sequence[ItemResult]:
        raise RequestFailed(failure)

    events = [EncodedEvent(id=f"e{number}", body=b"{}") for number in range(3)]
    result = read_response(HttpResponse(status=200), events, ResponseRules(items=read), NOW)
    assert (result.failure, result.status) == (failure, 200)
    assert [each.outcome for each in result.items] == [Outcome.NOT_ATTEMPTED] * 3
