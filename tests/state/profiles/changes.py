"""Profiles to write in tests."""

from typing import Any

from headwater.state import IdentityObservation, StateStore
from headwater.state.profiles import (
    IdentityName,
    Link,
    LinkValue,
    Member,
    ProfileChanges,
    ProfileRow,
)

WORKSPACE, OTHER_WORKSPACE, CONNECTION, PIPELINE = 7, 8, 1, 11


def name(id_: str, *, connection: int = CONNECTION, is_anonymous: bool = False) -> IdentityName:
    return IdentityName(connection, id_, is_anonymous)


def changes(workspace: int = WORKSPACE, **rows: Any) -> ProfileChanges:
    empty: dict[str, Any] = {field: [] for field in ProfileChanges.__struct_fields__ if field != "workspace"}
    return ProfileChanges(workspace=workspace, **(empty | rows))


def kpid(number: int) -> bytes:
    return number.to_bytes(16)


def profile(id_: int, attributes: str = "{}", *, workspace: int = WORKSPACE, updated_at: int = 0) -> ProfileRow:
    return ProfileRow(id_, workspace, kpid(id_), id_, updated_at, attributes)


def member(identity: int, profile: int, *evidence: str | None) -> Member:
    return Member(identity, name(f"u{identity}"), evidence, profile)


def link(value: str, identity: int, mask: int = 0, *, identifier: int = 0) -> Link:
    return Link(LinkValue(identifier, value), identity, mask)


async def write(state: StateStore, *all_changes: ProfileChanges) -> None:
    async with state.transaction() as transaction:
        for each in all_changes:
            await transaction.on_profiles(lambda rows, each=each: rows.write(each))  # type: ignore[misc]  # bound now


async def observe(
    state: StateStore, *ids: str, pipelines: tuple[int, ...] = (PIPELINE,), connection: int = CONNECTION, at: int = 0
) -> None:
    """Make identities; the first has id 1."""
    observations = [
        IdentityObservation(WORKSPACE, connection, pipelines, id_, None, at + number) for number, id_ in enumerate(ids)
    ]
    async with state.transaction() as transaction:
        await transaction.change_identities(await transaction.merge_identities(observations))
