"""HubSpot's specification, from the types of `hubspot-sdk`, which HubSpot generates from its OpenAPI.

The package has the version 2026-03, and requests of later versions are validated by it.
Of a search, it requires a position and takes sorts as texts, while HubSpot documents objects.
"""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl

from tests.connectors.specifications.pythontypes import Types, read
from tests.connectors.specifications.schemas import Schema
from tests.connectors.specifications.specification import Operation, Operations

_BARE: Final = (
    *("hubspot_sdk", "hubspot_sdk.types", "hubspot_sdk.types.crm", "hubspot_sdk.types.crm.objects"),
    *("hubspot_sdk.types.crm.objects.contacts", "hubspot_sdk.types.events", "hubspot_sdk.types.auth"),
)
_VERSION: Final = re.compile(r"/\d{4}-\d{2}/")


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


_TOKENS: Final = Operations(
    Operation("POST", "/oauth/2026-03/token", body=_schema("auth.oauth_create_token_params", "OAuthCreateTokenParams")),
    read_form=lambda body: dict(parse_qsl(body.decode(), keep_blank_values=True)),
)


class _Versions:
    """The operations, for requests of each version."""

    def find_errors(self, method: str, path: str, query: Mapping[str, list[str]], body: bytes) -> list[str]:
        operations = _TOKENS if path.startswith("/oauth/") else _OPERATIONS
        return operations.find_errors(method, _VERSION.sub("/2026-03/", path, count=1), query, body)


SPECIFICATION: Final = _Versions()
