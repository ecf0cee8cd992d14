"""Resolves identities that were stored as unresolved, in a transaction."""

from functools import partial

from msgspec import Struct

from headwater.profiles.incremental import resolve_changes
from headwater.profiles.settings import ResolutionContext
from headwater.state.profiles.model import ChangedIdentity
from headwater.state.profiles.resolving import ResolutionRows


class Drained(Struct, frozen=True):
    """The outcome of a resolution of some unresolved identities."""

    last: int
    """The last identity that was tried."""
    is_all: bool
    """Whether no later one is unresolved."""
    resolved: int
    """Number of identities that were resolved."""
    errors: list[Exception]
    """The errors of identities that cannot be resolved. They stay unresolved."""


def resolve_unresolved(
    rows: ResolutionRows, context: ResolutionContext, now: int, *, limit: int, after: int = 0
) -> Drained:
    """Resolve at most `limit` unresolved identities with ids above `after`, the oldest first.

    If they fail together, they are resolved one by one.
    """
    ids = rows.unresolved(context.workspace, limit, after=after)
    if not ids:
        return Drained(after, True, 0, [])
    successors = rows.waiting(ids)
    # A successor is resolved with its identity.
    together = sorted({*ids, *rows.waiting(set(successors.values()) - {0})})
    rows.remove_unresolved(together)  # first, because a transaction must have written before an attempt
    changed = _changes(rows, context.workspace, together, successors)
    errors: list[Exception] = []
    if rows.attempt(lambda: resolve_changes(rows, context, changed, now, limit=None)) is not None:
        failed: set[int] = set()
        for each in sorted(changed, key=lambda change: change.successor):  # those with a successor after all others
            error = rows.attempt(partial(resolve_changes, rows, context, [each], now, limit=None))
            if error is not None:
                errors.append(error)
            if error is not None or each.successor in failed:
                failed.add(each.id)
                rows.add_unresolved(context.workspace, [each.id], successors)
    return Drained(ids[-1], len(ids) < limit, len(changed) - len(errors), errors)


def _changes(rows: ResolutionRows, workspace: int, ids: list[int], successors: dict[int, int]) -> list[ChangedIdentity]:
    """Return the unresolved identities as changes. One without a row was deleted."""
    identities = {row.id: row for row in rows.identities(ids)}
    members = {member.identity: member for member in rows.members(ids)}
    changed: list[ChangedIdentity] = []
    for id_ in ids:
        row, member = identities.get(id_), members.get(id_)
        if row is not None:
            changed.append(
                ChangedIdentity(
                    id_, workspace, row.name, row.pipeline, row.attributes, row.updated_at, member is None, True
                )
            )
        elif member is not None:
            changed.append(
                ChangedIdentity(id_, workspace, member.name, 0, None, 0, False, True, successors.get(id_, 0))
            )
    return changed
