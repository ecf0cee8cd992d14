"""Reads the values that a mapping returned for an event, by the schema of its event type."""

import math
import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from headwater.connectors.contract import EventRejected, EventType, OutgoingEvent
from headwater.schemas import Codec, JsonType, Schema, all_optional

NUMBER: Final = JsonType()
"""The type of a property with a number. Events may have it as a text, such as "19.99": `EventValues` returns a number.

It is recognised by its identity, so that a property with another `JsonType` stays as it is.
"""

_decode: Final = msgspec.json.Decoder().decode
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,30}(?:\.[0-9]{1,30})?(?:[eE][+-]?[0-9]{1,3})?")


class EventValues:
    """The event types of a sink. Make it once for each connector: compiling the schemas takes long."""

    def __init__(self, event_types: Iterable[EventType]) -> None:
        types = {type_.id: type_.schema for type_ in event_types}
        self._codecs = {id_: None if schema is None else Codec(all_optional(schema)) for id_, schema in types.items()}
        self._numbers = {id_: _find_numbers(schema) for id_, schema in types.items()}

    def document(self, event: OutgoingEvent) -> dict[str, Any]:
        """Return the values of an event as the members of a JSON object; none if its type has no schema.

        Raises EventRejected for an event type that does not exist and for a `NUMBER` that is none, and InvalidValue for
        values of another schema.
        """
        try:
            codec = self._codecs[event.event_type]
        except KeyError:
            raise EventRejected("UnknownEventType", f'event type "{event.event_type}" does not exist') from None
        if codec is None:
            return {}
        document = codec.document(event.values)
        for name in self._numbers[event.event_type]:
            if name in document:
                number = read_number(name, read_json(name, document.pop(name)))
                if number is not None:
                    document[name] = number
        return document


def _find_numbers(schema: Schema | None) -> tuple[str, ...]:
    return () if schema is None else tuple(each.name for each in schema.properties if each.type is NUMBER)


def read_json(name: str, raw: msgspec.Raw) -> Any:
    """Return the value of the JSON text of a property. Raises EventRejected for one that has no value in Python."""
    try:
        return _decode(raw)
    except msgspec.DecodeError:
        raise EventRejected(
            "InvalidValue", f"{name[:100]} is a number that is too large, or has half a character"
        ) from None


def read_number(name: str, value: object) -> float | None:
    """Return the number that a value of JSON is or has as its text; None for null and an empty text.

    Raises EventRejected for any other value. `name` is that of the property, for the message.
    """
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        text = value.strip()
        if not text:
            return None
        if _NUMBER.fullmatch(text) and math.isfinite(number := float(text)):
            return int(text) if text.lstrip("+-").isdigit() else number
    shown = msgspec.json.encode(value).decode()[:100]
    raise EventRejected("InvalidNumber", f"{name} is {shown}, which is not a number")


def read_currency(text: str | None) -> str | None:
    """Return a code of ISO 4217 in upper case; None for null and a blank text.

    Raises EventRejected for a text that has not the form of one.
    """
    code = (text or "").strip().upper()
    if not code:
        return None
    if not (len(code) == 3 and code.isascii() and code.isalpha()):
        raise EventRejected("InvalidCurrency", f'the currency is "{code[:20]}", which is no code of three letters')
    return code
