"""The settings of a Klaviyo account, which are the same for all connections."""

import re
from typing import Annotated

from headwater.connectors.settings import Format, Settings, Text, setting


class KlaviyoSettings(Settings, frozen=True, kw_only=True):
    """The settings of one connection."""

    private_api_key: Annotated[
        str,
        Text(
            37,
            255,
            Format(re.compile("pk_[A-Za-z0-9]+"), "must be pk_ and letters and digits"),
            secret=True,
            help="A private key with write access to events and profiles. It starts with pk_.",
        ),
    ] = setting("privateAPIKey")
