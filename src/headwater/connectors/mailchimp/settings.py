"""The settings of a Mailchimp audience, which are the same for all connections."""

import re
from typing import Annotated

from headwater.connectors.settings import Format, Settings, Text


class MailchimpSettings(Settings, frozen=True, kw_only=True):
    """The settings of one connection."""

    api_key: Annotated[
        str,
        Text(
            10,
            100,
            Format(re.compile("[!-~]+-[a-z0-9]+"), 'must end with "-" and a data center, such as "-us6"'),
            secret=True,
        ),
    ]
    audience: Annotated[str, Text(1, 100, help="The id of the list.")]
