"""Checks a context against the types of the event schema. Members outside of the schema are not checked.

The native protocol rejects an event with an invalid value. Other protocols omit the value.
"""

import ipaddress
import re
from functools import lru_cache
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from headwater.events.decode_errors import explain_native
from headwater.events.protocol import Rejection
from headwater.events.raw import ABSENT, is_absent, is_object
from headwater.schemas import (
    EVENT_SCHEMA,
    BooleanType,
    DecimalType,
    FloatType,
    IntType,
    MapType,
    ObjectType,
    Type,
    canonical_ip,
    property_at,
)

MAX_SCREEN: Final = 32_767
"""Maximum width and height of a screen, in pixels."""
_MIN_DENSITY, _DENSITY_LIMIT = 0.005, 9.995
"""The range in which a density is above 0 and below 10 after rounding to two decimals."""
_INT64: Final = range(-(2**63), 2**63)
_DIGITS: Final = re.compile(r"-?[0-9]{1,19}")

_OUTSIDE_SCHEMA: Final[dict[str, Any]] = {
    "direct": bool,
    "groupId": str,
    "sessionId": int,
    "sessionStart": bool,
}
"""The types of context members that the schema has elsewhere, or not at all."""


def check_context(context: Raw) -> Rejection | None:
    """Return the first rule that the context, which may be absent, breaks; None if there is none."""
    if not context:
        return None
    if not is_object(context):
        return Rejection("BadRequest", "context", "context must be an object")
    try:
        sections = _decode(context)
    except msgspec.ValidationError as error:
        return explain_native(error, root="context", parent="context")
    if not is_absent(sections.traits) and not is_object(sections.traits):
        return Rejection("BadRequest", "context.traits", "context.traits must be an object or null")
    return (
        _check_ip(sections.ip)
        or _check_screen(sections.screen)
        or _check_session_id("context.sessionId", sections.sessionId)
        or (None if sections.session is UNSET else _check_session_id("context.session.id", sections.session.id))
        or _check_consents(sections.consents)
    )


def _check_ip(ip: str | UnsetType) -> Rejection | None:
    broken = _broken_rule_of_ip(ip) if ip else None
    return None if broken is None else Rejection("BadRequest", "context.ip", f"context.ip {broken}")


@lru_cache(maxsize=4096)
def _broken_rule_of_ip(text: str) -> str | None:
    try:
        address = ipaddress.ip_address(canonical_ip(text))
    except ValueError as error:
        return str(error)
    return "must not be a multicast address" if address.is_multicast else None


def _check_screen(screen: Any) -> Rejection | None:
    """Check the sizes. Clients send zero for an unknown size."""
    if screen is UNSET:
        return None
    for name in ("width", "height"):
        pixels = getattr(screen, name)
        if pixels is not UNSET and not 0 <= pixels <= MAX_SCREEN:
            return _out_of_range(f"context.screen.{name}", f"an integer from 1 to {MAX_SCREEN}")
    if screen.density and not _MIN_DENSITY <= screen.density < _DENSITY_LIMIT:
        return _out_of_range("context.screen.density", "above 0 and below 10 when it is rounded to two decimals")
    return None


def _check_session_id(path: str, value: int | str | UnsetType) -> Rejection | None:
    if isinstance(value, str) and value:
        value = int(value) if _DIGITS.fullmatch(value) else _INT64.stop
    if isinstance(value, int) and value not in _INT64:
        return _out_of_range(path, "an integer of 64 bits")
    return None


def _check_consents(consents: dict[str, bool] | UnsetType) -> Rejection | None:
    if consents and "" in consents:
        return Rejection("BadRequest", "context.consents", "context.consents must not have an empty purpose")
    return None


def _out_of_range(path: str, rule: str) -> Rejection:
    return Rejection("BadRequest", path, f"{path} must be {rule}")


def _decoder() -> msgspec.json.Decoder[Any]:
    type_ = property_at(EVENT_SCHEMA, "context").type
    assert isinstance(type_, ObjectType)
    return msgspec.json.Decoder(_struct("context", type_, **_OUTSIDE_SCHEMA))


def _struct(name: str, schema: ObjectType, **outside: Any) -> type[msgspec.Struct]:
    members = {property_.name: _json_type(property_.name, property_.type) for property_ in schema.properties} | outside
    fields: list[tuple[str, Any, Any]] = [(member, type_ | UnsetType, UNSET) for member, type_ in members.items()]
    if name == "context":
        fields.append(("traits", Raw, ABSENT))
    return msgspec.defstruct(name, fields)


def _json_type(name: str, type_: Type) -> Any:
    match type_:
        case ObjectType():
            return _struct(name, type_)
        case MapType():
            return dict[str, bool]
        case BooleanType():
            return bool
        case IntType(bit_size=64):
            return int | str  # stored events have such a number as text
        case IntType():
            return int
        case FloatType() | DecimalType():
            return float
        case _:
            return str


_decode: Final = _decoder().decode
