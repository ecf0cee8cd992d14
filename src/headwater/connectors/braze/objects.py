"""The users of Braze's objects: their one identifier, and their attributes."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from headwater.connectors.braze.api import find_broken_name
from headwater.connectors.identities import is_placeholder

RESERVED_NAMES: Final = frozenset(
    {
        "_update_existing_only",
        "app_id",
        "braze_id",
        "external_id",
        "push_token_import",
        "push_tokens",
        "subscription_groups",
        "user_alias",
    }
)
"""Members of an object of attributes that are no attributes, or change more than one."""

_IDENTIFIERS: Final = ("external_id", "email", "phone")
_GENDERS: Final = {
    "male": "M",
    "female": "F",
    "other": "O",
    "not applicable": "N",
    "prefer not to say": "P",
}
_TRAITS: Final = {"firstName": "first_name", "lastName": "last_name"}
"""Traits that are other names of Braze's attributes. They are not sent twice."""

_encode: Final = msgspec.json.Encoder().encode


class InvalidUser(Exception):
    """Braze never accepts the attributes of a user. `reason` is a short code."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def identify_user(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the one identifier of a user; empty without one that is no placeholder."""
    for name in _IDENTIFIERS:
        if not is_placeholder(values.get(name) or ""):
            return {name: values[name]}
    return {}


def make_attributes(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the object that sets attributes of a user, of which `custom_attributes` are the custom ones.

    Members of nested objects that are null are left out, because Braze drops an attribute that has one. Raises
    InvalidUser.
    """
    user = identify_user(values)
    if not user:
        raise InvalidUser("MissingIdentity", "there is no identifier of a user, or only a placeholder")
    fields = {name: _without_nulls(value) for name, value in values.items() if name != "custom_attributes"}
    for name in _IDENTIFIERS:
        if is_placeholder(fields.get(name) or ""):
            fields.pop(name, None)
    custom = _custom_attributes(values.get("custom_attributes") or {}, fields)
    made = {"_update_existing_only": False, **custom, **fields, **user}
    if isinstance(gender := made.get("gender"), str):
        made["gender"] = _GENDERS.get(gender.strip().lower(), gender)
    return made


def _custom_attributes(given: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    attributes = {}
    for name, value in given.items():
        if rule := find_broken_name(name):
            raise InvalidUser("InvalidAttributes", rule)
        if name in RESERVED_NAMES:
            raise InvalidUser("InvalidAttributes", f"{name} is reserved, and cannot be the name of an attribute")
        if _TRAITS.get(name) not in fields:
            attributes[name] = _without_nulls(value)
    return attributes


def without_nulls(value: Any) -> Any:
    """Return a decoded JSON value without the members and elements inside that are null."""
    if isinstance(value, dict):
        return {name: without_nulls(each) for name, each in value.items() if each is not None}
    return [without_nulls(each) for each in value if each is not None] if isinstance(value, list) else value


def _without_nulls(value: Any) -> Any:
    """Return a value of a mapping, which may have parts that are JSON, without what is null inside."""
    body = _encode(value)
    return without_nulls(msgspec.json.decode(body)) if b"null" in body else value
