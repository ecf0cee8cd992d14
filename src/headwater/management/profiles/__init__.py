"""The profile schema of a workspace, and the settings of its identity resolution."""

from headwater.management.profiles.planning import SchemaRequest, check_schema
from headwater.management.profiles.schema import (
    can_identify,
    identifier_schema,
    latest_update,
    preview_profile_schema,
    update_profile_schema,
)
from headwater.management.profiles.settings import (
    GuardsRequest,
    SettingsRequest,
    check_settings,
    preview_settings,
    update_settings,
)

__all__ = [
    "GuardsRequest",
    "SchemaRequest",
    "SettingsRequest",
    "can_identify",
    "check_schema",
    "check_settings",
    "identifier_schema",
    "latest_update",
    "preview_profile_schema",
    "preview_settings",
    "update_profile_schema",
    "update_settings",
]
