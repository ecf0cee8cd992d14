"""The settings of a Stripe account, which are the same for all connections."""

from typing import Annotated

from headwater.connectors.settings import PRINTABLE, Settings, Text


class StripeSettings(Settings, frozen=True, kw_only=True):
    """The settings of one connection."""

    api_key: Annotated[
        str,
        Text(
            1,
            200,
            PRINTABLE,
            secret=True,
            help="A restricted key with access to customers, which starts with rk_, or a secret key.",
        ),
    ]
