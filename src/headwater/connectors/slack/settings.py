"""The settings of an incoming webhook of Slack. Its URL is its password."""

import re
from typing import Annotated, Final

from headwater.connectors.settings import Format, Settings, Text, setting

_WEBHOOK: Final = re.compile(
    r"(https://hooks\.slack(?:-gov)?\.com/services/)(T[A-Za-z0-9]+/B[A-Za-z0-9]+/[A-Za-z0-9]+)"
)


class SlackSettings(Settings, frozen=True, kw_only=True):
    """The settings of one connection."""

    webhook_url: Annotated[
        str,
        Text(
            40,
            200,
            Format(_WEBHOOK, "must have the form https://hooks.slack.com/services/T.../B.../..."),
            label="Webhook URL",
            secret=True,
            help="The URL of an incoming webhook. Whoever has it can send messages to its channel.",
        ),
    ] = setting("webhookURL")

    def secrets(self) -> tuple[str, ...]:
        """Return the part of the URL that is secret, and its last segment: previews show the host."""
        found = _WEBHOOK.fullmatch(self.webhook_url)
        if found is None:
            return super().secrets()
        return found[2], found[2].rpartition("/")[2]
