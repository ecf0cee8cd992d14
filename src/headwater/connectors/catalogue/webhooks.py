"""Webhooks: other systems forward events in the form of the track API."""

from typing import Final

from headwater.connectors.connector import Capabilities, Connector


def _webhook(code: str, label: str, sender: str) -> Connector:
    summary = f"Receive the events that {sender} forwards."
    return Connector(
        code=code,
        label=label,
        type="Webhook",
        categories=("Webhook",),
        source=Capabilities(targets=("User", "Event"), summary=summary),
        available=True,
    )


CONNECTORS: Final = (
    _webhook("webhook", "Webhook", "any system"),
    _webhook("segment", "Segment", "Segment"),
    _webhook("rudderstack", "RudderStack", "RudderStack"),
)
