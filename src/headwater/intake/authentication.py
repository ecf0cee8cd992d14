"""Who sends a call with events, and of which source the events are.

A write key, which stands in a header or in the body, is that of a source. An API key is that of a workspace, and then
the body names the source: so do calls of the native dialect only.
"""

from typing import Final

from msgspec import Struct

from headwater.base.errors import BadRequest, Unauthorized, Unprocessable
from headwater.catalog import Catalog, Connection
from headwater.catalog.access import API_KEY_PREFIX, check_may_write, find_caller
from headwater.connectors.catalogue import CONNECTORS
from headwater.connectors.connector import EVENT_SOURCE_TYPES
from headwater.events import ProtocolName
from headwater.events.protocol import Call
from headwater.intake.credentials import bearer_token_of, write_key_of

_HOW: Final = "a write key is required: as Basic user, as Bearer token, or as writeKey in the body"
_HOW_NATIVE: Final = "a key is required: as Bearer token, or a write key as writeKey in the body"


class UnknownWriteKey(Unauthorized):
    """No source has the write key."""

    def __init__(self, key: str) -> None:
        super().__init__("the write key is not known")
        self.key = key


class Principal(Struct, frozen=True):
    """A sender, as far as it is known."""

    key: str = ""
    """What tells it from others: the write key, or "api" and the identifier of the API key."""
    workspace: int = 0
    """0 when the key is unknown, or not read yet."""
    source: Connection | None = None


ANONYMOUS: Final = Principal()


class Authenticator:
    """Finds senders in the catalog."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def from_headers(self, protocol: ProtocolName, authorization: str | None, workspace: str | None) -> Principal:
        """The sender by the key in the `Authorization` header, and `workspace` in that of the workspace.

        `NOBODY` when there is no key. Raises Unauthorized for a key that is not known, and what the dialect has for a
        header of another form; for an API key also BadRequest, Forbidden and NotFound when the workspace is not clear.
        """
        if protocol != "native":
            key = write_key_of(authorization)
        elif (key := bearer_token_of(authorization)) is not None and key.startswith(API_KEY_PREFIX):
            caller = await find_caller(self._catalog, authorization, workspace)
            check_may_write(caller.key)
            return Principal(f"api {caller.key.id}", caller.the_workspace())
        return ANONYMOUS if key is None else await self._by_write_key(key)

    async def from_body(self, protocol: ProtocolName, principal: Principal, call: Call) -> Principal:
        """The sender of a call, which `by_headers` gave, with the source that the body names, or whose key it has.

        Raises Unauthorized without a key; BadRequest when the body names a source that it should not, or names none;
        Unprocessable with ConnectionNotExist for a source that the workspace does not have.
        """
        if principal.workspace and principal.source is None:
            return Principal(
                principal.key, principal.workspace, await self._source_of(principal.workspace, call.connection_id)
            )
        if call.connection_id is not None:
            raise BadRequest("connectionId is only for calls with an API key", field="connectionId")
        if principal.source is not None:
            return principal
        if not call.write_key:
            raise Unauthorized(_HOW_NATIVE if protocol == "native" else _HOW)
        return await self._by_write_key(call.write_key)

    async def _by_write_key(self, key: str) -> Principal:
        source = await self._catalog.seek(self._catalog.source_of, key)
        if source is None:
            raise UnknownWriteKey(key)
        return Principal(key, source.workspace, source)

    async def _source_of(self, workspace: int, id_: int | None) -> Connection:
        if id_ is None:
            raise BadRequest("connectionId is required with an API key", field="connectionId")
        source = await self._catalog.seek(self._catalog.connection, workspace, id_)
        if source is None:
            raise Unprocessable("ConnectionNotExist", f"connection {id_} does not exist", field="connectionId")
        if CONNECTORS[source.connector].type not in EVENT_SOURCE_TYPES:
            raise Unprocessable(
                "ConnectionNotExist",
                f"connection {id_} receives no events",
                field="connectionId",
            )
        return source
