"""Previews of the connectors that send events, over REST: the request that would be sent, without its secrets."""

import base64
import json
from typing import Any

import pytest

from tests.e2e.source import post
from tests.system import HTTP, RunningSystem

SIGNING_KEY = base64.b64encode(b"a key of thirty-two random bytes").decode()
WEBHOOK = {
    "url": "https://receiver.example/events",
    "secret": f"whsec_{SIGNING_KEY}",
    "headers": [{"key": "Authorization", "value": "Bearer s3cret"}, {"key": "X-Shop", "value": "another-secret"}],
}
SEGMENT = {"writeKey": "the-write-key-of-it", "endpoint": "https://receiver.example/v1/batch"}
SECRETS = (
    SIGNING_KEY,
    "s3cret",
    "another-secret",
    "the-write-key-of-it",
    base64.b64encode(b"the-write-key-of-it:").decode(),
)
NOW = "2026-05-04T12:00:00Z"
EVENT = {
    **{"connectionId": 1, "messageId": "m-1", "type": "track", "event": "Order Completed", "userId": "ada"},
    **{"anonymousId": "a", "properties": {"total": 9.50}, "traits": {}, "context": {}},
    **{"timestamp": NOW, "originalTimestamp": NOW, "sentAt": NOW, "receivedAt": NOW},
}


def preview(system: RunningSystem, connector: str, settings: dict[str, Any], **members: Any) -> str:
    body = {"name": "D", "role": "Destination", "connector": connector, "sendingMode": "Server", "settings": settings}
    id_ = post(system, "/v1/connections", body)["id"]
    response = HTTP.post(
        f"{system.base_url}/v1/connections/{id_}/preview-send-event",
        json={"type": "send_event", "event": EVENT, **members},
        headers=system.authorization,
        timeout=30,
    )
    assert response.status_code == 200, response.text
    text: str = response.json()["preview"]
    return text


@pytest.mark.parametrize(("connector", "settings"), [("http-webhook", WEBHOOK), ("segment-api", SEGMENT)])
def test_a_preview_shows_no_secret(system: RunningSystem, connector: str, settings: dict[str, Any]) -> None:
    text = preview(system, connector, settings)
    assert text.startswith("POST https://receiver.example/") and "Order Completed" in text
    assert not any(secret in text for secret in SECRETS) and "Authorization: [REDACTED]" in text
    assert not any(secret in system.errors for secret in SECRETS)


def test_the_preview_of_a_webhook_has_its_signature(system: RunningSystem) -> None:
    head, _, body = preview(system, "http-webhook", WEBHOOK).partition("\n\n")
    assert "Webhook-Signature: v1," in head and "X-Shop: [REDACTED]" in head
    assert json.loads(body)["data"]["event"] == "Order Completed"


def test_a_mapping_makes_the_data_of_a_webhook(system: RunningSystem) -> None:
    schema = {
        "kind": "object",
        "properties": [
            {"name": "type", "type": {"kind": "string"}},
            {"name": "data", "type": {"kind": "json"}, "createRequired": True},
        ],
    }
    mapping = {"data": "properties", "type": "'order'"}
    text = preview(
        system,
        "http-webhook",
        WEBHOOK,
        type="send_data",
        transformation={"mapping": mapping},
        outSchema=schema,
    )
    body = json.loads(text.partition("\n\n")[2])
    assert (body["type"], body["data"]) == ("order", {"total": 9.5})
