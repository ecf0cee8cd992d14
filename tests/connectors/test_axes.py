"""The contract expresses every axis of the thirteen destinations, and each of them passes the suite of event sinks."""

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, get_args

import msgspec
import pytest

from headwater.connectors.contract import (
    ConnectorContext,
    EncodedEvent,
    EventSink,
    FailureScope,
    HttpResponse,
    Outcome,
    OutgoingEvent,
    SendResult,
    rejected,
)
from headwater.connectors.contract.policy import IdempotencyForm, Order, Overflow, RequestScope
from headwater.connectors.responses import UnexpectedResponse, results_by_index
from tests.connectors.axes import DESTINATIONS, AxesSettings, AxesSink, Destination, ResponseForm
from tests.connectors.conformance.context import NOW, ScriptedHttp, make_context
from tests.connectors.conformance.event_sink import FIRST, SECOND, EventSinkConformance, make_event

SETTINGS = AxesSettings(token="a-secret-token")
BY_NAME = {destination.name: destination for destination in DESTINATIONS}
SUCCESS = {
    "Status": b"",
    "Index": b'{"status":"ok"}',
    "Id": b'{"accepted":%d}',
    "Pointer": b'{"errors":[]}',
    "Counts": b'{"processed":%d}',
}


def _success(destination: Destination, count: int) -> HttpResponse:
    body = SUCCESS[destination.form]
    return HttpResponse(status=200, body=body % count if b"%d" in body else body)


def _mixed(destination: Destination, events: Sequence[EncodedEvent], code: str = "invalid") -> HttpResponse | None:
    error = {"index": 0, "id": events[0].id, "pointer": "/data/0/email", "code": code, "message": "no"}
    if destination.form in ("Status", "Counts"):
        return None
    body = {"status": "ok", "accepted": len(events) - 1, "errors": [error]}
    status = 207 if destination.form == "Id" else 400
    return HttpResponse(status=status, body=msgspec.json.encode(body))


class Axes(EventSinkConformance):
    """The suite for one row."""

    DESTINATION: Destination
    SECRETS = (SETTINGS.token,)

    def make(self, context: ConnectorContext) -> EventSink:
        return AxesSink(self.DESTINATION, SETTINGS, context)

    def event(self, number: int) -> OutgoingEvent:
        return make_event(number)

    def unacceptable(self) -> Sequence[OutgoingEvent]:
        nobody = [make_event(1, user_id=each, anonymous_id="") for each in ("", "null", "0", "undefined")]
        limit = self.DESTINATION.policy.limits.max_event_bytes
        large = [] if limit is None else [make_event(1, document=b'"%s"' % (b"x" * limit))]
        return [*nobody, *large]

    def success(self, events: Sequence[EncodedEvent]) -> HttpResponse:
        return _success(self.DESTINATION, len(events))

    def mixed(self, events: Sequence[EncodedEvent]) -> HttpResponse | None:
        return _mixed(self.DESTINATION, events)


def _suite(destination: Destination) -> type[Axes]:
    members = {"DESTINATION": destination, "STATUS_ONLY": destination.form == "Status"}
    return type(f"Test{destination.name.capitalize()}", (Axes,), members)


for _destination in DESTINATIONS:
    globals()[f"Test{_destination.name.capitalize()}"] = _suite(_destination)


def test_the_table_has_thirteen_destinations() -> None:
    assert len(BY_NAME) == 13


@pytest.mark.parametrize(
    ("axis", "values"),
    [
        (lambda one: [one.policy.scope], get_args(RequestScope)),
        (lambda one: [one.policy.order], get_args(Order)),
        (lambda one: [one.policy.overflow], get_args(Overflow)),
        (lambda one: [one.policy.idempotency.form], get_args(IdempotencyForm)),
        (lambda one: [one.policy.idempotency.needs_equal_time], (False, True)),
        (lambda one: [one.policy.idempotency.uses_message_id], (False, True)),
        (lambda one: [one.form], get_args(ResponseForm)),
        (
            lambda one: [wait.form for wait in one.rules.waits],
            ("SecondsOrDate", "Seconds", "Milliseconds", "UnixSeconds"),
        ),
        (lambda one: [bool(one.rules.waits)], (False, True)),
        (lambda one: [one.rules.default_wait_seconds is None], (False, True)),
        (lambda one: [one.rules.pause is None], (False, True)),
        (lambda one: [rate.window for rate in one.policy.rates], ("Rolling", "Fixed")),
        (lambda one: [rate.per for rate in one.policy.rates], ("Account", "User")),
        (lambda one: [rate.unit for rate in one.policy.rates], ("Request", "Event")),
        (lambda one: [min(len(one.policy.rates), 2)], (0, 1, 2)),
        (lambda one: [one.policy.max_age_seconds], (None, 259_200.0, 604_800.0)),
        (lambda one: [one.policy.max_future_seconds is None], (False, True)),
        (lambda one: [one.policy.version and one.policy.version.ends_on is None], (None, False, True)),
        (lambda one: [one.policy.limits.max_bytes is None], (False, True)),
        (lambda one: [one.policy.limits.max_event_bytes is None], (False, True)),
        (lambda one: [one.signed], (False, True)),
    ],
)
def test_every_value_of_an_axis_occurs(axis: Any, values: tuple[object, ...]) -> None:
    assert {value for one in DESTINATIONS for value in axis(one)} == set(values)


async def _exchange(name: str, response: HttpResponse, count: int = 3) -> SendResult:
    http = ScriptedHttp(lambda _: response)
    sink = AxesSink(BY_NAME[name], SETTINGS, make_context(http))
    events = [sink.encode(make_event(number)) for number in range(1, count + 1)]
    return await sink.send(sink.request(events, FIRST), events)


@pytest.mark.parametrize(
    ("name", "headers", "seconds"),
    [
        ("webhook", {"retry-after": "120"}, 120.0),
        ("webhook", {"retry-after": "Mon, 04 May 2026 12:02:00 GMT"}, 120.0),
        ("webhook", {"retry-after": "Mon, 04 May 2026 11:00:00 GMT"}, 0.0),
        ("webhook", {"retry-after": "99999999"}, 3_600.0),
        ("webhook", {"retry-after": "soon"}, None),
        ("webhook", {"retry-after": "-5"}, None),
        ("webhook", {"retry-after": "1" * 400}, None),
        ("webhook", {}, None),
        ("mixpanel", {"retry-after": "120"}, 2.0),
        ("amplitude", {}, 30.0),
        ("hubspot", {"x-hubspot-ratelimit-interval-milliseconds": "10000"}, 10.0),
        ("hubspot", {"retry-after": "7", "x-hubspot-ratelimit-interval-milliseconds": "10000"}, 7.0),
        ("braze", {"x-ratelimit-retry-after": "1.5", "retry-after": "9"}, 1.5),
        ("meta", {"x-reset-at": str(int(NOW.timestamp()) + 90)}, 90.0),
    ],
)
async def test_the_wait_is_read_from_each_place(name: str, headers: dict[str, str], seconds: float | None) -> None:
    result = await _exchange(name, HttpResponse(status=429, headers=headers), 1)
    assert result.failure is not None and result.failure.scope is FailureScope.DESTINATION
    assert result.failure.retry_after_seconds == seconds


async def test_a_limit_that_is_used_up_pauses_after_a_success() -> None:
    headers = {"ratelimit-remaining": "0", "ratelimit-reset": "12"}
    result = await _exchange("klaviyo", HttpResponse(status=202, headers=headers, body=b'{"errors":[]}'))
    assert (result.failure, result.pause_seconds) == (None, 12.0)
    headers["ratelimit-remaining"] = "1"
    result = await _exchange("klaviyo", HttpResponse(status=202, headers=headers, body=b'{"errors":[]}'))
    assert result.pause_seconds is None


@pytest.mark.parametrize("name", [one.name for one in DESTINATIONS if one.form in ("Index", "Id", "Pointer")])
async def test_one_throttled_user_does_not_delay_others(name: str) -> None:
    sink = AxesSink(BY_NAME[name], SETTINGS, make_context())
    response = _mixed(BY_NAME[name], [sink.encode(make_event(number)) for number in (1, 2, 3)], "throttled")
    assert response is not None
    result = await _exchange(name, response)
    assert [item.outcome for item in result.items] == [Outcome.RETRY, Outcome.DELIVERED, Outcome.DELIVERED]
    assert result.items[0].retry_after_seconds == 30.0


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("hubspot", b'{"accepted":2}'),
        ("hubspot", b'{"accepted":3,"errors":[{"id":"unknown"}]}'),
        ("hubspot", b'{"accepted":0}'),
        ("hubspot", b"{}"),
        ("braze", b'{"processed":2}'),
        ("braze", b'{"processed":true}'),
        ("braze", b'{"processed":"3"}'),
        ("klaviyo", b'{"errors":[{"pointer":"/data/7/x"}]}'),
        ("klaviyo", b'{"errors":[{"pointer":"/data"}]}'),
        ("mixpanel", b'{"status":"ok","errors":[{"index":-1}]}'),
        ("mixpanel", b'{"status":"ok","errors":[{}]}'),
        ("mixpanel", b'{"status":"ok","errors":{}}'),
    ],
)
async def test_a_response_that_does_not_account_for_every_event(name: str, body: bytes) -> None:
    result = await _exchange(name, HttpResponse(status=200, body=body))
    assert {(item.outcome, item.reason) for item in result.items} == {(Outcome.RETRY, "UnexpectedResponse")}


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("webhook", r"[0-9a-f]{32}"),
        ("segment", r"message-1"),
        ("posthog", r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
        ("customerio", r"[0-9A-HJKMNP-TV-Z]{26}"),
    ],
)
def test_the_key_has_the_form_of_the_destination(name: str, pattern: str) -> None:
    sink = AxesSink(BY_NAME[name], SETTINGS, make_context())
    assert re.fullmatch(pattern, sink.encode(make_event(1)).id)


def test_events_of_different_routes_are_distinguished() -> None:
    posthog = AxesSink(BY_NAME["posthog"], SETTINGS, make_context())
    assert posthog.encode(make_event(1)).route == "live"
    assert posthog.encode(make_event(1, timestamp=NOW - timedelta(days=3))).route == "historical"
    mixpanel = AxesSink(BY_NAME["mixpanel"], SETTINGS, make_context())
    assert {mixpanel.encode(make_event(1, type=type_)).route for type_ in ("track", "identify")} == {
        "events",
        "profiles",
    }


def test_a_signature_is_that_of_the_attempt() -> None:
    sink = AxesSink(BY_NAME["webhook"], SETTINGS, make_context())
    events = [sink.encode(make_event(1))]
    first, second = sink.request(events, FIRST), sink.request(events, SECOND)
    assert (first.body, first.headers["webhook-id"]) == (second.body, second.headers["webhook-id"])
    assert first.headers["webhook-timestamp"] != second.headers["webhook-timestamp"]
    assert first.headers["webhook-signature"] != second.headers["webhook-signature"]


def test_versions_of_rows_have_not_ended() -> None:
    for one in DESTINATIONS:
        version = one.policy.version
        assert version is None or version.ends_on is None or version.ends_on > NOW.date()


def test_an_event_of_several_items_is_rejected_with_any_of_them() -> None:
    events = [EncodedEvent(id=str(number), body=b"", count=number) for number in (1, 2, 3)]
    outcomes = {
        index: [item.outcome for item in results_by_index(events, [(index, rejected("InvalidEvent"))])]
        for index in range(6)
    }
    assert [outcomes[index].index(Outcome.REJECTED) for index in range(6)] == [0, 1, 1, 2, 2, 2]
    with pytest.raises(UnexpectedResponse):
        results_by_index(events, [(6, rejected("InvalidEvent"))])
