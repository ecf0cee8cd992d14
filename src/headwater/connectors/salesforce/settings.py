"""The settings of a Salesforce account, which are the same in both roles."""

import re
from typing import Annotated, Final

from headwater.connectors.settings import Format, Settings, Text, setting

ID: Final = "Id"
NAME: Final = Format(re.compile("[A-Za-z][A-Za-z0-9_]*"), "must be an API name: letters, digits and underscores")


class SalesforceSettings(Settings, frozen=True, kw_only=True):
    """The settings of one connection."""

    object: Annotated[str, Text(1, 80, NAME, help="The API name of the object: Contact, Lead, or a custom one.")]
    external_id_field: Annotated[
        str,
        Text(1, 80, NAME, help="The field by which Salesforce finds a record again. With Id none are created."),
    ] = setting("externalIDField", default=ID)
