"""Reads the values of the identifiers of an identity from its attributes.

A blank or blocked value counts as absent. A value is text: that of a string as it is, a number as decimal digits
without an exponent, a UUID in lower case, an IP address in its canonical form.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from headwater.catalog.profiles import ResolutionSettings
from headwater.schemas import Schema
from headwater.state.profiles.model import Evidence, Link, LinkValue

SAME_NAME: Final = -1
"""The identifier of a `LinkValue` that stands for a name: the same user of one connection. The value is the
identity id."""
MAX_VALUE_BYTES: Final = 200
"""Maximum size of a value, in bytes of UTF-8. A digest replaces a longer value, and one that databases cannot store."""


class EvidenceReader:
    """Reads evidence from attributes, for the identifiers of a workspace.

    Without a schema, or for an identifier that the schema does not have, no identity has evidence.
    """

    def __init__(self, settings: ResolutionSettings, schema: Schema | None) -> None:
        raise NotImplementedError

    def read(self, attributes: str) -> Evidence:
        """Return the value of each identifier in the attributes, a JSON object."""
        raise NotImplementedError

    def blocked(self, attributes: str) -> list[LinkValue]:
        """Return the values in the attributes that are not evidence because they are blocked. Blank values are not
        among them."""
        raise NotImplementedError


def masks_of(evidence: Evidence) -> list[tuple[LinkValue, int]]:
    """Return the values of the evidence, each with its mask: bit k is set if the stronger identifier k has a value."""
    raise NotImplementedError


def links_of(identity: int, evidence: Evidence) -> list[Link]:
    """Return the links of an identity with this evidence."""
    raise NotImplementedError


def links_of_all(identities: Iterable[tuple[int, Evidence]]) -> Sequence[Link]:
    """Return the links of all these identities."""
    raise NotImplementedError
