"""Sends events, purchases and users to Braze.

docs/connectors/braze.md has the form of requests.
"""

from typing import Final

from headwater.connectors.braze.api import check
from headwater.connectors.braze.events import BrazeSink
from headwater.connectors.braze.settings import BrazeSettings
from headwater.connectors.braze.users import BrazeUsers
from headwater.connectors.connector import Terms
from headwater.connectors.contract import Engine
from headwater.connectors.describing import application

CONNECTOR: Final = application(
    "braze",
    "Braze",
    "Marketing",
    BrazeSettings,
    reads=False,
    writes=("User", "Event"),
    terms=Terms("User", "Users", "External ID"),
    engine=Engine(user_sink=BrazeUsers, event_sink=BrazeSink, http_check=check),
)

__all__ = ["CONNECTOR"]
