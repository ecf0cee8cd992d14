"""Several processes on one catalog: each reads the changes of the others, and nothing else."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event, text

from headwater.base.clock import SystemClock
from headwater.base.identifiers import Identifiers
from headwater.catalog import Catalog, Workspace, open_catalog, reading
from headwater.catalog.negativecache import MAX_MISSES, WINDOW_SECONDS
from headwater.catalog.view import Delta
from headwater.storage.sessions import Session
from tests.catalog import make
from tests.harness import MovableClock


def _statements(catalog: Catalog) -> list[str]:
    """The statements that a catalog executes from now on."""
    found: list[str] = []

    @event.listens_for(catalog._sessions.engine, "before_cursor_execute")
    def _note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        found.append(statement)

    return found


def _looks(catalog: Catalog) -> int:
    """The number of queries of a refresh without news: SQLite has a counter of changes instead."""
    return 0 if catalog._sessions.engine.dialect.name == "sqlite" else 1


async def test_a_change_is_seen_after_a_refresh(catalog: Catalog, other: Catalog, workspace: Workspace) -> None:
    made = await make.added(catalog, workspace)
    assert other.find_source(made.event_write_keys[0]) is None
    await other.refresh()
    assert make.everything(other) == make.everything(catalog)
    async with other.change() as change:
        change.remove_connection(made)
    await catalog.refresh()
    assert catalog.connections(workspace.id) == []
    assert catalog.find_source(made.event_write_keys[0]) is None


async def test_a_refresh_without_news_is_one_query_at_most(
    catalog: Catalog, other: Catalog, workspace: Workspace
) -> None:
    await other.refresh()
    statements = _statements(other)
    await other.refresh()
    assert len(statements) == _looks(other)
    assert all("catalog_version" in statement for statement in statements)


async def test_callers_at_the_same_time_share_a_refresh(catalog: Catalog, other: Catalog, workspace: Workspace) -> None:
    await other.refresh()
    statements = _statements(other)
    await asyncio.gather(*(other.refresh() for _ in range(20)))
    assert len(statements) == 2 * _looks(other), "the first, and one for all who came while it ran"
    made = await make.added(catalog, workspace)
    running = asyncio.create_task(other.refresh())
    await asyncio.gather(running, other.refresh())
    assert other.connection(workspace.id, made.id) is not None


async def test_a_key_that_another_process_made_a_moment_ago_is_found(
    catalog: Catalog, other: Catalog, workspace: Workspace
) -> None:
    await other.refresh()
    statements = _statements(other)
    for _ in range(MAX_MISSES + 1):  # a key that is found is no miss
        made = await make.added(catalog, workspace)
        assert await other.get_or_refresh(other.find_source, made.event_write_keys[0]) == made
        assert await other.get_or_refresh(other.connection, workspace.id, made.id) == made
    statements.clear()
    assert await other.get_or_refresh(other.find_source, made.event_write_keys[0]) == made
    assert statements == []


async def test_a_flood_of_unknown_keys_costs_few_queries(catalog: Catalog, url: str, workspace: Workspace) -> None:
    clock = MovableClock()
    async with open_catalog(url, clock=clock, identifiers=Identifiers()) as other:
        statements = _statements(other)
        for _ in range(100):
            assert await other.get_or_refresh(other.find_source, "unknown") is None
        assert len(statements) == _looks(other)
        for number in range(100):
            assert await other.get_or_refresh(other.find_source, f"unknown {number}") is None
        assert len(statements) == MAX_MISSES * _looks(other)
        made = await make.added(catalog, workspace)
        assert await other.get_or_refresh(other.find_source, made.event_write_keys[0]) is None
        clock.advance(WINDOW_SECONDS)
        assert await other.get_or_refresh(other.find_source, made.event_write_keys[0]) == made


async def test_lookups_touch_no_database(catalog: Catalog, workspace: Workspace) -> None:
    made = await make.added(catalog, workspace)
    statements = _statements(catalog)
    make.everything(catalog)
    catalog.api_key("api_x")
    catalog.find_source(made.event_write_keys[0])
    assert statements == []


async def test_a_refresh_reads_only_what_changed(catalog: Catalog, other: Catalog, workspace: Workspace) -> None:
    kept = await make.added(catalog, workspace, "kept")
    await other.refresh()
    same = other.connection(workspace.id, kept.id)
    await make.added(catalog, workspace, "new")
    await other.refresh()
    assert other.connection(workspace.id, kept.id) is same
    assert make.everything(other) == make.everything(catalog)


async def test_a_change_begins_with_what_others_have_changed(
    catalog: Catalog, other: Catalog, workspace: Workspace
) -> None:
    made = await make.added(catalog, workspace)
    async with other.change():
        assert other.connection(workspace.id, made.id) == made


async def test_a_view_that_is_far_behind_is_loaded_again(
    catalog: Catalog, other: Catalog, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "KEPT_CHANGES", 3)
    monkeypatch.setattr("headwater.catalog.catalog.KEPT_CHANGES", 3)
    monkeypatch.setattr("headwater.catalog.catalog._PRUNE_EVERY", 1)
    gone = await make.added(catalog, workspace, "gone")
    await other.refresh()
    async with catalog.change() as change:
        change.remove_connection(gone)
    for index in range(5):
        await make.added(catalog, workspace, str(index))
    async with catalog._sessions.open() as session:
        query = text("SELECT version FROM catalog_changes")
        versions = await session.run(lambda connection: connection.execute(query).scalars().all())
    assert len(versions) == 3
    await other.refresh()
    assert make.everything(other) == make.everything(catalog)


@pytest.mark.parametrize("behind", [2, 3, 4, 5])
async def test_nothing_is_missed_at_the_edge_of_what_is_kept(
    catalog: Catalog, other: Catalog, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, behind: int
) -> None:
    monkeypatch.setattr(reading, "KEPT_CHANGES", 3)
    monkeypatch.setattr("headwater.catalog.catalog.KEPT_CHANGES", 3)
    monkeypatch.setattr("headwater.catalog.catalog._PRUNE_EVERY", 1)
    await other.refresh()
    for index in range(behind):
        await make.added(catalog, workspace, str(index))
    await other.refresh()
    assert make.everything(other) == make.everything(catalog)


async def test_concurrent_refreshes_agree(catalog: Catalog, other: Catalog, workspace: Workspace) -> None:
    async def write(index: int) -> None:
        await make.added(catalog, workspace, f"{index:03}")

    async def read() -> None:
        await other.refresh()

    await asyncio.gather(*(call for index in range(20) for call in (write(index), read(), read())))
    await other.refresh()
    assert make.everything(other) == make.everything(catalog)
    assert len(other.connections(workspace.id)) == 20


class _Interrupted:
    """Sessions of a catalog in which something happens after the first reading of news, and before it is taken in."""

    def __init__(self, catalog: Catalog, between: Callable[[], Awaitable[object]]) -> None:
        self._sessions = catalog._sessions
        self._between: Callable[[], Awaitable[object]] | None = between
        self.engine = self._sessions.engine

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Session]:
        async with self._sessions.open() as session:
            run = session.run

            async def interrupted(work: Any) -> Any:
                result = await run(work)
                if isinstance(result, Delta) and (between := self._between) is not None:
                    self._between = None
                    await between()
                return result

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(session, "run", interrupted)
                yield session


@pytest.mark.parametrize("kept", [1000, -1], ids=["what changed", "everything"])
async def test_a_change_during_a_refresh_is_not_lost(
    catalog: Catalog, other: Catalog, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    monkeypatch.setattr(reading, "KEPT_CHANGES", kept)
    await make.added(catalog, workspace, "news")
    monkeypatch.setattr(other, "_sessions", _Interrupted(other, lambda: make.added(other, workspace, "between")))
    await other.refresh()
    assert [connection.name for connection in other.connections(workspace.id)] == ["between", "news"]


async def test_changes_from_two_catalogs_never_overlap(catalog: Catalog, other: Catalog, workspace: Workspace) -> None:
    """A rule that is checked by a lookup inside the block holds, even if other processes write."""

    async def add_if_fewer_than_five(which: Catalog) -> None:
        async with which.change() as change:
            if len(which.connections(workspace.id)) < 5:
                await asyncio.sleep(0)
                change.add_connection(make.connection(change, workspace))

    await asyncio.gather(*(add_if_fewer_than_five(which) for _ in range(10) for which in (catalog, other)))
    await catalog.refresh()
    assert len(catalog.connections(workspace.id)) == 5


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    steps=st.lists(
        st.tuples(st.sampled_from("cdkKpPul"), st.integers(0, 100), st.booleans(), st.booleans()), max_size=12
    )
)
async def test_whatever_is_changed_every_view_equals_a_fresh_one(
    catalog: Catalog, other: Catalog, workspace: Workspace, url: str, steps: list[tuple[str, int, bool, bool]]
) -> None:
    """The objects that a change makes in memory are those that its rows say."""
    for kind, pick, second, look in steps:
        which = other if second else catalog
        async with which.change() as change:
            present = which.connections(workspace.id)
            sources = [each for each in present if each.role == "Source"]
            if kind == "c" or not sources:
                change.add_connection(make.connection(change, workspace, str(pick)))
            elif kind == "d":
                change.remove_connection(present[pick % len(present)])
            else:
                source = sources[pick % len(sources)]
                pipelines, keys = source.pipelines, source.event_write_keys
                if kind == "l":
                    linked = tuple(sorted(each.id for each in sources[: 1 + pick % 2]))
                    change.add_connection(make.destination(change, workspace, linked_connections=linked))
                elif kind == "k":
                    change.add_event_write_key(source, change.identifiers.event_write_key())
                elif kind == "K" and keys:
                    change.remove_event_write_key(source, keys[pick % len(keys)])
                elif kind == "p":
                    change.add_pipeline(make.pipeline(change, source))
                elif kind == "P" and pipelines:
                    change.remove_pipeline(pipelines[pick % len(pipelines)])
                elif kind == "u":
                    change.update_connection(make.connection(change, workspace, "new", id=source.id))
        if look:
            await catalog.refresh()
    await catalog.refresh()
    await other.refresh()
    async with open_catalog(url, clock=SystemClock(), identifiers=Identifiers()) as fresh:
        assert make.everything(catalog) == make.everything(other) == make.everything(fresh)


async def test_more_changes_than_a_query_takes_are_read_with_everything(
    catalog: Catalog, other: Catalog, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MAX_IDS", 2)
    for number in range(4):
        await make.added(catalog, workspace, str(number))
    await other.refresh()
    assert make.everything(other) == make.everything(catalog)
