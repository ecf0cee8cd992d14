"""The members of each kind of pipeline: every cell of the documented table."""

from typing import Any, Final

import pytest

from headwater.catalog import Catalog, Matching, Pipeline
from headwater.management.pipelines import create_pipeline, get_pipeline, update_pipeline
from headwater.schemas import serialise
from tests.management.pipelines.conftest import Connect
from tests.management.pipelines.examples import (
    ATTRIBUTES,
    EXAMPLES,
    TEXT,
    creation,
    mapped,
    profile,
    schema,
    show_members,
    update,
    where,
)
from tests.management.unchanged import refused

TABLE: Final = """
                     SA SD SF SU SE DA DV DD DF
eventType             -  -  -  -  -  -  R  -  -
filter                O  -  O  O  O  O  O  O  O
inSchema              R  R  R  -  -  R  -  R  R
outSchema             R  R  R  O  -  R  O  R  -
transformation        R  R  R  O  -  R  O  R  -
query                 -  R  -  -  -  -  -  -  -
format                -  -  R  -  -  -  -  -  R
path                  -  -  R  -  -  -  -  -  R
sheet                 -  -  O  -  -  -  -  -  O
compression           -  -  O  -  -  -  -  -  O
formatSettings        -  -  R  -  -  -  -  -  R
orderBy               -  -  -  -  -  -  -  -  R
userIDColumn          -  R  R  -  -  -  -  -  -
updatedAtColumn       -  O  O  -  -  -  -  -  -
updatedAtFormat       -  O  O  -  -  -  -  -  -
incremental           O  O  O  -  -  -  -  -  -
exportMode            -  -  -  -  -  R  -  -  -
matching              -  -  -  -  -  R  -  -  -
updateOnDuplicates    -  -  -  -  -  O  -  -  -
tableName             -  -  -  -  -  -  -  R  -
tableKey              -  -  -  -  -  -  -  R  -
"""
"""R required, O optional, - must not be there. Formats with sheets need a sheet, those with settings need settings:
the examples' format, csv, has settings and no sheets."""

_HEAD, *_ROWS = (line.split() for line in TABLE.strip().splitlines())
PRESENCE: Final = {kind: {row[0]: row[column] for row in _ROWS} for column, kind in enumerate(_HEAD, start=1)}

GIVEN: Final[dict[str, Any]] = {
    "eventType": "track",
    "filter": where("email", "is", "x"),
    "inSchema": schema(email=TEXT),
    "outSchema": profile(email=TEXT),
    "transformation": mapped(email="email"),
    "query": "SELECT 1",
    "format": "csv",
    "path": "users.csv",
    "sheet": "Users",
    "compression": "Zip",
    "formatSettings": {"separator": ","},
    "orderBy": "email",
    "userIDColumn": "email",
    "updatedAtColumn": "email",
    "updatedAtFormat": "ISO8601",
    "incremental": True,
    "exportMode": "CreateOnly",
    "matching": Matching("email", "email"),
    "updateOnDuplicates": True,
    "tableName": "users",
    "tableKey": "email",
}
"""Something for each member that is right where it is allowed."""
EMPTY: Final[dict[str, Any]] = {
    member: type(value)() if isinstance(value, str | bool | dict) else None for member, value in GIVEN.items()
}

kinds = pytest.mark.parametrize("kind", EXAMPLES)


def of(kind: str, presence: str) -> list[str]:
    return [member for member, cell in PRESENCE[kind].items() if cell == presence]


def kept(members: dict[str, Any]) -> dict[str, Any]:
    """Compare the names by `show_members`."""
    for member in ("inSchema", "outSchema"):
        if members.get(member) is not None:
            members = {**members, member: serialise(members[member]).decode()}
    return members


def test_the_table_is_whole() -> None:
    assert list(PRESENCE) == list(EXAMPLES)
    for kind, cells in PRESENCE.items():
        example = EXAMPLES[kind]
        assert list(cells) == list(ATTRIBUTES) == list(GIVEN)
        assert sorted(example.least) == sorted(of(kind, "R"))
        assert sorted(example.optional) == sorted(of(kind, "O"))


@kinds
async def test_the_least_is_enough(catalog: Catalog, workspace: int, connect: Connect, kind: str) -> None:
    connection = await connect(EXAMPLES[kind])
    made = await create_pipeline(catalog, workspace, creation(kind, connection.id, EXAMPLES[kind].least))
    owner = catalog.connection(workspace, connection.id)
    assert owner is not None and owner.pipelines == (made,)
    assert await get_pipeline(catalog, workspace, made.id) == made
    assert made == Pipeline(
        id=made.id,
        workspace=workspace,
        connection=connection.id,
        name="P",
        target=EXAMPLES[kind].target,
        enabled=False,
        created_at=made.created_at,
        event_type="send_generic_event" if kind == "DV" else "",
        schedule_start=made.schedule_start,
        definition=made.definition,
    )
    shown = show_members(made)
    if kind in ("SF", "DF"):  # absent settings get their defaults
        assert shown.pop("formatSettings")["separator"] == ","
    least = {member: value for member, value in EXAMPLES[kind].least.items() if member != "formatSettings"}
    assert shown == kept(least)


@kinds
async def test_optional_members(catalog: Catalog, workspace: int, connect: Connect, kind: str) -> None:
    """Each can be there, on creation and on update, and is gone again with the next update."""
    example = EXAMPLES[kind]
    connection = await connect(example)
    if kind == "SE":  # of which there is one
        pipeline = await create_pipeline(catalog, workspace, creation(kind, connection.id, example.optional["filter"]))
        assert "filter" in show_members(pipeline)
    else:
        for member, given in example.optional.items():
            made = await create_pipeline(catalog, workspace, creation(kind, connection.id, {**example.least, **given}))
            assert show_members(made)[member] == kept(given)[member] or member == "filter"
        pipeline = await create_pipeline(catalog, workspace, creation(kind, connection.id, example.least))
    least = show_members(await update_pipeline(catalog, workspace, pipeline.id, update(example.least)))
    for member, given in example.optional.items():
        assert member not in least
        with_it = await update_pipeline(catalog, workspace, pipeline.id, update({**example.least, **given}))
        assert member in show_members(with_it)
        without = await update_pipeline(catalog, workspace, pipeline.id, update(example.least))
        assert show_members(without) == least


@kinds
async def test_required_and_forbidden_members(catalog: Catalog, workspace: int, connect: Connect, kind: str) -> None:
    """A forbidden member is rejected by name, and an empty one counts as absent: on creation and on update."""
    example = EXAMPLES[kind]
    connection = await connect(example)
    pipeline = await create_pipeline(catalog, workspace, creation(kind, connection.id, example.least))
    wrong = [(member, {**example.least, member: GIVEN[member]}) for member in of(kind, "-")]
    # Every setting of a format may be absent.
    required = [member for member in of(kind, "R") if member != "formatSettings"]
    wrong += [(member, {**example.least, member: EMPTY[member]}) for member in required]
    for member, members in wrong:
        async with refused(catalog, 400, "BadRequest", member):
            await create_pipeline(catalog, workspace, creation(kind, connection.id, members))
        if member != "eventType":  # which an update cannot have
            async with refused(catalog, 400, "BadRequest", member):
                await update_pipeline(catalog, workspace, pipeline.id, update(members))


@kinds
async def test_empty_members_are_absent(catalog: Catalog, workspace: int, connect: Connect, kind: str) -> None:
    example = EXAMPLES[kind]
    connection = await connect(example)
    empty = {member: EMPTY[member] for member in (*of(kind, "-"), *of(kind, "O"))}
    made = await create_pipeline(catalog, workspace, creation(kind, connection.id, {**empty, **example.least}))
    least = await update_pipeline(catalog, workspace, made.id, update(example.least))
    assert show_members(made) == show_members(least)
