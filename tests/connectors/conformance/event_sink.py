"""The conformance suite of `EventSink`.

It plays the destination: statuses, waits, lost connections and nonsense. Connectors differ in the form of a success and
in the way that responses identify single events: the subclass supplies both.
"""

import gzip
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import timedelta

import msgspec
import pytest

from headwater.connectors.contract import (
    Attempt,
    ConnectorContext,
    EncodedEvent,
    EventRejected,
    EventSink,
    FailureScope,
    HttpRequest,
    HttpResponse,
    Outcome,
    OutgoingEvent,
    SendResult,
    TransportError,
    TransportFailure,
)
from headwater.connectors.redaction import Redactor, format_request
from tests.connectors.conformance.context import NOW, FixedClock, ScriptedHttp, make_context

KEY = "0123456789abcdef0123456789abcdef"
FIRST = Attempt(key=KEY, number=1, at=NOW)
SECOND = Attempt(key=KEY, number=2, at=NOW + timedelta(minutes=5))
GARBAGE = (b"", b"\xff\xfe", b"null", b"[]", b"{}", b'{"results": 5}', b"<html>ok</html>", b"[" * 5_000)


def make_event(number: int = 1, **changes: object) -> OutgoingEvent:
    """Return a track event of user `number`."""
    event = OutgoingEvent(
        key=f"{number:032x}",
        message_id=f"message-{number}",
        source=7,
        type="track",
        event_type="",
        timestamp=NOW - timedelta(minutes=1),
        received_at=NOW,
        document=msgspec.json.encode({"type": "track", "event": "Bought", "userId": f"user-{number}"}),
        user_id=f"user-{number}",
        anonymous_id=f"anonymous-{number}",
    )
    return msgspec.structs.replace(event, **changes)


class EventSinkConformance(ABC):
    """`make` returns a sink whose secrets are `SECRETS`; `event` returns an event of user `number` that it accepts."""

    SECRETS: tuple[str, ...] = ()
    STATUS_ONLY = True
    """False if the body of a response must state the success."""

    @abstractmethod
    def make(self, context: ConnectorContext) -> EventSink: ...

    @abstractmethod
    def event(self, number: int) -> OutgoingEvent: ...

    def unacceptable(self) -> Sequence[OutgoingEvent]:
        """Events that the destination could never take."""
        return ()

    def success(self, events: Sequence[EncodedEvent]) -> HttpResponse:
        """Return the response when all events are accepted."""
        return HttpResponse(status=200)

    def mixed(self, events: Sequence[EncodedEvent]) -> HttpResponse | None:
        """Return the response when the first event is rejected and the others are accepted; None if it has no such
        response."""
        return None

    def sink(self, http: ScriptedHttp | None = None) -> EventSink:
        return self.make(make_context(http, FixedClock(), self.SECRETS))

    def batch(self, sink: EventSink, count: int = 3) -> list[EncodedEvent]:
        count = min(count, sink.policy.limits.max_events)
        # One route and one user, so that every sink can send them in one request.
        return [sink.encode(msgspec.structs.replace(self.event(1), key=f"{n:032x}")) for n in range(1, count + 1)]

    async def exchange(self, response: HttpResponse | TransportError | None) -> tuple[SendResult, int]:
        http = ScriptedHttp()
        sink = self.sink(http)
        events = self.batch(sink)
        reply = self.success(events) if response is None else response
        http.respond = lambda _: reply
        result = await sink.send(sink.request(events, FIRST), events)
        assert len(http.requests) == 1, "one exchange: the sink retries nothing"
        assert len(result.items) == len(events)
        return result, len(events)

    async def test_the_policy_is_consistent(self) -> None:
        policy = self.sink().policy
        limits = policy.limits
        assert limits.max_events >= 1 and policy.max_concurrency >= 1
        assert (policy.scope == "Event") is (limits.max_events == 1)
        assert limits.max_bytes is None or limits.max_event_bytes is None or limits.max_event_bytes <= limits.max_bytes
        assert all(rate.count >= 1 and rate.seconds > 0 and rate.burst >= 1 for rate in policy.rates)
        assert policy.max_age_seconds is None or policy.max_age_seconds > 0

    async def test_event_types_have_ids_of_their_own(self) -> None:
        types = await self.sink().event_types()
        assert types and all(type_.id and type_.name for type_ in types)
        assert len({type_.id for type_ in types}) == len(types)

    async def test_equal_events_have_equal_bytes(self) -> None:
        one, other = self.sink(), self.sink()
        assert one.encode(self.event(1)) == one.encode(self.event(1)) == other.encode(self.event(1))

    async def test_events_are_distinguished(self) -> None:
        sink = self.sink()
        one, other = sink.encode(self.event(1)), sink.encode(self.event(2))
        assert one.id != other.id and one.user != other.user
        assert sink.encode(msgspec.structs.replace(self.event(1), key="f" * 32)).user == one.user

    async def test_unacceptable_events_are_rejected_before_sending(self) -> None:
        sink = self.sink()
        for event in self.unacceptable():
            with pytest.raises(EventRejected) as caught:
                sink.encode(event)
            assert re.fullmatch(r"[A-Z][A-Za-z]+", caught.value.reason) and caught.value.message

    async def test_a_request_sends_nothing(self) -> None:
        http = ScriptedHttp()
        sink = self.sink(http)
        request = sink.request(self.batch(sink), FIRST)
        assert http.requests == [] and request.url.startswith(("http://", "https://"))

    async def test_attempts_have_the_same_url_and_idempotency_key(self) -> None:
        sink = self.sink()
        events = self.batch(sink)
        first, again, second = (sink.request(events, attempt) for attempt in (FIRST, FIRST, SECOND))
        assert first == again
        assert (first.method, first.url) == (second.method, second.url)
        for name, value in first.headers.items():
            if KEY in value:
                assert second.headers[name] == value

    async def test_the_limits_hold_for_the_body(self) -> None:
        sink = self.sink()
        events = self.batch(sink, 20)
        request, limits = sink.request(events, FIRST), sink.policy.limits
        assert limits.max_bytes is None or len(request.body) <= limits.max_bytes
        assert limits.max_event_bytes is None or all(len(event.body) <= limits.max_event_bytes for event in events)

    async def test_secrets_are_not_in_previews(self) -> None:
        sink = self.sink()
        preview = format_request(sink.request(self.batch(sink), FIRST), Redactor(self.SECRETS))
        assert preview.startswith("POST http") or preview.startswith("PUT http")
        assert not any(secret in preview for secret in self.SECRETS)

    async def test_the_preview_is_the_request_that_is_sent(self) -> None:
        """Compare the method, the URL, the names of all headers and the body, which is indented."""
        http = ScriptedHttp()
        sink = self.sink(http)
        events = self.batch(sink)
        http.respond = lambda _: self.success(events)
        request = sink.request(events, FIRST)
        await sink.send(request, events)
        [sent] = http.requests
        head, _, shown = format_request(request, Redactor(())).partition("\r\n\n")
        line, *headers = head.splitlines()
        assert line == f"{sent.method} {sent.url}"
        names = {each.partition(":")[0].lower() for each in headers}
        assert names == {*sent.headers} | ({"authorization"} if sent.authorize else set())
        body = gzip.decompress(sent.body) if sent.headers.get("content-encoding") == "gzip" else sent.body
        assert "".join(shown.split()) == "".join(body.decode().split())

    async def test_success_delivers_every_event(self) -> None:
        result, count = await self.exchange(None)
        assert result.failure is None
        assert [item.outcome for item in result.items] == [Outcome.DELIVERED] * count

    async def test_a_rejected_event_does_not_affect_others(self) -> None:
        http = ScriptedHttp()
        sink = self.sink(http)
        events = self.batch(sink)
        response = self.mixed(events)
        if response is None:
            return
        http.respond = lambda _: response
        result = await sink.send(sink.request(events, FIRST), events)
        assert [item.outcome for item in result.items] == [Outcome.REJECTED, *[Outcome.DELIVERED] * (len(events) - 1)]
        assert result.items[0].reason

    @pytest.mark.parametrize("body", GARBAGE)
    async def test_an_unreadable_body_succeeds_only_by_the_status(self, body: bytes) -> None:
        result, _ = await self.exchange(
            HttpResponse(status=200, headers={"content-type": "application/json"}, body=body)
        )
        outcomes = {item.outcome for item in result.items}
        assert len(outcomes) == 1
        assert self.STATUS_ONLY or outcomes != {Outcome.DELIVERED} or result.failure is not None

    @pytest.mark.parametrize(
        ("status", "scope"),
        [
            *[(status, FailureScope.DESTINATION) for status in (408, 425, 429, 500, 502, 503, 504)],
            *[(status, FailureScope.BATCH) for status in (413, 422)],
            (401, FailureScope.CREDENTIALS),
        ],
    )
    async def test_an_error_status_fails_the_whole_request(self, status: int, scope: FailureScope) -> None:
        result, count = await self.exchange(HttpResponse(status=status, body=b"no"))
        assert result.failure is not None and result.failure.scope is scope
        assert result.status == status and result.failure.reason
        assert result.failure.is_too_large is (status == 413)
        assert [item.outcome for item in result.items] == [Outcome.NOT_ATTEMPTED] * count

    @pytest.mark.parametrize("status", [301, 302, 307, 400, 403, 404, 405, 407, 410, 421])
    async def test_no_other_status_delivers(self, status: int) -> None:
        result, _ = await self.exchange(HttpResponse(status=status, headers={"location": "http://other.example/"}))
        assert all(item.outcome is not Outcome.DELIVERED for item in result.items)

    @pytest.mark.parametrize("failure", TransportFailure)
    async def test_a_missing_response_is_a_result(self, failure: TransportFailure) -> None:
        result, _ = await self.exchange(TransportError(failure, "no response"))
        is_closed = failure in (TransportFailure.ADDRESS_FORBIDDEN, TransportFailure.AUTHORIZATION_REVOKED)
        assert result.failure is not None and result.status is None
        assert result.failure.scope is (FailureScope.CLOSED if is_closed else FailureScope.DESTINATION)
        assert result.failure.may_have_arrived is TransportError(failure, "").may_have_arrived

    async def test_long_texts_of_the_destination_are_shortened(self) -> None:
        result, _ = await self.exchange(HttpResponse(status=500, body=b"x" * 32_000))
        assert result.failure is not None and len(result.failure.message) <= 1_000

    @pytest.mark.parametrize(
        ("status", "spaces"), [(200, 0), (400, 0), (400, 990), (400, 3_990), (401, 0), (500, 0), (500, 995)]
    )
    async def test_secrets_that_the_destination_repeats_are_not_in_the_result(self, status: int, spaces: int) -> None:
        """Long texts are cut, which may not leave the first half of a secret."""
        for secret in self.SECRETS:
            body = b" " * spaces + f"{secret} is wrong".encode()
            result, _ = await self.exchange(HttpResponse(status=status, body=body))
            messages = [item.message for item in result.items]
            if result.failure is not None:
                messages.append(result.failure.message)
            assert not any(secret[:4] in message for message in messages)

    async def test_send_sends_the_given_request(self) -> None:
        http = ScriptedHttp()
        sink = self.sink(http)
        events = self.batch(sink)
        http.respond = lambda _: self.success(events)
        request: HttpRequest = sink.request(events, FIRST)
        await sink.send(request, events)
        assert [msgspec.structs.replace(each, may_cut_response=False) for each in http.requests] == [request]
