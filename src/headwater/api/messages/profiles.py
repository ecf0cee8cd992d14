"""Profiles: the names of identities, links, refused evidence, changes and separations as messages."""

from collections.abc import Iterable, Sequence
from typing import Final
from uuid import UUID

from headwater.api.messages.times import set_time
from headwater.base.errors import BadRequest
from headwater.base.identifiers import MAX_ID
from headwater.rest.v1 import profiles_pb2 as rest_pb
from headwater.schemas import canonical_uuid
from headwater.state.profiles import IdentityName, ProfileChange, Separation
from headwater.v1 import identities_pb2
from headwater.v1 import profiles_pb2 as pb

MAX_SHOWN_NAMES: Final = 100
"""Maximum number of names of one side of a separation in a response."""
MAX_ID_BYTES: Final = 4_096
"""Size of the longest id that a name may have; events have shorter ones."""
_KINDS: Final = {"userId": False, "anonymousId": True}


def read_kpid(text: str, field: str = "kpid") -> bytes:
    """Return the 16 bytes of the id of a profile. `field` is its path in the request. Raises BadRequest."""
    try:
        return UUID(canonical_uuid(text)).bytes
    except ValueError:
        raise BadRequest(f"{field} must be a UUID", field=field) from None


def is_id(text: str) -> bool:
    """Return whether an event could have a text as the id of its user."""
    return 0 < len(text.encode()) <= MAX_ID_BYTES and "\0" not in text


def kpid_text(kpid: bytes) -> str:
    """Return the id of a profile as text."""
    return str(UUID(bytes=kpid))


def read_name(message: identities_pb2.IdentityName, field: str) -> IdentityName:
    """Return the name of an identity. `field` is its path in the request. Raises BadRequest."""
    if message.HasField("user_id") == message.HasField("anonymous_id"):
        raise BadRequest(f"{field} must have either userId or anonymousId", field=field)
    is_anonymous = message.HasField("anonymous_id")
    return _name(message.connection, message.anonymous_id if is_anonymous else message.user_id, is_anonymous, field)


def read_person(
    request: pb.FindProfilesRequest | rest_pb.FindProfilesRequest, connections: Iterable[int]
) -> list[IdentityName]:
    """Return the names that a person can have in connections. Raises BadRequest."""
    if request.HasField("user_id") == request.HasField("anonymous_id"):
        raise BadRequest("name the person by exactly one of userId and anonymousId")
    is_anonymous = request.HasField("anonymous_id")
    id_, field = (request.anonymous_id, "anonymousId") if is_anonymous else (request.user_id, "userId")
    if not is_id(id_):
        raise BadRequest(f"{field} must have 1 to {MAX_ID_BYTES} bytes without NUL", field=field)
    return [IdentityName(connection, id_, is_anonymous) for connection in connections]


def parse_name(text: str, field: str) -> IdentityName:
    """Return the name of an identity that is written as "1:userId:9" or "1:anonymousId:x". Raises BadRequest."""
    connection, _, rest = text.partition(":")
    kind, colon, id_ = rest.partition(":")
    if not (connection.isascii() and connection.isdigit() and len(connection) <= 10 and kind in _KINDS and colon):
        raise BadRequest(
            f"{field} must be connection:userId:id or connection:anonymousId:id, such as 1:userId:9", field=field
        )
    return _name(int(connection), id_, _KINDS[kind], field)


def name_message(name: IdentityName) -> identities_pb2.IdentityName:
    """Return the name of an identity as a message."""
    message = identities_pb2.IdentityName(connection=name.connection)
    if name.is_anonymous:
        message.anonymous_id = name.identity_id
    else:
        message.user_id = name.identity_id
    return message


def name_text(name: IdentityName) -> str:
    """Return the name of an identity for people."""
    kind = "anonymousId" if name.is_anonymous else "userId"
    return f"the {kind} {name.identity_id[:60]!r} of connection {name.connection}"


def change_message(change: ProfileChange) -> pb.ProfileChange:
    """Return a merge or a split as a message."""
    message = pb.ProfileChange(kind=change.kind, kpid=kpid_text(change.other))
    set_time(message, "time", change.at)
    return message


def separation_message(separation: Separation) -> pb.Separation:
    """Return a separation as a message, with at most `MAX_SHOWN_NAMES` of each side."""
    message = pb.Separation(
        id=separation.id,
        kpid=kpid_text(separation.kpid),
        sides=[_side(names) for names in separation.sides],
    )
    set_time(message, "create_time", separation.created_at)
    return message


def _side(names: Sequence[IdentityName]) -> pb.SeparationSide:
    return pb.SeparationSide(identities=map(name_message, names[:MAX_SHOWN_NAMES]), total=len(names))


def _name(connection: int, id_: str, is_anonymous: bool, field: str) -> IdentityName:
    if not 1 <= connection <= MAX_ID:
        raise BadRequest(f"{field}.connection must be in the range from 1 to {MAX_ID}", field=f"{field}.connection")
    if not is_id(id_):
        raise BadRequest(f"{field} must have an id of 1 to {MAX_ID_BYTES} bytes without NUL", field=field)
    return IdentityName(connection, id_, is_anonymous)
