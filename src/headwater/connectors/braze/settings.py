"""The settings of a Braze workspace."""

import re
from typing import Annotated

from headwater.connectors.settings import PRINTABLE, VISIBLE, Format, Settings, Text, setting


class BrazeSettings(Settings, frozen=True, kw_only=True):
    """The settings of one connection."""

    rest_endpoint: Annotated[
        str,
        Text(
            20,
            100,
            Format(
                re.compile(r"https://rest\.[a-z]{2,3}-[0-9]{2}\.braze\.(com|eu)"),
                "must be the REST endpoint of an instance, such as https://rest.iad-01.braze.com",
            ),
            label="REST endpoint",
        ),
    ]
    api_key: Annotated[str, Text(8, 255, VISIBLE, secret=True, help="A REST API key with the permission users.track.")]
    app_id: Annotated[
        str | None, Text(1, 100, VISIBLE, help="The identifier of the app that events and purchases belong to.")
    ] = setting("appID", None)
    alias_label: Annotated[
        str, Text(1, 255, PRINTABLE, help="The label of the aliases of users that have only an anonymous id.")
    ] = "anonymous_id"
