"""Klaviyo's specification of bodies, from the models of `klaviyo-api`, which Klaviyo generates from its OpenAPI.

The package has one revision. Parameters are left out: importing its operations takes a second of processor time.
"""

from typing import Final

from tests.connectors.specifications.schemas import Schema, Types, read
from tests.connectors.specifications.specification import Operation, Operations


def _body(module: str, name: str) -> Schema:
    types = Types()
    return types.closed(types.of(read(f"openapi_client.models.{module}", name)))


SPECIFICATION: Final = Operations(
    Operation("GET", "/api/accounts"),
    Operation("GET", "/api/profiles"),
    Operation("POST", "/api/events", body=_body("event_create_query_v2", "EventCreateQueryV2")),
    Operation("POST", "/api/event-bulk-create-jobs", body=_body("events_bulk_create_job", "EventsBulkCreateJob")),
    Operation("POST", "/api/profile-import", body=_body("profile_upsert_query", "ProfileUpsertQuery")),
    Operation("PATCH", "/api/profiles/{id}", body=_body("profile_partial_update_query", "ProfilePartialUpdateQuery")),
)
