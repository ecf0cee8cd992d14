"""Reads parameters of events and properties of users with names of one's own: texts and numbers."""

from typing import Any, Final

import msgspec
from msgspec import Raw

from headwater.connectors.contract import EventRejected
from headwater.connectors.eventvalues import read_json
from headwater.connectors.google_analytics.api import (
    MAX_LONG_VALUE_CHARACTERS,
    MAX_NAME_CHARACTERS,
    MAX_PARAMETERS,
    MAX_USER_PROPERTIES,
    MAX_USER_PROPERTY_CHARACTERS,
    MAX_USER_PROPERTY_NAME_CHARACTERS,
    MAX_VALUE_CHARACTERS,
    RESERVED_PREFIXES,
    RESERVED_USER_PROPERTIES,
    is_name,
)


class _Kind(msgspec.Struct, frozen=True, kw_only=True):
    """The rules of one kind of parameters. `noun` names it in messages, and `reason` in dead letters."""

    noun: str
    reason: str
    max_name_characters: int
    reserved: frozenset[str] = frozenset()


_PARAMETER: Final = _Kind(noun="parameter", reason="InvalidParameter", max_name_characters=MAX_NAME_CHARACTERS)
_USER_PROPERTY: Final = _Kind(
    noun="user property",
    reason="InvalidUserProperty",
    max_name_characters=MAX_USER_PROPERTY_NAME_CHARACTERS,
    reserved=RESERVED_USER_PROPERTIES,
)


def read_parameters(given: dict[str, Raw]) -> dict[str, Any]:
    """Return the parameters of an event. Booleans become texts, and nulls are left out. Raises EventRejected."""
    return {name: value for name, raw in given.items() if (value := _read(name, raw, _PARAMETER)) is not None}


def check_parameters(params: dict[str, Any]) -> None:
    """Raise EventRejected if there are too many parameters, or a text that Google Analytics does not log."""
    if len(params) > MAX_PARAMETERS:
        raise EventRejected(
            "TooManyParameters",
            f"the event has {len(params)} parameters with those of its session, and {MAX_PARAMETERS} are allowed",
        )
    for name, value in params.items():
        if isinstance(value, str) and len(value) > MAX_VALUE_CHARACTERS:
            check_length(name, value, MAX_LONG_VALUE_CHARACTERS.get(name, MAX_VALUE_CHARACTERS))


def read_user_properties(given: dict[str, Raw]) -> dict[str, dict[str, Any]]:
    """Return the properties of a user in Google's form. Raises EventRejected."""
    properties = {}
    for name, raw in given.items():
        value = _read(name, raw, _USER_PROPERTY)
        if isinstance(value, str):
            check_length(name, value, MAX_USER_PROPERTY_CHARACTERS)
        if value is not None:
            properties[name] = {"value": value}
    if len(properties) > MAX_USER_PROPERTIES:
        raise EventRejected(
            "TooManyUserProperties",
            f"the event has {len(properties)} user properties, and {MAX_USER_PROPERTIES} are allowed",
        )
    return properties


def check_length(name: str, text: str, max_characters: int) -> None:
    """Raise EventRejected if a text is longer than Google Analytics logs."""
    if len(text) > max_characters:
        raise EventRejected("ValueTooLong", f"{name} has {len(text)} characters, and {max_characters} are allowed")


def _read(name: str, raw: Raw, kind: _Kind) -> str | int | float | None:
    value = read_json(name, raw)
    if value is None:
        return None
    if not is_name(name, kind.max_name_characters):
        raise EventRejected(
            kind.reason,
            f'"{name[:100]}" is no name of a {kind.noun}: a letter, and up to {kind.max_name_characters - 1} letters, '
            "digits and underscores",
        )
    if name in kind.reserved or name.startswith(RESERVED_PREFIXES):
        raise EventRejected("ReservedName", f'the {kind.noun} "{name}" is reserved by Google Analytics')
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return value
    form = "an object" if isinstance(value, dict) else "an array"
    raise EventRejected(kind.reason, f'the {kind.noun} "{name}" is {form}: map its values one by one')
