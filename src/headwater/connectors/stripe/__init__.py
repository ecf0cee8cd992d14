"""Reads and writes the customers of a Stripe account. docs/connectors/stripe.md has the form of requests."""

from typing import Final

from headwater.connectors.connector import Terms
from headwater.connectors.contract import Engine
from headwater.connectors.describing import application
from headwater.connectors.stripe.api import VERSION, check
from headwater.connectors.stripe.settings import StripeSettings
from headwater.connectors.stripe.users import StripeCustomers

CONNECTOR: Final = application(
    "stripe",
    "Stripe",
    "Payments",
    StripeSettings,
    writes=("User",),
    terms=Terms("Customer", "Customers"),
    engine=Engine(user_source=StripeCustomers, user_sink=StripeCustomers, http_check=check),
    version=VERSION,
)

__all__ = ["CONNECTOR"]
