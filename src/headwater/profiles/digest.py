"""The digest of everything on which the profiles of a workspace depend, besides its identities and separations."""

from hashlib import sha256

import msgspec

from headwater.catalog import Workspace


def settings_digest(workspace: Workspace) -> str:
    """Return a digest that differs when all identities must be resolved again.

    It covers the identifiers with their guards, the version of the profile schema and the primary sources.
    `run_on_batch_import` decides when identities are resolved, and is not part of it.
    """
    profiles = workspace.profile_schema
    version, sources = (0, {}) if profiles is None else (profiles.version, profiles.primary_sources)
    parts = (workspace.resolution.identifiers, version, sources)
    return sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()
