"""Pipelines of users fit the profile schema when they are created and changed, once there is one."""

from typing import Any

import msgspec
import pytest

from headwater.base.errors import Unprocessable
from headwater.catalog import Catalog, ProfileSchema
from headwater.connectors.connector import Role
from headwater.management.pipelines import create_pipeline, set_pipeline_status, update_pipeline
from headwater.management.pipelines.alignment import AlignmentCheck
from headwater.management.workspaces import find_workspace
from headwater.schemas import IntType, ObjectType, Property, Schema, StringType
from tests.management.pipelines.conftest import Connect
from tests.management.pipelines.examples import EXAMPLES, TEXT, creation, mapped, profile, update

USERS = ("SA", "SD", "SF", "SU", "DA", "DD", "DF")
FITTING = profile(email=TEXT, name=TEXT, age=IntType(32))


async def set_schema(catalog: Catalog, workspace: int, schema: Schema) -> None:
    old = find_workspace(catalog, workspace)
    version = 1 if old.profile_schema is None else old.profile_schema.version + 1
    profiles = ProfileSchema(schema=schema, version=version)
    async with catalog.change() as change:
        change.update_workspace(msgspec.structs.replace(old, profile_schema=profiles))


def least(kind: str) -> dict[str, Any]:
    """Return the members of a kind, with a transformation also for the one that needs none."""
    example = EXAMPLES[kind]
    return {**example.least, **(example.optional["outSchema"] if kind == "SU" else {})}


def misaligned(role: Role, schema: Schema) -> list[tuple[Schema, str, str]]:
    """Return profile schemas that a pipeline with one does not fit, with the field and a part of the message."""
    member = "outSchema" if role == "Source" else "inSchema"
    names = [property.name for property in schema]
    other = profile(**dict.fromkeys(names, IntType(32)))
    short = ObjectType(tuple(Property(name, StringType(max_length=9), read_optional=True) for name in names))
    field = f"{member}.{names[0]}"
    return [
        (profile(zip=TEXT), field, "no longer exists"),
        (other, field, "was string and is now int(32)"),
        (short, field, "maxLength"),
        (profile(**{name.upper(): TEXT for name in names}), field, "no longer exists"),
    ]


@pytest.mark.parametrize("kind", USERS)
async def test_a_pipeline_of_users_fits_the_profile_schema(
    catalog: Catalog, workspace: int, connect: Connect, kind: str
) -> None:
    connection = await connect(EXAMPLES[kind])
    members = least(kind)
    role = EXAMPLES[kind].role
    request = creation(kind, connection.id, members)
    without = await create_pipeline(catalog, workspace, request)
    schema = members["outSchema" if role == "Source" else "inSchema"]
    for offered, field, text in misaligned(role, schema):
        await set_schema(catalog, workspace, offered)
        for call in (
            create_pipeline(catalog, workspace, request),
            update_pipeline(catalog, workspace, without.id, update(members)),
        ):
            with pytest.raises(Unprocessable) as caught:
                await call
            assert (caught.value.code, caught.value.field) == ("SchemaNotAligned", field)
            assert text in caught.value.message
    assert catalog.pipeline(workspace, without.id) == without
    # It can be disabled, and enabled again: then its records fail with the reason.
    await set_pipeline_status(catalog, workspace, without.id, enabled=False)
    await set_schema(catalog, workspace, profile(more=TEXT, **{each.name: each.type for each in schema}))
    await update_pipeline(catalog, workspace, without.id, update(members, name="New"))
    await create_pipeline(catalog, workspace, request)


@pytest.mark.parametrize("kind", ["SE", "DV", "SU"])
async def test_pipelines_that_write_no_profiles_need_not_fit(
    catalog: Catalog, workspace: int, connect: Connect, kind: str
) -> None:
    await set_schema(catalog, workspace, profile(zip=TEXT))
    connection = await connect(EXAMPLES[kind])
    await create_pipeline(catalog, workspace, creation(kind, connection.id, EXAMPLES[kind].least))


async def test_a_schema_that_changes_during_the_check_is_checked_again(
    catalog: Catalog, workspace: int, connect: Connect
) -> None:
    connection = await connect(EXAMPLES["SU"])
    members = {"outSchema": profile(email=TEXT), "transformation": mapped(email="userId")}
    definition = (await create_pipeline(catalog, workspace, creation("SU", connection.id, members))).definition
    check = AlignmentCheck(catalog, connection, "User", definition)
    await check.run(None)
    check.confirm()
    await set_schema(catalog, workspace, FITTING)
    check.confirm()
    await set_schema(catalog, workspace, profile(zip=TEXT))
    with pytest.raises(Unprocessable):
        check.confirm()
