"""The catalog of one process: changes are visible immediately, and read without the database."""

import asyncio
from typing import ClassVar

import pytest
from sqlalchemy import Connection, text

from headwater.base.clock import SystemClock
from headwater.base.errors import Unavailable
from headwater.base.identifiers import Identifiers
from headwater.catalog import Catalog, Workspace, open_catalog
from headwater.catalog import catalog as module
from headwater.storage.database import open_engine
from tests.catalog import make


async def test_a_new_catalog_is_empty(catalog: Catalog) -> None:
    assert catalog.workspaces() == []
    assert catalog.workspace(1) is None
    assert catalog.connections(1) == []
    assert catalog.find_source("unknown") is None
    assert catalog.api_key("api_unknown") is None


async def test_the_one_who_writes_reads_it_immediately(catalog: Catalog, workspace: Workspace) -> None:
    made = await make.added(catalog, workspace)
    assert catalog.connection(workspace.id, made.id) == made
    assert catalog.find_source(made.event_write_keys[0]) == made


async def test_what_was_written_is_there_after_a_restart(catalog: Catalog, workspace: Workspace, url: str) -> None:
    async with catalog.change() as change:
        source = make.connection(change, workspace)
        change.add_connection(source)
        change.add_connection(make.destination(change, workspace, linked_connections=(source.id,)))
        change.add_pipeline(make.pipeline(change, source))
        change.add_api_key(make.api_key(change, "api_secret", workspace=workspace.id))
    async with open_catalog(url, clock=SystemClock(), identifiers=Identifiers()) as again:
        assert make.everything(again) == make.everything(catalog)
        assert again.api_key("api_secret") == catalog.api_key("api_secret") is not None


async def test_connections_are_sorted_by_the_bytes_of_their_names_then_by_id(
    catalog: Catalog, workspace: Workspace
) -> None:
    names = ["b", "B", "a", "é", "😀", "ｱ", "a"]
    for name in names:
        await make.added(catalog, workspace, name)
    found = catalog.connections(workspace.id)
    assert [connection.name for connection in found] == ["B", "a", "a", "b", "é", "ｱ", "😀"]
    assert [name.encode() for name in sorted(names)] == sorted(name.encode() for name in names)
    assert found[1].id < found[2].id


async def test_a_list_that_was_handed_out_is_the_callers_own(catalog: Catalog, workspace: Workspace) -> None:
    await make.added(catalog, workspace)
    catalog.connections(workspace.id).clear()
    assert len(catalog.connections(workspace.id)) == 1


async def test_one_workspace_does_not_see_another(catalog: Catalog, workspace: Workspace) -> None:
    async with catalog.change() as change:
        stranger = Workspace(id=change.new_id(), name="Other", created_at=change.now)
        change.add_workspace(stranger)
        connection = make.connection(change, workspace)
        change.add_connection(connection)
        pipeline = make.pipeline(change, connection)
        change.add_pipeline(pipeline)
    assert catalog.connection(stranger.id, connection.id) is None
    assert catalog.pipeline(stranger.id, pipeline.id) is None
    assert catalog.connections(stranger.id) == []
    assert catalog.pipeline(workspace.id, pipeline.id) == pipeline


async def test_api_keys_are_found_by_the_whole_key_and_not_kept_in_clear(
    catalog: Catalog, workspace: Workspace, url: str
) -> None:
    token = "api_0123456789abcdefghijklmnopqrstuvwxyz"
    async with catalog.change() as change:
        change.add_api_key(make.api_key(change, token))
    found = catalog.api_key(token)
    assert found is not None and found.workspace is None
    assert catalog.api_key(token[:-1]) is None
    engine = open_engine(url, schema="catalog")
    async with engine.connect() as connection:
        rows = (await connection.execute(text("SELECT * FROM api_keys"))).all()
    await engine.dispose()
    assert token not in str(rows)


async def test_an_exception_undoes_the_change(catalog: Catalog, workspace: Workspace, url: str) -> None:
    before = make.everything(catalog)
    with pytest.raises(RuntimeError):
        async with catalog.change() as change:
            change.add_connection(make.connection(change, workspace))
            raise RuntimeError
    assert make.everything(catalog) == before
    async with open_catalog(url, clock=SystemClock(), identifiers=Identifiers()) as again:
        assert make.everything(again) == before
    await make.added(catalog, workspace)  # and the next change is not held up


async def test_a_change_that_is_cancelled_is_undone(catalog: Catalog, workspace: Workspace) -> None:
    inside = asyncio.Event()

    async def never_ends() -> None:
        async with catalog.change() as change:
            change.add_connection(make.connection(change, workspace))
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(never_ends())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert catalog.connections(workspace.id) == []
    assert (await make.added(catalog, workspace)).id


async def test_a_taken_identifier_is_drawn_again(catalog: Catalog, workspace: Workspace) -> None:
    class Repeating(Identifiers):
        draws: ClassVar = [workspace.id, 7, 7, workspace.id, 8]

        def identifier(self) -> int:
            return self.draws.pop(0)

    catalog._identifiers = Repeating()
    async with catalog.change() as change:
        assert change.new_id() == 7
        assert change.new_id() == 8


async def test_a_change_of_nothing_makes_no_version(catalog: Catalog, workspace: Workspace) -> None:
    version = catalog._view.version
    async with catalog.change():
        pass
    await make.added(catalog, workspace)
    assert catalog._view.version == version + 1


async def test_a_change_that_waits_too_long_is_unavailable(
    catalog: Catalog, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TURN_TIMEOUT_SECONDS", 0.01)
    async with catalog.change():
        with pytest.raises(Unavailable):
            async with catalog.change():
                raise AssertionError("two changes at once")
    await make.added(catalog, workspace)


async def test_a_database_that_is_locked_is_unavailable(catalog: Catalog, workspace: Workspace, url: str) -> None:
    is_sqlite = url.startswith("sqlite")
    patience = "PRAGMA busy_timeout=10" if is_sqlite else "SET lock_timeout = 10"
    async with catalog._sessions.open() as session:  # the one that is used next
        await session.run(lambda connection: connection.exec_driver_sql(patience))
        await session.run(Connection.commit)
    engine = open_engine(url, schema="catalog")
    async with engine.connect() as connection:
        await connection.exec_driver_sql("BEGIN IMMEDIATE" if is_sqlite else "SELECT * FROM catalog_version FOR UPDATE")
        with pytest.raises(Unavailable) as caught:
            await make.added(catalog, workspace)
        assert caught.value.status == 503
        await catalog.refresh()  # reading goes on
    await engine.dispose()
    await make.added(catalog, workspace)


async def test_the_parts_of_a_connection_go_with_it(catalog: Catalog, workspace: Workspace, url: str) -> None:
    async with catalog.change() as change:
        source = make.connection(change, workspace)
        change.add_connection(source)
        destination = make.destination(change, workspace, linked_connections=(source.id,))
        change.add_connection(destination)
        pipeline = make.pipeline(change, source)
        change.add_pipeline(pipeline)
    linked = catalog.connection(workspace.id, source.id)
    assert linked is not None and linked.linked_connections == (destination.id,)
    async with catalog.change() as change:
        change.remove_connection(linked)
    assert catalog.connection(workspace.id, source.id) is None
    assert catalog.pipeline(workspace.id, pipeline.id) is None
    assert catalog.find_source(source.event_write_keys[0]) is None
    left = catalog.connection(workspace.id, destination.id)
    assert left is not None and left.linked_connections == ()
    engine = open_engine(url, schema="catalog")
    async with engine.connect() as connection:
        for table in ("connection_links", "event_write_keys", "pipelines"):
            assert (await connection.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one() == 0
    await engine.dispose()
