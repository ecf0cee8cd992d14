"""HubSpot's specification, from the types of `hubspot-sdk`, which HubSpot generates from its OpenAPI.

The package has the version 2026-03, in which the paths of events have no `custom`. Bodies are those of later versions.
Of a search, it requires a position and takes sorts as texts, while HubSpot documents objects.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from tests.connectors.specifications.schemas import Schema, Types, read
from tests.connectors.specifications.specification import Operation, Operations

_BARE: Final = (
    *("hubspot_sdk", "hubspot_sdk.types", "hubspot_sdk.types.crm", "hubspot_sdk.types.crm.objects"),
    *("hubspot_sdk.types.crm.objects.contacts", "hubspot_sdk.types.events"),
)
_VERSION: Final = re.compile(r"/(events/custom|events|crm/objects|crm/properties|account-info)/\d{4}-\d{2}/")


def _schema(module: str, name: str) -> Schema:
    types = Types()
    return types.closed(types.of(read(f"hubspot_sdk.types.{module}", name, *_BARE)))


def _search() -> Schema:
    """Return the schema of a search with the sorts that HubSpot documents, and without a position in the first one."""
    schema = _schema("crm.objects.contact_search_params", "ContactSearchParams")
    schema["properties"]["sorts"] = {"type": "array", "items": {"type": "object"}}
    schema["required"].remove("after")
    return schema


_CONTACTS: Final = "/crm/objects/2026-03/contacts"
_OPERATIONS: Final = Operations(
    Operation("GET", "/account-info/2026-03/details"),
    Operation(
        "GET",
        "/events/2026-03/event-definitions",
        query=_schema("events.definition_list_params", "DefinitionListParams"),
    ),
    Operation(
        "POST", "/events/2026-03/send/batch", body=_schema("events.send_batch_send_params", "SendBatchSendParams")
    ),
    Operation("GET", "/crm/properties/2026-03/{object_type}"),
    Operation("POST", f"{_CONTACTS}/search", body=_search()),
    Operation(
        "POST",
        f"{_CONTACTS}/batch/upsert",
        body=_schema("crm.objects.contacts.batch_upsert_params", "BatchUpsertParams"),
    ),
    Operation(
        "POST",
        f"{_CONTACTS}/batch/update",
        body=_schema("crm.objects.contacts.batch_update_params", "BatchUpdateParams"),
    ),
)


class _Versions:
    """The operations, for requests of each version."""

    def find_errors(self, method: str, path: str, query: Mapping[str, list[str]], body: bytes) -> Any:
        named = _VERSION.sub(lambda found: f"/{found[1].removesuffix('/custom')}/2026-03/", path, count=1)
        return _OPERATIONS.find_errors(method, named, query, body)


SPECIFICATION: Final = _Versions()
