"""Reads and writes records of Salesforce, such as contacts and leads, with access that a user grants by OAuth.

docs/connectors/salesforce.md has the form of requests.
"""

from typing import Final

from headwater.connectors.connector import OAuthSupport, Terms
from headwater.connectors.contract import Engine
from headwater.connectors.describing import application
from headwater.connectors.salesforce.api import VERSION
from headwater.connectors.salesforce.authorization import SalesforceAuthorization
from headwater.connectors.salesforce.records import SalesforceRecords, check
from headwater.connectors.salesforce.settings import SalesforceSettings

CONNECTOR: Final = application(
    "salesforce",
    "Salesforce",
    "CRM",
    SalesforceSettings,
    writes=("User",),
    terms=Terms("Record", "Records", "Salesforce ID"),
    engine=Engine(
        user_source=SalesforceRecords,
        user_sink=SalesforceRecords,
        oauth=lambda _settings, context: SalesforceAuthorization(context),
        http_check=check,
    ),
    oauth=OAuthSupport(),
    version=VERSION,
)

__all__ = ["CONNECTOR"]
