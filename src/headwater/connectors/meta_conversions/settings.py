"""The settings of a dataset of Meta."""

import re
from typing import Annotated, Final

from headwater.connectors.settings import VISIBLE, Format, Settings, Text, setting

_DIGITS: Final = Format(re.compile("[0-9]+"), "must consist of digits")


class MetaConversionsSettings(Settings, frozen=True, kw_only=True):
    """The settings of one connection."""

    dataset_id: Annotated[
        str, Text(1, 30, _DIGITS, label="Dataset ID", help="The id of the dataset, or pixel, in Events Manager.")
    ] = setting("datasetID")
    access_token: Annotated[
        str, Text(1, 1_000, VISIBLE, secret=True, help="A token that may send events to the dataset.")
    ]
    test_event_code: Annotated[
        str | None,
        Text(1, 100, VISIBLE, help="Shows the events under Test events too, such as TEST12345."),
    ] = None
