"""The webhook with the real HTTP client and a server that fails."""

import base64
from typing import Any

from headwater.connectors.contract import ConnectorContext, EventSink, OutgoingEvent
from headwater.connectors.http_webhook.events import WebhookSink
from headwater.connectors.http_webhook.settings import WebhookSettings
from headwater.connectors.settings import Settings
from tests.connectors.conformance.event_sink import make_event
from tests.connectors.faults import EventSinkFaults

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


class TestWebhookFaults(EventSinkFaults):
    def settings(self, url: str) -> Settings:
        headers = [{"key": "Authorization", "value": "Bearer s3cret"}, {"key": "X-Shop", "value": 'a "quoted" secret'}]
        return WebhookSettings.read({"url": url, "secret": SECRET, "headers": headers, "batchSize": 10})

    def make(self, settings: Any, context: ConnectorContext) -> EventSink:
        return WebhookSink(settings, context)

    def event(self, number: int) -> OutgoingEvent:
        return make_event(number, event_type="send_event")
