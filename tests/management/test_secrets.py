"""The settings of connections: nowhere in clear, and moved to a new key all together or not at all."""

from pathlib import Path
from typing import Annotated

import pytest
from sqlalchemy import text

from headwater.base.clock import SystemClock
from headwater.base.encryption import Keyring
from headwater.base.errors import Unavailable
from headwater.base.identifiers import Identifiers
from headwater.catalog import Catalog, open_catalog
from headwater.connectors.dummy.settings import DummySettings
from headwater.connectors.settings import Settings, Text
from headwater.management.connections import CreateConnection, UpdateConnection, create_connection, update_connection
from headwater.management.secrets import rotate, unreadable
from tests.management.conftest import KEYRING, SECRET

NEW = "the key of this year, 32 characters"
DUMMY = CreateConnection(
    name="Dummy", role="Destination", connector="dummy", settings={"urlForDispatchingEvents": "http://pass:word@h/"}
)


async def test_settings_are_nowhere_in_clear(catalog: Catalog, workspace: int, url: str, tmp_path: Path) -> None:
    made = await create_connection(catalog, workspace, DUMMY)
    assert made.sealed_settings is not None and b"pass" not in made.sealed_settings
    assert catalog.decrypt_settings(made) == DummySettings(dispatch_url="http://pass:word@h/")
    query = text("SELECT sealed_settings FROM connections")
    async with catalog._sessions.open() as session:
        stored = await session.run(lambda connection: connection.execute(query).scalar_one())
    assert bytes(stored) == made.sealed_settings
    assert b"pass:word" not in b"".join(path.read_bytes() for path in _files(tmp_path))


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file()]


async def test_settings_belong_to_their_connection(catalog: Catalog, workspace: int) -> None:
    import msgspec

    one, other = [await create_connection(catalog, workspace, DUMMY) for _ in range(2)]
    swapped = msgspec.structs.replace(one, sealed_settings=other.sealed_settings)
    with pytest.raises(Unavailable, match=f"the settings of connection {one.id} cannot be read"):
        catalog.decrypt_settings(swapped)


async def test_a_rotation_moves_everything_to_the_present_key(
    catalog: Catalog, workspace: int, stranger: int, url: str
) -> None:
    for scope in (workspace, stranger):
        await create_connection(catalog, scope, DUMMY)
    without = await create_connection(catalog, workspace, CreateConnection(name="x", role="Source", connector="http"))
    async with open_catalog(
        url, clock=SystemClock(), identifiers=Identifiers(), keyring=Keyring(NEW, [SECRET])
    ) as moving:
        made = await create_connection(moving, workspace, DUMMY)
        assert await rotate(moving) == (2, 3)
        version = moving._view.version
        assert await rotate(moving) == (0, 3)
        assert moving._view.version == version
    async with open_catalog(url, clock=SystemClock(), identifiers=Identifiers(), keyring=Keyring(NEW)) as new:
        assert unreadable(new) == []
        everything = [*new.connections(workspace), *new.connections(stranger)]
        read = [new.decrypt_settings(each) for each in everything if each.id != without.id]
        assert read == [DummySettings(dispatch_url="http://pass:word@h/")] * 3
        assert new.connection(workspace, made.id) == made, "what the present key encrypted is left alone"
    await catalog.refresh()
    assert len(unreadable(catalog)) == 3


async def test_a_rotation_without_an_older_key_changes_nothing(catalog: Catalog, workspace: int, url: str) -> None:
    made = await create_connection(catalog, workspace, DUMMY)
    async with open_catalog(url, clock=SystemClock(), identifiers=Identifiers(), keyring=Keyring(NEW)) as moving:
        newer = await create_connection(moving, workspace, DUMMY)
        assert unreadable(moving) == [made]
        version = moving._view.version
        with pytest.raises(Unavailable, match=f"connection {made.id} .* which is not given"):
            await rotate(moving)
        await moving.refresh()
        assert moving._view.version == version
        assert moving.connection(workspace, newer.id) == newer
    await catalog.refresh()
    assert catalog.connection(workspace, made.id) == made


async def test_settings_whose_key_is_lost_can_be_entered_again(catalog: Catalog, workspace: int, url: str) -> None:
    made = await create_connection(catalog, workspace, DUMMY)
    async with open_catalog(url, clock=SystemClock(), identifiers=Identifiers(), keyring=Keyring(NEW)) as new:
        request = UpdateConnection(name="Dummy", sending_mode="Server", settings={"operationDelay": "1ms"})
        await update_connection(new, workspace, made.id, request)
        assert unreadable(new) == []


async def test_without_keys_everything_else_works(catalog: Catalog, workspace: int, url: str) -> None:
    made = await create_connection(catalog, workspace, DUMMY)
    async with open_catalog(url, clock=SystemClock(), identifiers=Identifiers()) as without:
        assert without.connection(workspace, made.id) == made
        await create_connection(without, workspace, CreateConnection(name="x", role="Source", connector="http"))
        with pytest.raises(RuntimeError, match="given no keys"):
            without.decrypt_settings(made)
        with pytest.raises(RuntimeError, match="given no keys"):
            await create_connection(without, workspace, DUMMY)
    assert KEYRING.knows(made.sealed_settings or b"")


async def test_settings_of_an_earlier_version_get_defaults_and_invalid_ones_are_named(
    catalog: Catalog, workspace: int
) -> None:
    class Earlier(Settings, frozen=True, kw_only=True):
        operation_delay: Annotated[str, Text(0, 100)]

    made = await create_connection(catalog, workspace, DUMMY)
    assert catalog.decrypt_settings(catalog.sealed(made, Earlier(operation_delay="5ms"))) == DummySettings(
        operation_delay="5ms"
    )
    with pytest.raises(Unavailable, match=f"connection {made.id} do not fit connector dummy: settings.operationDelay"):
        catalog.decrypt_settings(catalog.sealed(made, Earlier(operation_delay="soon")))
