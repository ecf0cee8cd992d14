"""Incoming webhooks of Slack: limits, errors, and the check of a URL."""

from collections.abc import Mapping
from typing import Final

from headwater.connectors.checking import check_credentials
from headwater.connectors.contract import ConnectorContext, HttpRequest
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
    "too_many_attachments": "the message has too many attachments",
    "user_not_found": "the message is for a user who does not exist",
}
"""The errors of a single message, with status 400."""


async def check(settings: SlackSettings, context: ConnectorContext) -> SlackSettings:
    """Implements `Engine.http_check`. It sends a message without text, which a webhook rejects with status 400."""
    await check_credentials(
        context,
        HttpRequest(method="POST", url=settings.webhook_url, headers=HEADERS, body=b'{"text":""}'),
        vendor="Slack",
        member="webhookURL",
        refused=CLOSED_STATUSES,
        accepted=frozenset({400}),
    )
    return settings
