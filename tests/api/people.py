"""People of a workspace for the tests of profiles: identities, and the profiles that they resolve to."""

import json
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Connection as Database
from sqlalchemy import insert, select

from headwater.api.messages.profiles import kpid_text
from headwater.base.clock import microseconds
from headwater.catalog import Connection, Identifier, ProfileSchema, ResolutionSettings
from headwater.profiles.incremental import resolve_changes
from headwater.profiles.settings import ResolutionContext
from headwater.schemas import parse_schema
from headwater.state.profiles import IdentityName
from headwater.state.profiles.model import ChangedIdentity
from headwater.state.profiles.resolving import ResolutionRows
from headwater.state.tables import identities
from tests.harness import Harness

SCHEMA: Final = {
    "kind": "object",
    "properties": [
        {"name": name, "type": type_, "readOptional": True}
        for name, type_ in (
            ("email", {"kind": "string"}),
            ("phone", {"kind": "string"}),
            ("name", {"kind": "string"}),
            ("age", {"kind": "int", "bitSize": 64}),
            ("tags", {"kind": "array", "elementType": {"kind": "string"}}),
            (
                "address",
                {
                    "kind": "object",
                    "properties": [{"name": "city", "type": {"kind": "string"}, "readOptional": True}],
                },
            ),
        )
    ],
}
IDENTIFIERS: Final = (Identifier(path="email"), Identifier(path="phone"))


async def set_up(
    harness: Harness, workspace: int | None = None, identifiers: Sequence[Identifier] = IDENTIFIERS
) -> None:
    """Give a workspace a profile schema and identifiers."""
    schema = parse_schema(json.dumps(SCHEMA))
    assert schema is not None
    async with harness.catalog.change() as change:
        found = harness.catalog.workspace(harness.workspace if workspace is None else workspace)
        assert found is not None
        change.update_workspace(
            msgspec.structs.replace(
                found,
                profile_schema=ProfileSchema(schema=schema),
                resolution=ResolutionSettings(identifiers=tuple(identifiers)),
            )
        )


async def add_people(
    harness: Harness,
    source: Connection,
    people: Sequence[tuple[str, dict[str, Any]]],
    *,
    anonymous: bool = False,
    pipeline: int | None = None,
) -> None:
    """Add identities to a pipeline of a source, the last User pipeline unless one is given, and resolve them together.
    Each is a second younger than the one before."""
    workspace = harness.catalog.workspace(source.workspace)
    assert workspace is not None
    context = ResolutionContext.compile(workspace.id, workspace.resolution, workspace.profile_schema)
    if pipeline is None:
        pipeline = [each.id for each in source.pipelines if each.target == "User"][-1]
    start = microseconds(harness.clock.now())

    def write(database: Database) -> None:
        changed = []
        for index, (id_, attributes) in enumerate(people):
            at = start + index * 1_000_000
            row = {
                "workspace": workspace.id,
                "connection": source.id,
                "identity_id": id_,
                "is_anonymous": anonymous,
                "pipeline": pipeline,
                "anonymous_ids": json.dumps([id_] if anonymous else [f"device of {id_}"]),
                "updated_at": at,
                "attributes": json.dumps(attributes),
            }
            new: int = database.execute(insert(identities).values(row).returning(identities.c.id)).scalar_one()
            changed.append(
                ChangedIdentity(
                    id=new,
                    workspace=workspace.id,
                    name=IdentityName(source.id, id_, anonymous),
                    pipeline=pipeline,
                    attributes=json.dumps(attributes),
                    updated_at=at,
                    is_new=True,
                    attributes_changed=True,
                )
            )
        assert resolve_changes(ResolutionRows(database), context, changed, start) == []

    async with harness.state.transaction() as transaction:
        await transaction.run(write)
    harness.clock.advance(len(people))


async def find_kpid(harness: Harness, source: Connection, id_: str) -> str:
    """Return the kpid of the profile that has a user of a source."""

    def read(database: Database) -> bytes:
        query = select(identities.c.id).where(identities.c.connection == source.id, identities.c.identity_id == id_)
        rows = ResolutionRows(database)
        (member, *_) = rows.members([database.execute(query).scalars().first() or 0])
        (profile,) = rows.profiles([member.profile])
        return profile.kpid

    async with harness.state.transaction() as transaction:
        return kpid_text(await transaction.run(read))
