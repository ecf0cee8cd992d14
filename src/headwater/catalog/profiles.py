"""How a workspace makes profiles: the schema of profiles, and the settings of identity resolution."""

from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from headwater.schemas import Schema, parse_schema, serialise

BlockedPreset = Literal["EmptyWords", "ZerosAndDashes"]
"""Values that are never evidence: words such as "null", "none", "unknown" or "n/a" in any letter case; values that
consist of the characters 0, -, ., + and spaces."""
MAX_IDENTIFIERS: Final = 10
DEFAULT_MAX_IDENTITIES: Final = 1_000


class Identifier(msgspec.Struct, frozen=True, kw_only=True):
    """A property of profiles by which identities are recognised as one person, with its guards."""

    path: str
    blocked_values: tuple[str, ...] = ()
    """Values that are never evidence."""
    blocked_presets: tuple[BlockedPreset, ...] = ()
    max_identities: int = DEFAULT_MAX_IDENTITIES
    """A value that more identities have is evidence for none of them."""
    max_values: int | None = None
    """Maximum number of different values of the identifier in one profile; None for no limit."""
    allows_blank: bool = False
    """Whether an empty value, or one of only white space, is evidence."""


class ResolutionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How identities are resolved into profiles."""

    run_on_batch_import: bool = True
    """Whether a batch import ends with a resolution of the identities that it changed."""
    identifiers: tuple[Identifier, ...] = ()
    """Distinct identifiers, the strongest first, at most `MAX_IDENTIFIERS`."""


class Rename(msgspec.Struct, frozen=True, kw_only=True):
    """A change of the path of a profile property, or its removal."""

    old: str
    new: str | None
    """The new path; None if the property and its values are removed."""


class Renaming:
    """Renames and removals of profile properties, applied together."""

    def __init__(self, renames: Iterable[Rename]) -> None:
        self._new = {rename.old: rename.new for rename in renames}

    def __bool__(self) -> bool:
        """Return whether a property is renamed or removed."""
        return bool(self._new)

    def new_path(self, path: str) -> str | None:
        """Return the path that a property has afterwards; None if it is removed, also with an object around it."""
        if not self._new:
            return path
        end = len(path)
        while end > 0:
            here = path[:end]
            if here in self._new:
                new = self._new[here]
                return None if new is None else new + path[end:]
            end = path.rfind(".", 0, end)
        return path


class ProfileSchema(msgspec.Struct, frozen=True, kw_only=True):
    """The schema of the profiles of a workspace."""

    schema: Schema
    primary_sources: dict[str, int] = {}
    """For paths of properties: the source connection whose values take precedence."""
    version: int = 1
    """Grows by one with each change."""
    renames: tuple[Rename, ...] = ()
    """The renames and removals that led from the version before to this one, to apply together."""


class _StoredSchema(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A profile schema as it is stored, with the properties as canonical JSON text."""

    schema: str
    primary_sources: dict[str, int] = {}
    version: int = 1
    renames: tuple[Rename, ...] = ()


_decode_stored = msgspec.json.Decoder(_StoredSchema).decode


def encode_profile_schema(profiles: ProfileSchema) -> str:
    """Return the stored form of a profile schema."""
    stored = _StoredSchema(
        schema=serialise(profiles.schema).decode(),
        primary_sources=profiles.primary_sources,
        version=profiles.version,
        renames=profiles.renames,
    )
    return msgspec.json.encode(stored).decode()


def decode_profile_schema(text: str) -> ProfileSchema:
    """Return the profile schema with this stored form. Raises ValueError if there is none."""
    stored = _decode_stored(text)
    schema = parse_schema(stored.schema)
    if schema is None:
        raise ValueError("a stored profile schema has no properties")
    return ProfileSchema(
        schema=schema, primary_sources=stored.primary_sources, version=stored.version, renames=stored.renames
    )
