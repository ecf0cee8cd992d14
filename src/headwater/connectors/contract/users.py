"""Reading users from an application and writing users to it: `UserSource` and `UserSink`."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final, Protocol, runtime_checkable

import msgspec

from headwater.connectors.contract.policy import BatchLimits, RateLimit
from headwater.connectors.contract.results import ItemResult
from headwater.schemas import Record, Schema

MAX_PAGE_USERS: Final = 100


class SourceUser(msgspec.Struct, frozen=True, kw_only=True):
    """One user of an application.

    `id` is the application's own identifier, never empty. `attributes` conform to the readable schema. `updated_at` is
    in UTC; None if the application does not state it. With an `error` only the id is valid: the user could not be read.
    """

    id: str
    attributes: Record
    updated_at: datetime | None = None
    error: str = ""


class UsersPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some users, and the cursor of the next page.

    `cursor` is opaque text of at most 1,000 characters, and empty after the last page. It remains valid for days. A
    page may be empty although others follow.
    """

    users: tuple[SourceUser, ...]
    cursor: str


class UserSource(Protocol):
    """An application that users are read from."""

    async def readable_schema(self) -> Schema:
        """Return the schema of the users that are read. Raises Unavailable."""
        ...

    async def users(self, cursor: str, updated_since: datetime | None = None) -> UsersPage:
        """Return the page of at most `MAX_PAGE_USERS` users that `cursor` points to; the first if it is empty.

        With `updated_since`, users that were not updated at or after that time may be left out. Users are returned once
        while no user changes. Raises BadRequest for a cursor that this connector has not made; Unavailable.
        """
        ...


@runtime_checkable
class PacedUserSource(UserSource, Protocol):
    """A `UserSource` whose application documents rates for reading pages. Others rely on status 429."""

    @property
    def read_rates(self) -> tuple[RateLimit, ...]:
        """The rates of `users`, which is one request of one page. The caller keeps them in each run."""
        ...


def find_read_rates(source: UserSource) -> tuple[RateLimit, ...]:
    """Return the rates of a source; none if it declares none."""
    return source.read_rates if isinstance(source, PacedUserSource) else ()


@runtime_checkable
class CaseInsensitiveUserSource(UserSource, Protocol):
    """A `UserSource` whose application ignores letter case when it looks for users by some properties."""

    @property
    def case_insensitive(self) -> Collection[str]:
        """The names of these properties, such as that of the e-mail address."""
        ...


def ignores_case(source: UserSource, name: str) -> bool:
    """Return whether the application ignores letter case in the values of a property."""
    return isinstance(source, CaseInsensitiveUserSource) and name in source.case_insensitive


class UserWrite(msgspec.Struct, frozen=True, kw_only=True):
    """One user to write.

    `id` is the application's identifier of the user to update; empty to create one. `attributes` conform to the
    writable schema, and only they are changed. `key` is the idempotency key, as that of events.
    """

    id: str
    attributes: Record
    key: str


class UserSink(Protocol):
    """An application that users are written to.

    If it cannot be read, its connector has no `UserSource`. Then the id of a user is an identifier among its
    attributes: every write has an empty `id`, and creates the user with this identifier or updates it.
    """

    @property
    def write_limits(self) -> BatchLimits:
        """The limits of one call of `write_users`; `max_events` counts users."""
        ...

    @property
    def write_rates(self) -> tuple[RateLimit, ...]:
        """The rates of `write_users`."""
        ...

    async def writable_schema(self) -> Schema:
        """Return the schema of the users that are written. Raises Unavailable."""
        ...

    async def write_users(self, users: Sequence[UserWrite]) -> Sequence[ItemResult]:
        """Write users, either all to create or all to update, and return one result for each in their order.

        A delivered result has the `id` of the user. Raises Unavailable if the outcome of all of them is unknown.
        """
        ...
