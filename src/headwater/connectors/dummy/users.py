"""The dummy's customers as users: read page by page, and written."""

import asyncio
import base64
import binascii
import random
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final

from headwater.base.errors import BadRequest
from headwater.connectors.contract import (
    MAX_PAGE_USERS,
    BatchLimits,
    ConnectorContext,
    ItemResult,
    Outcome,
    RateLimit,
    SourceUser,
    UsersPage,
    UserWrite,
    rejected,
)
from headwater.connectors.dummy.customers import MAX_CUSTOMERS, Customers, generate
from headwater.connectors.dummy.schemas import READABLE_SCHEMA, WRITABLE_SCHEMA
from headwater.connectors.dummy.settings import MIN_CUSTOMERS, DummySettings
from headwater.schemas import Schema

_FAILED: Final = rejected("CustomerExportFailed", "the settings let this customer fail")
_POSITION: Final = re.compile(rb"dummy:([1-9][0-9]{0,8})")


class DummyUsers:
    """Implements `UserSource` and `UserSink`."""

    write_limits = BatchLimits(max_events=100)
    write_rates: tuple[RateLimit, ...] = ()

    def __init__(
        self,
        settings: DummySettings,
        context: ConnectorContext,
        customers: Customers,
        *,
        page_size: int = MAX_PAGE_USERS,
    ) -> None:
        self._settings = settings
        self._context = context
        self._customers = customers
        self._page_size = page_size

    async def readable_schema(self) -> Schema:
        return READABLE_SCHEMA

    async def writable_schema(self) -> Schema:
        return WRITABLE_SCHEMA

    async def users(self, cursor: str, updated_since: datetime | None = None) -> UsersPage:
        # Generated customers come first, and others are never removed, so a position stays valid.
        position = _position(cursor)
        await operate(self._settings)
        generated = self._settings.number_of_customers - MIN_CUSTOMERS
        page = [generate(number + 1) for number in range(position, min(position + self._page_size, generated))]
        room = self._page_size - len(page)
        others, remaining = await asyncio.to_thread(self._customers.after, max(0, position - generated), room)
        page += others
        users = tuple(user for user in page if updated_since is None or _updated(user) >= updated_since)
        is_last = not remaining and position + len(page) >= generated
        return UsersPage(users=users, cursor="" if is_last else _cursor(position + len(page)))

    async def write_users(self, users: Sequence[UserWrite]) -> Sequence[ItemResult]:
        await operate(self._settings)
        accepted = [user for user in users if not self._fails(user)]
        written = iter(await asyncio.to_thread(self._customers.write, accepted, self._context.clock.now()))
        return [_FAILED if self._fails(user) else _result(user, next(written)) for user in users]

    def _fails(self, user: UserWrite) -> bool:
        return _percentile(user.key) < self._settings.export_fail_percentage


def _result(user: UserWrite, id_: str | None) -> ItemResult:
    if id_ is None and not user.id:
        return rejected("TooManyCustomers", f"there are {MAX_CUSTOMERS} customers already")
    if id_ is None:
        return rejected("CustomerMissing", f'customer "{user.id}" does not exist')
    return ItemResult(outcome=Outcome.DELIVERED, id=id_)


async def operate(settings: DummySettings) -> None:
    """Wait for a random time within the delay of the settings."""
    minimum, maximum = settings.delay_range
    if maximum > timedelta(0):
        await asyncio.sleep(random.uniform(minimum.total_seconds(), maximum.total_seconds()))


def _updated(user: SourceUser) -> datetime:
    assert user.updated_at is not None
    return user.updated_at


def _percentile(key: str) -> int:
    """Return a number below 100 that depends on the key only: a repetition fails again."""
    return int.from_bytes(sha256(key.encode()).digest()[:4]) % 100


def _cursor(position: int) -> str:
    return base64.urlsafe_b64encode(f"dummy:{position}".encode()).decode().rstrip("=")


def _position(cursor: str) -> int:
    if not cursor:
        return 0
    try:
        found = _POSITION.fullmatch(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError):
        found = None
    if found is None or _cursor(int(found[1])) != cursor:
        raise BadRequest("cursor is malformed", field="cursor")
    return int(found[1])
