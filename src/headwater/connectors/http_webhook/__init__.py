"""Sends events to any HTTP endpoint, signed as the Standard Webhooks specification prescribes.

One event or a batch makes one request. `webhook-id` identifies it and stays the same for every attempt, so that a
receiver recognises a repetition. docs/connectors/http-webhook.md has the form of requests and the way to verify them.
"""

from typing import Final

from headwater.connectors.connector import Capabilities, Connector, Terms
from headwater.connectors.contract import Engine
from headwater.connectors.http_webhook.events import WebhookSink
from headwater.connectors.http_webhook.settings import WebhookSettings

CONNECTOR: Final = Connector(
    code="http-webhook",
    label="HTTP Webhook",
    type="Application",
    categories=("Webhook",),
    destination=Capabilities(
        targets=("Event",),
        sending_modes=("Server",),
        settings=WebhookSettings,
        summary="Send signed events to an HTTP endpoint.",
    ),
    available=True,
    terms=Terms(),
    engine=Engine(event_sink=WebhookSink),
)

__all__ = ["CONNECTOR"]
