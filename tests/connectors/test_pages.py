"""The pages of docs/connectors: their tables and examples are those of the code."""

import json
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headwater.connectors.contract import Attempt, EventSink, HttpRequest, OutgoingEvent
from headwater.connectors.http_webhook.events import EVENT_TYPES as WEBHOOK_EVENT_TYPES
from headwater.connectors.http_webhook.events import WebhookSink
from headwater.connectors.http_webhook.settings import WebhookSettings
from headwater.connectors.registry import CONNECTORS
from headwater.connectors.segment_api.events import SegmentSink
from headwater.connectors.segment_api.settings import SegmentSettings
from headwater.connectors.settings import describe
from headwater.filters import check_filter, parse_text
from headwater.schemas import EVENT_SCHEMA
from tests.connectors.conformance.context import make_context
from tests.connectors.conformance.event_sink import make_event

PAGES = Path(__file__).resolve().parents[2] / "docs" / "connectors"
DESTINATIONS = [
    "amplitude",
    "braze",
    "brevo",
    "customerio",
    "google-analytics",
    "http-webhook",
    "hubspot",
    "klaviyo",
    "mailchimp",
    "mailerlite",
    "meta-conversions",
    "mixpanel",
    "posthog",
    "salesforce",
    "segment-api",
    "slack",
    "stripe",
]


def page(code: str) -> str:
    return (PAGES / f"{code}.md").read_text()


def blocks(code: str) -> dict[str, str]:
    """Return the tested blocks of a page by name."""
    return dict(re.findall(r"<!-- tested: (\w+) -->\n```\w+\n(.*?)```", page(code), flags=re.DOTALL))


def test_every_available_application_has_a_page() -> None:
    with_page = {path.stem for path in PAGES.glob("*.md")}
    others = {"dummy", "sample-oauth-app"}
    for code, connector in CONNECTORS.items():
        if connector.available and connector.type == "Application" and code not in others:
            assert code in with_page


@pytest.mark.parametrize("code", DESTINATIONS)
def test_the_settings_of_the_page_are_valid_and_complete(code: str) -> None:
    destination = CONNECTORS[code].destination
    assert destination is not None and destination.settings is not None
    example = json.loads(blocks(code)["settings"])
    assert destination.settings.read(example).document() == example
    fields = describe(destination.settings)
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \|$", page(code).partition("## Requests")[0], flags=re.MULTILINE)
    documented = {name: (text, default) for name, text, default in rows}
    assert list(documented)[: len(fields)] == [field.name for field in fields]
    assert list(example) == [field.name for field in fields if not field.one_of or field.name in example]
    for field in fields:
        text, default = documented[field.name]
        shown = "required" if field.required else f"`{field.default}`" if field.default is not None else "none"
        assert default == shown
        assert field.secret is text.endswith("Secret")


@pytest.mark.parametrize("code", [code for code in DESTINATIONS if "filter" in blocks(code)])
def test_the_filter_of_the_page_is_valid(code: str) -> None:
    filter_ = parse_text(blocks(code)["filter"].strip())
    assert filter_ is not None
    check_filter(filter_, EVENT_SCHEMA, role="Destination", target="Event")


def sent(sink: EventSink, event: OutgoingEvent, at: datetime) -> HttpRequest:
    return sink.request([sink.encode(event)], Attempt(key="0" * 32, number=1, at=at))


def webhook_settings(**members: Any) -> WebhookSettings:
    example = json.loads(blocks("http-webhook")["settings"])
    return WebhookSettings.read({**example, **members})


def webhook_event(body: dict[str, Any]) -> OutgoingEvent:
    return make_event(
        1,
        key=body["id"],
        type=body["type"],
        event_type="send_event",
        timestamp=datetime.fromisoformat(body["timestamp"]),
        document=msgspec.json.encode(body["data"]),
    )


@pytest.mark.parametrize(("name", "batch_size"), [("single", 1), ("batch", 100)])
def test_the_bodies_of_webhooks_are_those_of_the_page(name: str, batch_size: int) -> None:
    shown = json.loads(blocks("http-webhook")[name])
    event = webhook_event(shown if batch_size == 1 else shown["data"][0])
    request = sent(WebhookSink(webhook_settings(batchSize=batch_size), make_context()), event, event.timestamp)
    assert json.loads(request.body) == shown


def test_the_headers_and_event_types_of_webhooks_are_those_of_the_page() -> None:
    event = webhook_event(json.loads(blocks("http-webhook")["single"]))
    request = sent(WebhookSink(webhook_settings(headers=[]), make_context()), event, event.timestamp)
    text = page("http-webhook")
    assert all(f"| `{name}` |" in text for name in request.headers)
    assert all(f"| `{type_.id}` |" in text for type_ in WEBHOOK_EVENT_TYPES)


def test_the_code_of_the_page_verifies_requests() -> None:
    code: dict[str, Any] = {}
    exec(compile(blocks("http-webhook")["verify"], "http-webhook.md", "exec"), code)
    settings = webhook_settings()
    event = webhook_event(json.loads(blocks("http-webhook")["single"]))
    request = sent(WebhookSink(settings, make_context()), event, datetime.now(UTC))
    assert settings.previous_secret is not None
    for secret in (settings.secret, settings.previous_secret):
        code["verify"](secret, request.headers, request.body)
    old = {**request.headers, "webhook-timestamp": str(int(time.time()) - 1_000)}
    other_id = {**request.headers, "webhook-id": "1"}
    for headers, body in ((old, request.body), (other_id, request.body), (request.headers, request.body + b" ")):
        with pytest.raises(ValueError):
            code["verify"](settings.secret, headers, body)


def test_the_request_of_segment_is_that_of_the_page() -> None:
    shown = json.loads(blocks("segment-api")["request"])
    [item] = shown["batch"]
    stored = {**item, "connectionId": 7, "receivedAt": "2026-05-04T12:00:00.4Z", "sentAt": "2026-05-04T11:59:58Z"}
    stored["context"] = {"ip": item["context"]["ip"]}
    event = make_event(1, message_id="m-1", document=msgspec.json.encode(stored), event_type="send_event")
    sink = SegmentSink(SegmentSettings(write_key="the-write-key"), make_context())
    body = json.loads(sent(sink, event, datetime.fromisoformat(shown["sentAt"])).body)
    for each in (body, shown):  # a hash of the endpoint and the key
        [mark] = each["batch"][0]["context"]["headwater"].pop("via")
        assert re.fullmatch(r"[0-9a-f]{16}", mark)
    assert body == shown


def test_the_default_endpoint_is_stated() -> None:
    assert f"`{describe(SegmentSettings)[1].default}`" in page("segment-api")
