"""The configuration: workspaces, API keys, connections with event write keys and links, pipelines.

It is stored in one database that all processes share. Each process serves lookups from its own view in memory. The
catalog stores what it receives and serialises writers; `headwater.management` has the rules.
"""

from headwater.catalog.access import Caller
from headwater.catalog.catalog import Catalog, open_catalog
from headwater.catalog.change import Change
from headwater.catalog.definition import (
    Definition,
    FunctionDefinition,
    Matching,
    TransformationDefinition,
    encode_definition,
)
from headwater.catalog.model import (
    Access,
    ApiKey,
    Connection,
    OAuthAccount,
    Pipeline,
    UiPreferences,
    Workspace,
    api_key_digest,
)
from headwater.catalog.profiles import Identifier, ProfileSchema, Rename, Renaming, ResolutionSettings
from headwater.catalog.retention import MAX_RETENTION_DAYS, RetentionSettings

__all__ = [
    "MAX_RETENTION_DAYS",
    "Access",
    "ApiKey",
    "Caller",
    "Catalog",
    "Change",
    "Connection",
    "Definition",
    "FunctionDefinition",
    "Identifier",
    "Matching",
    "OAuthAccount",
    "Pipeline",
    "ProfileSchema",
    "Rename",
    "Renaming",
    "ResolutionSettings",
    "RetentionSettings",
    "TransformationDefinition",
    "UiPreferences",
    "Workspace",
    "api_key_digest",
    "encode_definition",
    "open_catalog",
]
