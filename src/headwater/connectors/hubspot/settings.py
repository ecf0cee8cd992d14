"""The settings of a HubSpot account, which are the same for all connections."""

from typing import Annotated

from headwater.connectors.settings import PRINTABLE, Settings, Text


class HubSpotSettings(Settings, frozen=True, kw_only=True):
    """The settings of one connection."""

    access_token: Annotated[
        str, Text(1, 255, PRINTABLE, secret=True, help="A service key, or the access token of a private app.")
    ]
