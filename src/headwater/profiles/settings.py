"""Everything in a workspace on which its profiles depend, compiled, and its digest."""

from typing import Final, Self

from msgspec import Struct

from headwater.catalog.profiles import ProfileSchema, ResolutionSettings
from headwater.profiles.evidence import EvidenceReader
from headwater.profiles.merging import Merger

RULE_VERSION: Final = 1
"""Grows with a change of the code after which the same identities give other profiles, so that all are resolved."""


class ResolutionContext(Struct, frozen=True):
    """The settings of a workspace. Compile it once for each digest."""

    workspace: int
    settings: ResolutionSettings
    reader: EvidenceReader
    merger: Merger
    digest: str

    @classmethod
    def compile(cls, workspace: int, settings: ResolutionSettings, schema: ProfileSchema | None) -> Self:
        """Compile the settings of identity resolution and the profile schema of a workspace."""
        raise NotImplementedError


def digest(settings: ResolutionSettings, schema: ProfileSchema | None) -> str:
    """Return a hash of everything on which profiles depend: identifiers with their guards, schema and primary sources.

    The profiles of a workspace are up to date while its digest is the applied one.
    """
    raise NotImplementedError
