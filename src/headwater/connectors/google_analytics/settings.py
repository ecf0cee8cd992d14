"""The settings of a stream of Google Analytics."""

import re
from typing import Annotated, Final, Literal

from headwater.connectors.settings import PRINTABLE, Choice, Format, Settings, Text, setting

ORIGINS: Final = {"Global": "https://www.google-analytics.com", "EU": "https://region1.google-analytics.com"}


class GoogleAnalyticsSettings(Settings, frozen=True, kw_only=True):
    """The settings of one connection."""

    measurement_id: Annotated[
        str,
        Text(
            2,
            20,
            Format(re.compile("(G|AW)-.*"), "must start with G- or AW-"),
            help="From the page of your data stream. It starts with G-.",
        ),
    ] = setting("measurementID")
    api_secret: Annotated[
        str,
        Text(
            1,
            100,
            PRINTABLE,
            secret=True,
            help="Of the Measurement Protocol. Create one on the page of your data stream.",
        ),
    ]
    collection_endpoint: Annotated[
        Literal["Global", "EU"], Choice(help="EU: Google collects the events on servers in the EU.")
    ]
