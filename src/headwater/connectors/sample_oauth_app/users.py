"""The users of the sample OAuth app, read page by page."""

import re
from datetime import datetime
from typing import Final

import msgspec

from headwater.base.errors import BadRequest, Unavailable
from headwater.connectors.contract import MAX_PAGE_USERS, ConnectorContext, HttpRequest, SourceUser, UsersPage
from headwater.connectors.oauth import require_client
from headwater.schemas import ObjectType, Property, Record, Schema, StringType

MAX_USERS_BYTES: Final = 1024 * 1024
READABLE_SCHEMA: Final[Schema] = ObjectType(
    (
        Property("id", StringType(), description="User ID"),
        Property("email", StringType(), description="Email"),
        Property("name", StringType(), nullable=True, description="Name"),
    )
)

_POSITION: Final = re.compile(r"[1-9][0-9]{0,8}")


class _User(msgspec.Struct, frozen=True, rename="camel"):
    id: str
    email: str
    name: str | None = None
    updated_at: datetime | None = None


class _Page(msgspec.Struct, frozen=True):
    users: list[_User]


class SampleUsers:
    """Implements `UserSource`. A cursor is the number of users before the page."""

    def __init__(self, context: ConnectorContext) -> None:
        self._context = context
        self._client = require_client(context)

    async def readable_schema(self) -> Schema:
        return READABLE_SCHEMA

    async def users(self, cursor: str, updated_since: datetime | None = None) -> UsersPage:
        if cursor and not _POSITION.fullmatch(cursor):
            raise BadRequest("cursor is malformed", field="cursor")
        position = int(cursor or "0")
        request = HttpRequest(
            method="GET",
            url=f"{self._client.url}/api/users?offset={position}&limit={MAX_PAGE_USERS}",
            authorize=True,
            max_response_bytes=MAX_USERS_BYTES,
        )
        response = await self._context.http.send(request)
        if response.status != 200:
            raise Unavailable(f"the application responds with status {response.status}")
        try:
            found = msgspec.json.decode(response.body, type=_Page).users
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise Unavailable("the response of the application has no users") from None
        users = tuple(_source_user(user) for user in found if user.id)
        if len(found) > MAX_PAGE_USERS:
            raise Unavailable("the response of the application has too many users")
        return UsersPage(users=users, cursor=str(position + len(found)) if len(found) == MAX_PAGE_USERS else "")


def _source_user(user: _User) -> SourceUser:
    updated_at = user.updated_at if user.updated_at is not None and user.updated_at.tzinfo is not None else None
    attributes: Record = {"id": user.id, "email": user.email, "name": user.name}
    return SourceUser(id=user.id, attributes=attributes, updated_at=updated_at)
