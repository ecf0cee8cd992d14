"""Drops the events of erased persons."""

from collections.abc import Sequence
from functools import partial
from typing import Final

from headwater.processing.batch import AcceptedEvent
from headwater.state import Step, Transaction
from headwater.state.suppressions import PersonName, Suppressions

ERASED: Final = "the person was erased"
"""The reason in traces."""


def suppressed_step(accepted: AcceptedEvent) -> Step:
    """Return the step of a suppressed event in its trace."""
    return Step(0, accepted.event.connection_id, "Receive", "Filtered", ERASED)


async def find_suppressed(
    accepted: Sequence[AcceptedEvent], suppressions: Suppressions, transaction: Transaction
) -> set[int]:
    """Return the positions of events of erased persons, and count them. Without suppressions it costs nothing."""
    if not suppressions.is_read:
        await transaction.run(suppressions.read)
    if not suppressions:
        return set()
    suppressed: set[int] = set()
    by_workspace: dict[int, list[PersonName]] = {}
    for each in _select(accepted, suppressions):
        name = _find_name(each, suppressions)
        if name is not None:
            suppressed.add(each.position)
            by_workspace.setdefault(each.workspace, []).append(name)
    for workspace, names in by_workspace.items():
        transaction.write_later(partial(suppressions.count, workspace=workspace, names=names))
    return suppressed


def _select(accepted: Sequence[AcceptedEvent], suppressions: Suppressions) -> list[AcceptedEvent]:
    """Return the events that may be of suppressed persons.

    An alias has another id, and an event without ids may have an email address.
    """
    ids = {each.event.user_id for each in accepted}
    ids.update([each.event.anonymous_id for each in accepted])
    found = suppressions.select(ids)
    return [
        each
        for each in accepted
        if (event := each.event).user_id in found
        or event.anonymous_id in found
        or event.type == "alias"
        or (event.user_id is None and event.anonymous_id is None)
    ]


def _find_name(accepted: AcceptedEvent, suppressions: Suppressions) -> PersonName | None:
    """Return the id that suppresses an event; None if it is not suppressed.

    An event with a user id belongs to that user, so its anonymous id does not count. An alias belongs to both users.
    """
    event = accepted.event
    source, workspace, position = event.connection_id, accepted.workspace, accepted.position
    user_id, _ = accepted.user()
    if user_id is not None:
        if suppressions.has(workspace, source, position, user_id, is_anonymous=False):
            return PersonName(source, user_id, False)
    elif suppressions.has(workspace, source, position, event.anonymous_id, is_anonymous=True):
        return PersonName(source, event.anonymous_id or "", True)
    if event.type == "alias" and event.previous_id is not None:
        for is_anonymous in (False, True):
            if suppressions.has(workspace, source, position, event.previous_id, is_anonymous=is_anonymous):
                return PersonName(source, event.previous_id, is_anonymous)
    return None
