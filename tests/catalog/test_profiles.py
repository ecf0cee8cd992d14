"""The profile schema and the settings of identity resolution come back as they were stored."""

from dataclasses import replace

import msgspec
import pytest

from headwater.catalog import Catalog, Identifier, ProfileSchema, Rename, ResolutionSettings, Workspace
from headwater.catalog.profiles import decode_profile_schema, encode_profile_schema
from headwater.schemas import DecimalType, IntType, ObjectType, Property, StringType
from tests.catalog import make

SCHEMA = ObjectType(
    (
        Property("email", StringType(max_length=120), read_optional=True, description="é"),
        Property("address", ObjectType((Property("zip", StringType(), read_optional=True),)), read_optional=True),
        Property("score", DecimalType(76, 37), read_optional=True),
        Property("age", IntType(64, unsigned=True), read_optional=True),
    )
)
PROFILES = ProfileSchema(
    schema=SCHEMA,
    primary_sources={"email": 7, "address.zip": 2**31 - 1},
    version=3,
    renames=(Rename(old="mail", new="email"), Rename(old="phone", new=None)),
)
SETTINGS = ResolutionSettings(
    run_on_batch_import=False,
    identifiers=(
        Identifier(path="address.zip"),
        Identifier(
            path="email",
            blocked_values=('x"y', ""),
            blocked_presets=("EmptyWords", "ZerosAndDashes"),
            max_identities=5,
            max_values=1,
            allows_blank=True,
        ),
    ),
)


async def test_a_new_workspace_has_no_schema_and_the_default_settings(
    catalog: Catalog, other: Catalog, workspace: Workspace
) -> None:
    await other.refresh()
    for each in (catalog, other):
        found = each.workspace(workspace.id)
        assert found is not None and found.profile_schema is None and found.resolution == ResolutionSettings()


async def test_they_come_back_as_they_were_stored(catalog: Catalog, other: Catalog, workspace: Workspace) -> None:
    changed = msgspec.structs.replace(workspace, profile_schema=PROFILES, resolution=SETTINGS)
    async with catalog.change() as change:
        change.update_workspace(changed)
    await other.refresh()
    assert catalog.workspace(workspace.id) == other.workspace(workspace.id) == changed
    assert make.everything(other) == make.everything(catalog)
    async with other.change() as change:
        change.update_workspace(msgspec.structs.replace(changed, profile_schema=None))
    await catalog.refresh()
    assert catalog.workspace(workspace.id) == msgspec.structs.replace(changed, profile_schema=None)


async def test_a_workspace_may_be_created_with_them(catalog: Catalog, other: Catalog) -> None:
    async with catalog.change() as change:
        made = Workspace(
            id=change.new_id(), name="Shop", created_at=change.now, profile_schema=PROFILES, resolution=SETTINGS
        )
        change.add_workspace(made)
    await other.refresh()
    assert other.workspace(made.id) == made


def test_the_stored_schema_keeps_descriptions() -> None:
    described = replace(SCHEMA.properties[0], description="The address\nof mail.")
    profiles = msgspec.structs.replace(PROFILES, schema=ObjectType((described,)))
    back = decode_profile_schema(encode_profile_schema(profiles))
    assert back == profiles and back.schema.properties[0].description == "The address\nof mail."


def test_a_stored_schema_has_properties() -> None:
    with pytest.raises(ValueError, match="no properties"):
        decode_profile_schema('{"schema":"null"}')
