"""Deletes what no workspace or pipeline needs, a limited number of rows at a time."""

from collections.abc import Collection, Iterable
from typing import Final

from sqlalchemy import Connection, select

from headwater.state import bulk
from headwater.state.profiles import tables
from headwater.state.profiles.model import ProfileChanges
from headwater.state.profiles.rows import SCHEMA_NOTE, SPLIT_NOTE, ProfileRows
from headwater.state.tables import checkpoints, identities, pending_resolutions, suppressions

_PROFILES_PER_CALL: Final = 1_000
"""Number of profiles of a deleted workspace that one call deletes, with their members, values and aliases."""


def remove_identities_except(connection: Connection, pipelines: Iterable[int], *, limit: int) -> int:
    """Delete identities of pipelines that are not in `pipelines`, at most `limit`. Return their number.

    They are stored as unresolved, also those that are in no profile: a full resolution may have read them before.
    """
    removed = 0
    rows = ProfileRows(connection)
    table = identities.c
    for pipeline in sorted(bulk.distinct(connection, table.pipeline) - set(pipelines)):
        query = select(table.id, table.workspace).where(table.pipeline == pipeline).limit(limit - removed)
        workspaces = {row.id: row.workspace for row in connection.execute(query)}
        for workspace in set(workspaces.values()):
            rows.add_unresolved(workspace, [id_ for id_, owner in workspaces.items() if owner == workspace])
        removed += bulk.remove(connection, (table.id,), ((id_,) for id_ in workspaces))
        if removed >= limit:
            break
    return removed


def remove_workspaces_except(connection: Connection, workspaces: Collection[int], *, limit: int) -> int:
    """Delete the profiles, everything of identity resolution, and the suppressions of workspaces that are not in
    `workspaces`, about `limit` rows. Return their number."""
    removed = 0
    for workspace in sorted(bulk.distinct(connection, tables.profiles.c.workspace) - set(workspaces)):
        removed += _remove_profiles(connection, workspace)
        if removed >= limit:
            return removed
    for workspace in sorted(bulk.distinct(connection, tables.separations.c.workspace) - set(workspaces)):
        removed += _remove_separations(connection, workspace)
        if removed >= limit:
            return removed
    for table in _BY_WORKSPACE:
        column = table.c.workspace
        gone = sorted(bulk.distinct(connection, column) - set(workspaces))
        if table is tables.resolutions:
            notes = [(f"{note} {workspace}",) for note in (SCHEMA_NOTE, SPLIT_NOTE) for workspace in gone]
            bulk.remove(connection, (checkpoints.c.owner,), notes)
        removed += bulk.remove_some(connection, column, gone, limit=limit - removed)
        if removed >= limit:
            return removed
    return removed


def _remove_profiles(connection: Connection, workspace: int) -> int:
    """Delete some profiles of a workspace with their members, values and aliases."""
    rows = ProfileRows(connection)
    table = tables.profiles.c
    ids = list(connection.scalars(select(table.id).where(table.workspace == workspace).limit(_PROFILES_PER_CALL)))
    members = [member.identity for member in rows.find_members(ids)]
    aliases = [alias.kpid for alias in rows.aliases(ids)]
    rows.write(
        ProfileChanges(
            workspace=workspace,
            profiles=[],
            removed_profiles=ids,
            members=[],
            removed_members=members,
            links=[],
            removed_links=[],
            aliases=[],
            removed_aliases=aliases,
            history=[],
            refused=[],
            removed_refused=[],
        )
    )
    return len(ids) + len(members) + len(aliases)


def _remove_separations(connection: Connection, workspace: int) -> int:
    rows = ProfileRows(connection)
    table = tables.separations.c
    ids = list(connection.scalars(select(table.id).where(table.workspace == workspace).limit(_SEPARATIONS_PER_CALL)))
    for id_ in ids:
        rows.remove_separation(workspace, id_)
    return len(ids)


_SEPARATIONS_PER_CALL: Final = 100
_BY_WORKSPACE: Final = (
    tables.links,
    tables.resolution_refusals,
    tables.profile_changes,
    tables.unresolved,
    tables.resolutions,
    tables.profile_counts,
    suppressions,
    pending_resolutions,
)
