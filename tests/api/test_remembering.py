"""What is made of a connection is made again when the connection is another."""

import msgspec
import pytest

from headwater.api import remembering
from headwater.api.remembering import Remembering
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


async def test_it_makes_once_of_each_state() -> None:
    made: list[Connection] = []

    def name_of(connection: Connection) -> str:
        made.append(connection)
        return connection.name

    shown = Remembering(Computing(), name_of)
    first = connection(1)
    renamed = msgspec.structs.replace(first, name="y")
    assert [
        await shown.made(first),
        await shown.made(first),
        await shown.made(renamed),
        await shown.made(first),
        await shown.made(connection(2)),
    ] == ["x", "x", "y", "x", "x"]
    assert made[:3] == [first, renamed, first]
    assert len(made) == 4


async def test_it_remembers_a_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembering, "MOST", 3)
    shown = Remembering(Computing(), lambda each: each.id)
    assert [await shown.made(connection(id_)) for id_ in range(10)] == list(range(10))
    assert len(shown._known) <= 3
