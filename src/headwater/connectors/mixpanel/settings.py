"""The settings of a Mixpanel project."""

import re
from typing import Annotated, Literal

from headwater.connectors.settings import PRINTABLE, Choice, Format, Settings, Text, setting


class MixpanelSettings(Settings, frozen=True, kw_only=True):
    """The settings of one connection. Requests are authenticated with the token, and not with the id of the project."""

    project_id: Annotated[
        str,
        Text(1, 20, Format(re.compile("[0-9]+"), "must be a whole number as a string"), help="The id of the project."),
    ] = setting("projectID")
    project_token: Annotated[str, Text(1, 100, PRINTABLE, secret=True, help="The token of the project.")]
    data_residency: Annotated[Literal["US", "EU", "IN"], Choice(help="Where the project has its data.")]
