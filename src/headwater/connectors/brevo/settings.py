"""The settings of a Brevo account, which are the same for all connections."""

from typing import Annotated

from headwater.connectors.settings import VISIBLE, Settings, Text


class BrevoSettings(Settings, frozen=True, kw_only=True):
    """The settings of one connection."""

    api_key: Annotated[str, Text(1, 255, VISIBLE, secret=True, help="A key of the API, version 3.")]
