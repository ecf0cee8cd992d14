"""The conformance suite of `UserSource`.

A connector's tests subclass `UserSourceConformance` with a name that begins with Test, and implement `make`.
"""

from abc import ABC, abstractmethod

import pytest

from headwater.base.errors import BadRequest
from headwater.connectors.contract import MAX_PAGE_USERS, CaseInsensitiveUserSource, SourceUser, UserSource
from headwater.schemas import Codec, StringType, property_at

MAX_CURSOR_CHARACTERS = 1_000
MAX_PAGES = 1_000


class UserSourceConformance(ABC):
    """`make` returns a source of at least one user. Its users do not change meanwhile."""

    @abstractmethod
    def make(self) -> UserSource: ...

    async def _all(self, source: UserSource, cursor: str = "") -> list[SourceUser]:
        users: list[SourceUser] = []
        for _ in range(MAX_PAGES):
            page = await source.users(cursor)
            users += page.users
            cursor = page.cursor
            if not cursor:
                return users
        raise AssertionError("the pages have no end")

    async def test_pages_are_bounded_and_end(self) -> None:
        source, cursor = self.make(), ""
        for _ in range(MAX_PAGES):
            page = await source.users(cursor)
            assert len(page.users) <= MAX_PAGE_USERS
            assert len(page.cursor) <= MAX_CURSOR_CHARACTERS and page.cursor.isascii()
            cursor = page.cursor
            if not cursor:
                return
        raise AssertionError("the pages have no end")

    async def test_every_user_is_returned_once(self) -> None:
        ids = [user.id for user in await self._all(self.make())]
        assert ids and all(ids)
        assert len(set(ids)) == len(ids)

    async def test_users_conform_to_the_schema(self) -> None:
        source = self.make()
        codec = Codec(await source.readable_schema())
        for user in await self._all(source):
            if not user.error:
                assert codec.decode(codec.encode(user.attributes)) == user.attributes

    async def test_the_schema_is_for_reading(self) -> None:
        for property in await self.make().readable_schema():
            assert not property.create_required and not property.update_required

    async def test_properties_without_letter_case_are_texts_that_are_read(self) -> None:
        source = self.make()
        if isinstance(source, CaseInsensitiveUserSource):
            schema = await source.readable_schema()
            for name in source.case_insensitive:
                assert isinstance(property_at(schema, name).type, StringType)

    async def test_a_cursor_can_be_used_again_and_by_another_instance(self) -> None:
        source, other = self.make(), self.make()
        cursor = (await source.users("")).cursor
        first = await source.users(cursor)
        assert await source.users(cursor) == first
        assert await other.users(cursor) == first

    async def test_a_cursor_that_it_has_not_made_is_rejected(self) -> None:
        source = self.make()
        for cursor in ("?", "a" * 999, "\N{GRINNING FACE}", "null", "0 OR 1=1"):
            with pytest.raises(BadRequest):
                await source.users(cursor)

    async def test_updated_since_leaves_out_only_users_that_were_not_updated(self) -> None:
        source = self.make()
        everybody = await self._all(source)
        times = sorted(user.updated_at for user in everybody if user.updated_at is not None)
        assert all(moment.utcoffset() is not None for moment in times)
        if not times:
            return
        since = times[len(times) // 2]
        cursor, found = "", set[str]()
        for _ in range(MAX_PAGES):
            page = await source.users(cursor, since)
            found |= {user.id for user in page.users}
            cursor = page.cursor
            if not cursor:
                break
        due = {user.id for user in everybody if user.updated_at is None or user.updated_at >= since}
        assert due <= found
