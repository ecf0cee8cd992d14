"""The derived object of a connection is cached until the connection changes."""

import msgspec
import pytest

from headwater.api import connectioncache
from headwater.api.connectioncache import ConnectionCache
from headwater.base.clock import SystemClock
from headwater.base.computing import Computing
from headwater.catalog import Connection


def connection(id_: int) -> Connection:
    return Connection(
        id=id_,
        workspace=1,
        name="x",
        connector="http",
        role="Source",
        strategy=None,
        sending_mode=None,
        created_at=SystemClock().now(),
    )


async def test_an_object_is_derived_once_for_each_state() -> None:
    made: list[Connection] = []

    def read_name(connection: Connection) -> str:
        made.append(connection)
        return connection.name

    shown = ConnectionCache(Computing(), read_name)
    first = connection(1)
    renamed = msgspec.structs.replace(first, name="y")
    assert [
        await shown.get(first),
        await shown.get(first),
        await shown.get(renamed),
        await shown.get(first),
        await shown.get(connection(2)),
    ] == ["x", "x", "y", "x", "x"]
    assert made[:3] == [first, renamed, first]
    assert len(made) == 4


async def test_the_number_of_cached_objects_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connectioncache, "MAX_ENTRIES", 3)
    shown = ConnectionCache(Computing(), lambda each: each.id)
    assert [await shown.get(connection(id_)) for id_ in range(10)] == list(range(10))
    assert len(shown._entries) <= 3
