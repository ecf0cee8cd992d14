"""The location of an address. The caller provides the lookup, so this package opens no file."""

from typing import Protocol

import msgspec
from msgspec import Raw, Struct


class Location(Struct, frozen=True, omit_defaults=True):
    """A place on earth. Unknown members are None."""

    city: str | None = None
    """The name of the city in English."""
    country: str | None = None
    """The code of the country in ISO 3166-1: two capital letters."""
    latitude: float | None = None
    """The latitude in degrees, north positive."""
    longitude: float | None = None
    """The longitude in degrees, east positive."""

    def section(self) -> Raw:
        """The section `location` of a context."""
        return Raw(_encode(self))


_encode = msgspec.json.Encoder().encode


class Locate(Protocol):
    """Looks up the location of addresses."""

    def __call__(self, ip: str) -> Location | None:
        """Return the location of the address; None if it is unknown."""
        ...
