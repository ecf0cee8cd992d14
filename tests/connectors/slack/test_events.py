"""Slack's events: the contract, the messages of the page, escaping, summaries, and documented errors."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.base.errors import Unavailable, Unprocessable
from headwater.connectors.contract import (
    ConnectorContext,
    EncodedEvent,
    EventSink,
    FailureScope,
    HttpResponse,
    Outcome,
    OutgoingEvent,
)
from headwater.connectors.redaction import Redactor, format_request
from headwater.connectors.slack.api import MESSAGE_ERRORS, WEBHOOK_ERRORS, check
from headwater.connectors.slack.events import UNLABELLED, SlackSink
from headwater.connectors.slack.schemas import EVENT_TYPES
from headwater.connectors.slack.settings import SlackSettings
from headwater.schemas import EVENT_SCHEMA, Json, ObjectType, Property, StringType
from headwater.transforms.mapping import CompiledMapping
from tests.connectors.conformance.context import ScriptedHttp, make_context
from tests.connectors.conformance.event_sink import FIRST, EventSinkConformance, make_event
from tests.connectors.test_pages import blocks, page
from tests.connectors.vendors.slack import GONE, PATH, URL, SlackServer

SETTINGS = SlackSettings(webhook_url=URL)


def event(number: int = 1, /, **values: Any) -> OutgoingEvent:
    members = {"text": f"Order Completed: user-{number}", "label": "Order Completed"} | values
    return make_event(number, event_type="send_message", values=members)


def sink(http: ScriptedHttp | None = None) -> SlackSink:
    return SlackSink(SETTINGS, make_context(http))


def message(*events: OutgoingEvent) -> dict[str, Any]:
    """Return the message for events."""
    body: dict[str, Any] = json.loads(sink().request([sink().encode(each) for each in events], FIRST).body)
    return body


class TestContract(EventSinkConformance):
    SECRETS = SETTINGS.secrets()
    STATUS_ONLY = False

    def make(self, context: ConnectorContext) -> EventSink:
        return SlackSink(SETTINGS, context)

    def event(self, number: int) -> OutgoingEvent:
        return event(number)

    def unacceptable(self) -> Sequence[OutgoingEvent]:
        return [
            event(text=" "),
            event(text="<" * 10_001),
            event(blocks=Json('{"type":"divider"}')),
            event(blocks=Json('["text"]')),
            event(blocks=Json("[{}]")),
            event(blocks=Json(json.dumps([{"type": "divider"}] * 51))),
            msgspec.structs.replace(event(), event_type="other"),
        ]

    def success(self, events: Sequence[EncodedEvent]) -> HttpResponse:
        return HttpResponse(status=200, body=b"ok")


def test_the_messages_are_those_of_the_page() -> None:
    shown = blocks("slack")
    ada = event(text="Order Completed: ada@example.com")
    assert message(ada) == json.loads(shown["single"])
    others = [event(2), event(3), event(4, label="Signed Up")]
    assert message(ada, *others) == json.loads(shown["summary"])


def test_the_mapping_is_that_of_the_page() -> None:
    for type_ in EVENT_TYPES:
        assert f"| `{type_.id}` | {type_.filter} |" in page("slack") and type_.schema is not None
        for each in type_.schema.properties:
            shown = f"`{each.prefilled}`" if each.prefilled else "none"
            assert f"| `{each.name}` | {shown} |" in page("slack")
    assert all(f"`{error}`" in page("slack") for error in (*MESSAGE_ERRORS, *WEBHOOK_ERRORS))


def test_the_mapping_for_orders_makes_a_text() -> None:
    schema = ObjectType((Property("text", StringType()),))
    mapping = CompiledMapping({"text": blocks("slack")["mapping"].strip()}, EVENT_SCHEMA, schema)
    order = Json('{"order_id":"o-1","total":"49.98","currency":"EUR"}')
    text = mapping.apply({"properties": order, "traits": Json("{}"), "userId": "ada"})["text"]
    assert message(event(text=text))["text"] == "*New order* o-1: 49.98 EUR from ada"


def test_texts_and_labels_cannot_notify_a_channel() -> None:
    both = event(text="<!channel> & <https://evil.example|click>", label="<!here>")
    assert message(both)["text"] == "&lt;!channel&gt; &amp; &lt;https://evil.example|click&gt;"
    assert message(both, both)["text"] == "*2 events*\n&lt;!here&gt;: 2"


def test_values_at_the_limits_are_accepted() -> None:
    assert len(message(event(text="é" * 40_000))["text"]) == 40_000
    dividers = [{"type": "divider"}] * 50
    assert message(event(blocks=Json(json.dumps(dividers))))["blocks"] == dividers
    assert "blocks" not in message(event(blocks=Json("null")))


def test_a_summary_counts_the_events_of_rare_labels_together() -> None:
    events = [event(number, label=f"Event {number % 30}") for number in range(100)]
    lines = message(*events)["text"].split("\n")
    assert (lines[0], len(lines), lines[1], lines[-1]) == ("*100 events*", 22, "Event 0: 4", "10 others: 30")
    assert message(event(label=" "), event(label=""))["text"] == f"*2 events*\n{UNLABELLED}: 2"
    assert message(event(label="a\n b"), event(label="a b"))["text"] == "*2 events*\na b: 2"


def test_a_text_may_contain_the_separator() -> None:
    both = event(text="a\0b", label="c\0d")
    assert message(both)["text"] == "a\0b"
    assert message(both, both)["text"] == "*2 events*\nc\0d: 2"


def test_a_preview_shows_the_host_only() -> None:
    request = sink().request([sink().encode(event())], FIRST)
    preview = format_request(request, Redactor(SETTINGS.secrets()))
    assert preview.startswith("POST https://hooks.slack.com/services/[REDACTED]")
    assert not any(part in preview for part in PATH.split("/"))


@pytest.mark.parametrize("error", MESSAGE_ERRORS)
async def test_an_error_of_a_message_rejects_it_with_a_sentence(error: str) -> None:
    http = ScriptedHttp(lambda _: HttpResponse(status=400, body=error.encode()))
    events = [sink().encode(event(number)) for number in (1, 2)]
    single = await sink(http).send(sink().request(events[:1], FIRST), events[:1])
    assert [each.outcome for each in single.items] == [Outcome.REJECTED]
    assert error in single.items[0].message and " " in single.items[0].message
    summary = await sink(http).send(sink().request(events, FIRST), events)
    assert summary.failure is not None and summary.failure.scope is FailureScope.BATCH


@pytest.mark.parametrize(("status", "error"), [*GONE, (404, "<html>not found</html>")])
async def test_a_webhook_that_is_gone_closes_the_destination(status: int, error: str) -> None:
    events = [sink().encode(event(number)) for number in (1, 2)]
    http = ScriptedHttp(lambda _: HttpResponse(status=status, body=error.encode()))
    for sent in (events[:1], events):
        result = await sink(http).send(sink().request(sent, FIRST), sent)
        assert result.failure is not None and result.failure.scope is FailureScope.CLOSED
        assert error in result.failure.message and " " in result.failure.message
    with pytest.raises(Unprocessable) as refused:
        await check(SETTINGS, make_context(http, secrets=SETTINGS.secrets()))
    assert refused.value.field == "settings.webhookURL"
    assert (error if error in WEBHOOK_ERRORS else f"status {status}") in refused.value.message


@given(
    body=st.binary(max_size=20)
    | st.sampled_from([b"ok", b"ok\n", b"ok\0", b"OK", b'"ok"', b"okay", b"<html>ok</html>"])
)
async def test_only_ok_is_a_delivery(body: bytes) -> None:
    http = ScriptedHttp(lambda _: HttpResponse(status=200, body=body))
    events = [sink().encode(event(number)) for number in (1, 2)]
    result = await sink(http).send(sink().request(events, FIRST), events)
    expected = Outcome.DELIVERED if body.strip() == b"ok" else Outcome.RETRY
    assert [each.outcome for each in result.items] == [expected] * 2


@pytest.mark.parametrize("error", ["no_text", "missing_text_or_fallback_or_attachments", "invalid_payload"])
async def test_a_webhook_that_wants_a_text_exists(error: str) -> None:
    http = ScriptedHttp(lambda _: HttpResponse(status=400, body=error.encode()))
    assert await check(SETTINGS, make_context(http)) == SETTINGS
    assert [each.body for each in http.requests] == [b'{"text":""}']


@pytest.mark.parametrize("status", [200, 302, 429, 500])
async def test_any_other_response_does_not_say_that_a_webhook_exists(status: int) -> None:
    http = ScriptedHttp(lambda _: HttpResponse(status=status, body=b"ok"))
    with pytest.raises(Unavailable, match=f"status {status}"):
        await check(SETTINGS, make_context(http))


def test_a_documented_body_is_valid_for_the_server() -> None:
    """The first example of Slack's page about incoming webhooks."""
    server = SlackServer()
    request = msgspec.structs.replace(sink().request([sink().encode(event())], FIRST), body=b'{"text":"Hello, world."}')
    assert (server.respond(request).status, server.violations) == (200, [])
