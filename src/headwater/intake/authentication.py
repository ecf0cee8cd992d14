"""Authenticates calls with events and finds the source connection of the events.

A write key, in a header or in the body, identifies a source. An API key identifies a workspace; the
body then names the source. Only calls of the native protocol do that.
"""

import base64
import binascii
from typing import Final

from msgspec import Struct

from headwater.base.errors import BadRequest, Unauthorized, Unprocessable
from headwater.catalog import Catalog, Connection
from headwater.catalog.access import API_KEY_PREFIX, check_may_write, find_caller
from headwater.connectors.connector import EVENT_SOURCE_TYPES
from headwater.connectors.registry import CONNECTORS
from headwater.events import ProtocolName
from headwater.events.protocol import Call

_HOW: Final = "a write key is required: as Basic user, as Bearer token, in X-Write-Key, or as writeKey in the body"
_HOW_NATIVE: Final = "a key is required: as Bearer token, or a write key as writeKey in the body"


class UnknownWriteKey(Unauthorized):
    """No source has this write key."""

    def __init__(self, key: str) -> None:
        super().__init__("the write key is not known")
        self.key = key


class Principal(Struct, frozen=True):
    """The authenticated caller, as far as it is known."""

    key: str = ""
    """Identifies the caller: the write key, or "api" and the identifier of the API key."""
    workspace: int = 0
    """0 if the key is unknown or not read yet."""
    source: Connection | None = None


ANONYMOUS: Final = Principal()


class Authenticator:
    """Authenticates callers with the keys of the catalog."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def from_headers(
        self, protocol: ProtocolName, authorization: str | None, workspace: str | None, write_key: str | None = None
    ) -> Principal:
        """Return the caller by the values of the headers `Authorization`, `Headwater-Workspace` and `X-Write-Key`.

        `X-Write-Key` is for the track API and typed calls, and counts without a key in `Authorization`. Returns
        `ANONYMOUS` if there is no key. Raises Unauthorized for an unknown key, and the protocol's error for a header of
        another form; for an API key also BadRequest, Forbidden and NotFound if the workspace is not clear.
        """
        if protocol != "native":
            key = parse_write_key(authorization)
            if key is None and protocol in ("track", "grpc"):
                key = parse_named_key(write_key)
        elif (key := parse_bearer_token(authorization)) is not None and key.startswith(API_KEY_PREFIX):
            caller = await find_caller(self._catalog, authorization, workspace)
            check_may_write(caller.key)
            return Principal(f"api {caller.key.id}", caller.require_workspace())
        return ANONYMOUS if key is None else await self._by_write_key(key)

    async def from_body(self, protocol: ProtocolName, principal: Principal, call: Call) -> Principal:
        """Return the caller with the source that the body names or that the key belongs to. `principal` is from
        `from_headers`.

        Raises Unauthorized without a key; BadRequest if the body names a source where it must not, or names none;
        Unprocessable with ConnectionNotExist for a source that the workspace does not have.
        """
        if principal.workspace and principal.source is None:
            return Principal(
                principal.key, principal.workspace, await self._find_source(principal.workspace, call.connection_id)
            )
        if call.connection_id is not None:
            raise BadRequest("connectionId is only for calls with an API key", field="connectionId")
        if principal.source is not None:
            return principal
        if not call.write_key:
            raise Unauthorized(_HOW_NATIVE if protocol == "native" else _HOW)
        return await self._by_write_key(call.write_key)

    async def _by_write_key(self, key: str) -> Principal:
        source = await self._catalog.get_or_refresh(self._catalog.find_source, key)
        if source is None:
            raise UnknownWriteKey(key)
        return Principal(key, source.workspace, source)

    async def _find_source(self, workspace: int, id_: int | None) -> Connection:
        if id_ is None:
            raise BadRequest("connectionId is required with an API key", field="connectionId")
        source = await self._catalog.get_or_refresh(self._catalog.connection, workspace, id_)
        if source is None:
            raise Unprocessable("ConnectionNotExist", f"connection {id_} does not exist", field="connectionId")
        if CONNECTORS[source.connector].type not in EVENT_SOURCE_TYPES:
            raise Unprocessable(
                "ConnectionNotExist",
                f"connection {id_} receives no events",
                field="connectionId",
            )
        return source


def parse_write_key(authorization: str | None) -> str | None:
    """Return the write key; None without a header, or with a header without a key, so that the body may contain it.

    Basic has the key as the user, with an empty password. Some clients follow the documentation's example literally and
    send the key without base64. Raises Unauthorized for another scheme, or none.
    """
    if not authorization or not authorization.strip():
        return None
    scheme, _, value = authorization.strip().partition(" ")
    value = value.strip()
    match scheme.lower():
        case "bearer":
            return value or None
        case "basic":
            return _user(value) or None
        case _:
            raise Unauthorized("the Authorization header must be 'Basic' with the write key as user, or 'Bearer'")


def parse_named_key(value: str | None) -> str | None:
    """Return the write key in the `X-Write-Key` header, "KEY" or "NAME:KEY"; None without one.

    Jitsu's SDKs require a name, because their servers find the key by it.
    """
    return (value or "").rpartition(":")[2].strip() or None


def parse_bearer_token(authorization: str | None) -> str | None:
    """Return the token of a `Bearer` header; None without a header. Raises BadRequest for any other header."""
    if not authorization or not authorization.strip():
        return None
    scheme, _, token = authorization.strip().partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise BadRequest(
            "the Authorization header must be 'Bearer' and an event write key or an API key", field="authorization"
        )
    return token.strip()


def _user(value: str) -> str:
    try:
        decoded = base64.b64decode(value, validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError):
        return value.removesuffix(":")
    user, colon, _ = decoded.partition(":")
    return user.strip() if colon else value
