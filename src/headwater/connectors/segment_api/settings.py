"""The settings of a receiver of the Segment family: its address and the write key."""

from typing import Annotated, Final

from headwater.connectors.addresses import find_broken_url_rule
from headwater.connectors.settings import PRINTABLE, Settings, Text

DEFAULT_ENDPOINT: Final = "https://api.segment.io/v1/batch"
"""The endpoint of workspaces in the US. Segment returns 200 for events of another region too, and drops them."""


def _find_broken_key_rule(text: str) -> str | None:
    return "must not contain spaces or colons" if ":" in text or " " in text else None


class SegmentSettings(Settings, frozen=True, kw_only=True):
    """The settings of one connection."""

    write_key: Annotated[
        str, Text(4, 200, PRINTABLE, _find_broken_key_rule, secret=True, help="The write key of the receiving source.")
    ]
    endpoint: Annotated[
        str,
        Text(
            1,
            2_000,
            check=find_broken_url_rule,
            help="The URL of batches. Segment in the EU: https://events.eu1.segmentapis.com/v1/batch.",
        ),
    ] = DEFAULT_ENDPOINT
