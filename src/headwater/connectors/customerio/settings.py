"""The settings of a Customer.io workspace."""

from typing import Annotated, Literal

from headwater.connectors.settings import VISIBLE, Choice, Settings, Text, setting


class CustomerIoSettings(Settings, frozen=True, kw_only=True):
    """The settings of one connection."""

    site_id: Annotated[str, Text(1, 100, VISIBLE, help="The site id of a Track API key.")] = setting("siteID")
    api_key: Annotated[str, Text(1, 100, VISIBLE, secret=True, help="A Track API key.")]
    region: Annotated[Literal["US", "EU"], Choice()]
