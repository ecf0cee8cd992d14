"""The dummy as the contract of applications wants it."""

import asyncio
import base64
import binascii
import random
import re
from collections.abc import Sequence
from datetime import timedelta

from headwater.base.errors import BadRequest
from headwater.connectors.application import MAX_PAGE_USERS, EventType, UserSchemas, UsersPage
from headwater.connectors.dummy.customers import Customers
from headwater.connectors.dummy.schemas import EVENT_TYPES, USER_SCHEMAS
from headwater.connectors.dummy.settings import DummySettings

_POSITION = re.compile(rb"dummy:([1-9][0-9]{0,8})")


class Dummy:
    """Implements `connectors.application.Application`."""

    def __init__(self, settings: DummySettings, customers: Customers, *, page_size: int = MAX_PAGE_USERS) -> None:
        self._settings = settings
        self._customers = customers
        self._page_size = page_size

    async def user_schemas(self) -> UserSchemas:
        return USER_SCHEMAS

    async def users(self, cursor: str) -> UsersPage:
        # Customers are never removed, so that a position stays where it is.
        position = _position(cursor)
        await self._operate()
        users, more = self._customers.after(position, self._page_size)
        return UsersPage(users=tuple(users), cursor=_cursor(position + len(users)) if more else "")

    async def event_types(self) -> Sequence[EventType]:
        return EVENT_TYPES

    async def _operate(self) -> None:
        least, most = self._settings.least_delay, self._settings.most_delay
        if most > timedelta(0):
            await asyncio.sleep(random.uniform(least.total_seconds(), most.total_seconds()))


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
