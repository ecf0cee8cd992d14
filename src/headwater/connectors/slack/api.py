"""Incoming webhooks of Slack: limits, errors, and the check of a URL."""

from collections.abc import Mapping
from typing import Final

from headwater.base.errors import Unavailable
from headwater.connectors.contract import ConnectorContext, HttpRequest, HttpResponse
from headwater.connectors.responses import read_text
from headwater.connectors.settings import invalid
from headwater.connectors.slack.settings import SlackSettings

MAX_TEXT_CHARACTERS: Final = 40_000
"""Slack cuts a longer text."""
MAX_BLOCKS: Final = 50
MAX_MESSAGE_BYTES: Final = 256 * 1024
"""More than a text of the maximum length has. Slack documents no limit of bytes."""
HEADERS: Final[Mapping[str, str]] = {"content-type": "application/json"}

CLOSED_STATUSES: Final = frozenset({403, 404, 410})
"""The webhook is revoked, posting is forbidden, or the channel is deleted or archived."""

MESSAGE_ERRORS: Final[Mapping[str, str]] = {
    "invalid_payload": "Slack does not understand the message",
    "invalid_blocks": "the blocks do not have the form that Slack documents",
    "invalid_blocks_format": "the blocks do not have the form that Slack documents",
    "no_text": "the message has no text",
    "missing_text_or_fallback_or_attachments": "the message has no text",
    "msg_too_long": "the message is too long",
}
"""The errors of a single message, with status 400."""
WEBHOOK_ERRORS: Final[Mapping[str, str]] = {
    "action_prohibited": "an administrator does not allow messages to the channel",
    "channel_is_archived": "the channel is archived",
    "channel_not_found": "the channel does not exist",
    "invalid_token": "the URL is not that of a webhook",
    "no_active_hooks": "the webhook is disabled",
    "no_service": "the webhook is disabled or removed",
    "no_service_id": "the webhook is disabled or removed",
    "no_team": "the workspace does not exist",
    "posting_to_general_channel_denied": "an administrator does not allow messages to the general channel",
    "team_disabled": "the workspace is disabled",
    "user_not_found": "the user of the webhook does not exist",
}
"""The errors of all messages of a webhook. Most have a status of `CLOSED_STATUSES`, and some have 400."""


def explain(response: HttpResponse, errors: Mapping[str, str]) -> str:
    """Return a sentence about the error of a response; empty if it is none of `errors`."""
    text = read_text(response, 100)
    return f"{errors[text]} ({text})" if text in errors else ""


async def check(settings: SlackSettings, context: ConnectorContext) -> SlackSettings:
    """Implements `Engine.http_check`. It sends a message without text, which a webhook rejects with status 400."""
    response = await context.http.send(
        HttpRequest(method="POST", url=settings.webhook_url, headers=HEADERS, body=b'{"text":""}')
    )
    explanation = explain(response, WEBHOOK_ERRORS)
    if explanation or response.status in CLOSED_STATUSES:
        text = explanation or f"it responds with status {response.status}"
        raise invalid("settings.webhookURL", f"is not accepted by Slack: {text}")
    if response.status != 400:
        raise Unavailable(f"Slack cannot check the settings at present: it responds with status {response.status}")
    return settings
