"""The location of an address. Looking it up is passed in: this package opens no file."""

from typing import Protocol

import msgspec
from msgspec import Raw, Struct


class Location(Struct, frozen=True, omit_defaults=True):
    """A place on earth, as far as it is known."""

    city: str | None = None
    """Its name in English."""
    country: str | None = None
    """Its code of ISO 3166-1: two capital letters."""
    latitude: float | None = None
    """In degrees, north positive."""
    longitude: float | None = None
    """In degrees, east positive."""

    def section(self) -> Raw:
        """The section `location` of a context."""
        return Raw(_encode(self))


_encode = msgspec.json.Encoder().encode


class Locate(Protocol):
    """Finds places by addresses."""

    def __call__(self, ip: str) -> Location | None:
        """Where the address is; None when that is not known."""
        ...
