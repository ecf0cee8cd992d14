"""Merges the attributes of the identities of a profile. Pure.

A scalar, a map or a JSON value is the latest that is present and not null, and the higher identity wins a tie. The
values of the property's primary source take precedence. An array has the elements of all arrays, without repeated ones,
sorted. A value that does not fit the profile schema is skipped.
"""

from collections.abc import Sequence

from headwater.catalog.profiles import ProfileSchema
from headwater.state.profiles.model import IdentityRow


class Merger:
    """Merges attributes for the profile schema of a workspace. Without a schema, profiles have no attributes."""

    def __init__(self, schema: ProfileSchema | None) -> None:
        raise NotImplementedError

    def merge(self, identities: Sequence[IdentityRow]) -> tuple[str, int]:
        """Return the attributes of a profile with these identities, at least one, and its time of change.

        The attributes are canonical: a JSON object with sorted members. The time is that of the latest identity.
        """
        raise NotImplementedError
