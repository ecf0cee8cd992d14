"""Everything in a workspace on which its profiles depend, compiled, and its digest."""

from hashlib import blake2b
from typing import Final, Self

import msgspec
from msgspec import Struct

from headwater.catalog.profiles import ProfileSchema, ResolutionSettings
from headwater.profiles.evidence import EvidenceReader
from headwater.profiles.merging import Merger
from headwater.schemas import serialise

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
        reader = EvidenceReader(settings, None if schema is None else schema.schema)
        return cls(workspace, settings, reader, Merger(schema), digest(settings, schema))


def digest(settings: ResolutionSettings, schema: ProfileSchema | None) -> str:
    """Return a hash of everything on which profiles depend: identifiers with their guards, schema and primary sources.

    The profiles of a workspace are up to date while its digest is the applied one.
    """
    rule = (
        RULE_VERSION,
        settings.identifiers,
        None
        if schema is None
        else (schema.version, sorted(schema.primary_sources.items()), serialise(schema.schema).decode()),
    )
    return blake2b(msgspec.json.encode(rule), digest_size=16).hexdigest()
