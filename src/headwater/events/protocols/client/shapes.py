"""The shapes of the objects in calls, and the documented messages for broken rules.

Only the first broken rule is reported, in this order: missing members, forbidden members, then member by member.
"""

from typing import Final, Literal, NoReturn

import msgspec
from msgspec import Raw, Struct

from headwater.base.errors import Unprocessable
from headwater.base.json_depth import is_deeper
from headwater.events.devices import MAX_KEY_BYTES
from headwater.events.protocol import MAX_DEPTH
from headwater.events.raw import is_absent, is_object, is_string, members
from headwater.events.wire import MAX_ID_BYTES, MAX_TEXT_LENGTH

CODE: Final = "ValidationError"
"""The code of a call that breaks a rule."""

Kind = Literal["id", "key", "text", "object", "user"]
"""id: a text of at most 1,000 characters and 2,000 bytes; key: of at most 1,000 bytes; text: of any length."""

_decode_text = msgspec.json.Decoder(str).decode


class Member(Struct, frozen=True):
    """The rules of a member, if it is present."""

    kind: Kind
    is_nullable: bool = True


class Shape(Struct, frozen=True):
    """The rules of an object."""

    members: dict[str, Member]
    required: tuple[str, ...] = ()
    needs_person: bool = True
    """True if it must name a person; a null or empty id is sufficient."""
    is_open: bool = True
    """True if it may have other members too."""


_PERSON: Final = {"anonymous_id": Member("id"), "external_id": Member("id")}
_MESSAGE: Final = {"message_id": Member("id")}
"""An extension: calls of the original API have no message id, so repeats count twice."""
_IDS: Final = frozenset((*_PERSON, *_MESSAGE, "device_id", "token"))
"""The members that identify people, devices and messages."""
_CONTACT: Final = {name: Member("text") for name in ("email", "phone", "timezone", "locale")}

USER: Final = Shape({**_CONTACT, "data": Member("object")}, needs_person=False)
ALIAS: Final = Shape(
    {"anonymous_id": Member("id", is_nullable=False), "external_id": Member("id", is_nullable=False), **_MESSAGE},
    required=("external_id", "anonymous_id"),
)
IDENTIFY: Final = Shape({**_PERSON, **_MESSAGE, **_CONTACT, "data": Member("object")}, is_open=False)
DEVICE: Final = Shape(
    {
        **_PERSON,
        **_MESSAGE,
        "device_id": Member("key", is_nullable=False),
        "token": Member("key"),
        **{name: Member("text", is_nullable=False) for name in ("os", "os_version", "model", "app_build")},
        "app_version": Member("text", is_nullable=False),
    },
    required=("device_id", "os", "model", "app_build", "app_version"),
)
EVENT: Final = Shape({"name": Member("id"), **_PERSON, **_MESSAGE, "data": Member("object"), "user": Member("user")})
TRACK: Final = Shape({"event": Member("id"), **EVENT.members})
"""The shape of an event of the JavaScript SDK."""


def take_apart(value: Raw, shape: Shape, path: str = "") -> dict[str, Raw]:
    """Return the members of an object of this shape; `path` is its place in the call, empty for the call itself.

    Raises Unprocessable for the first rule that it breaks.
    """
    if not is_object(value):
        wrong_type(path, "object")
    if is_deeper(value, MAX_DEPTH):
        _reject(path, f"The value of `{path}` must NOT be nested deeper than {MAX_DEPTH} levels.")
    parts = members(value)
    for name in shape.required:
        if name not in parts:
            _missing(path, name)
    if shape.needs_person and "anonymous_id" not in parts and "external_id" not in parts:
        _missing(path, "anonymous_id")
    if not shape.is_open and not parts.keys() <= shape.members.keys():
        _reject(path, "Must NOT have additional properties")
    for name, member in shape.members.items():
        if name in parts:
            _check(parts[name], member, f"{path}/{name}" if path else name)
    return parts


def check_surrogates(parts: dict[str, Raw], counterparts: dict[str, Raw], path: str = "") -> None:
    """Raise Unprocessable for an identifier with an unpaired surrogate.

    `counterparts` are the members with another character in place of each unpaired surrogate.
    """
    for name in sorted(parts.keys() & _IDS):
        if bytes(parts[name]) != bytes(counterparts[name]):
            member = f"{path}/{name}" if path else name
            _reject(member, f"The value of `{member}` must NOT contain an unpaired surrogate.")


def wrong_type(path: str, type_: str) -> NoReturn:
    """Reject a value of another type."""
    _reject(path, f"The value of `{path}` must be a {type_}.")


def decode_text(value: Raw | None) -> str | None:
    """Return the text of a checked member; None if it is absent, null or empty."""
    return None if value is None or is_absent(value) else _decode_text(value) or None


def _check(value: Raw, member: Member, path: str) -> None:
    if is_absent(value) and member.is_nullable:
        return
    if member.kind == "user":
        take_apart(value, USER, path)
    elif member.kind == "object":
        if not is_object(value):
            wrong_type(path, "object")
    elif not is_string(value):
        wrong_type(path, "string")
    else:
        _check_text(_decode_text(value), member.kind, path)


def _check_text(text: str, kind: Kind, path: str) -> None:
    if kind == "text":
        return
    if "\0" in text:
        _reject(path, f"The value of `{path}` must NOT contain the NUL character.")
    max_bytes = MAX_KEY_BYTES if kind == "key" else MAX_ID_BYTES
    if len(text.encode()) > max_bytes:
        _reject(path, f"The value of `{path}` must NOT have more than {max_bytes} bytes.")
    if len(text) > MAX_TEXT_LENGTH:
        _reject(path, f"The value of `{path}` must NOT have more than {MAX_TEXT_LENGTH} characters.")


def _missing(path: str, name: str) -> NoReturn:
    _reject(f"{path}/{name}" if path else name, f"Must have required property '{name}'")


def _reject(path: str, message: str) -> NoReturn:
    """Reject the call. The field is relative to the event's root, so that rejections can be counted by it."""
    raise Unprocessable(CODE, message, field=".".join(part for part in path.split("/") if not part.isdigit()) or None)
