"""Encodes updates of profiles for `/engage`, which identify events and exported users have in common."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from headwater.connectors.contract import EventRejected

_RESERVED: Final = frozenset({"$distinct_id", "$token"})
_encode: Final = msgspec.json.Encoder().encode


def check_names(properties: Mapping[str, Any], reserved: frozenset[str] = _RESERVED) -> None:
    """Raise EventRejected if a property has a reserved name; without `reserved`, one of those of profiles."""
    if not reserved.isdisjoint(properties):
        name = min(reserved.intersection(properties))
        raise EventRejected("ReservedProperty", f'Mixpanel reserves the property "{name}": map it to another name')


def set_properties(token: str, user: str, properties: Mapping[str, Any], ip: str = "") -> bytes:
    """Return the update that sets properties of a profile, and creates the profile if there is none.

    Mixpanel sets the city and the country from the IP address, if there is one.
    """
    location = {"$ip": ip} if ip else {}
    return _encode({"$token": token, "$distinct_id": user, **location, "$set": properties})


def remove_properties(token: str, user: str, names: Sequence[str]) -> bytes:
    """Return the update that removes properties of a profile."""
    return _encode({"$token": token, "$distinct_id": user, "$unset": names})
