"""The contract of applications: what the rest of the system may ask the outside system behind a connection.

An implementation is made for one connection, from its settings, and keeps nothing between calls. It raises
Unavailable when the outside system does not answer or refuses, and BadRequest for a cursor that it did not give.
Pipelines that write users and events to applications will widen the contract when they are built.
"""

from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

from headwater.schemas import Record, Schema

MAX_PAGE_USERS: Final = 100
"""On one page."""


class UserSchemas(msgspec.Struct, frozen=True, kw_only=True):
    """The schemas of an application's users: as they are read from it, and as they are written to it."""

    source: Schema
    destination: Schema


class UsersPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some users, each a record of the source schema, and where to go on.

    `cursor` is opaque, and empty when there are no more users. Going on with it never repeats a user.
    """

    users: tuple[Record, ...]
    cursor: str


class EventType(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of event that can be sent to an application.

    `filter` is the filter that is recommended to people, as text; empty when every event is suitable. `schema` is that
    of what is sent beside the event itself; None when there is nothing.
    """

    id: str
    name: str
    description: str
    filter: str
    schema: Schema | None


class Application(Protocol):
    """One application, as seen with the settings of one connection."""

    async def user_schemas(self) -> UserSchemas:
        """The schemas of its users."""
        ...

    async def users(self, cursor: str) -> UsersPage:
        """The page of at most `MOST_USERS` users that `cursor` points to; the first one when it is empty."""
        ...

    async def event_types(self) -> Sequence[EventType]:
        """The event types that can be sent to it, in the order in which people should see them."""
        ...
