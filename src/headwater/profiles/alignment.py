"""Whether a pipeline of users fits the profile schema of its workspace."""

from headwater.catalog import Catalog, Definition, ProfileSchema
from headwater.connectors.connector import Role, Target
from headwater.schemas import Misalignment, misalignment, parse_schema


def find_profile_schema(catalog: Catalog, workspace: int) -> ProfileSchema | None:
    """Return the profile schema of a workspace; None if it has none."""
    found = catalog.workspace(workspace)
    return None if found is None else found.profile_schema


def find_misalignment(
    definition: Definition, role: Role, target: Target, profiles: ProfileSchema | None
) -> Misalignment | None:
    """Return the first property of the pipeline's profiles that differs from the profile schema.

    Those are the properties of the output schema for a source, and of the input schema for a destination. None if they
    are aligned, if the pipeline does not process users, or if the workspace has no profile schema.
    """
    if target != "User" or profiles is None:
        return None
    text = definition.out_schema if role == "Source" else definition.in_schema
    return None if text is None else misalignment(parse_schema(text), profiles.schema)
