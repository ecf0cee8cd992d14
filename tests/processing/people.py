"""Settings of identity resolution for the tests of persons."""

from msgspec.structs import replace

from headwater.catalog.profiles import Identifier, ProfileSchema, ResolutionSettings
from tests.harness import Harness
from tests.processing.test_lanes import SCHEMA


async def resolve_by_email(harness: Harness) -> None:
    """Let the workspace recognise identities by their email."""
    async with harness.catalog.change() as change:
        workspace = harness.catalog.workspace(harness.workspace)
        assert workspace is not None
        assert SCHEMA is not None
        settings = ResolutionSettings(identifiers=(Identifier(path="email"),))
        change.update_workspace(replace(workspace, profile_schema=ProfileSchema(schema=SCHEMA), resolution=settings))
