"""The settings of a MailerLite account, which are the same for all connections."""

from typing import Annotated

from headwater.connectors.settings import VISIBLE, Settings, Text


class MailerLiteSettings(Settings, frozen=True, kw_only=True):
    """The settings of one connection."""

    api_key: Annotated[str, Text(1, 4096, VISIBLE, secret=True, help="A token of the new MailerLite, not of Classic.")]
