"""Checks that a harmless event can be stored, to tell a fault of the data from a fault of the system."""

from msgspec import Raw

from headwater.state import (
    IdentityObservation,
    LaneEntry,
    Message,
    NewChunk,
    StateStore,
    TraitsUpdate,
    deduplicate,
)
from headwater.warehouse import StoredEvent, Warehouse

MAX_POSITION = 2**63 - 1
"""The highest position, which no event has."""
_ID = "canary"


async def check_writes(state: StateStore, warehouse: Warehouse | None, position: int) -> None:
    """Write the effects of an event in a transaction that is rolled back. Raises what the stores raise.

    `position` is that of an event that has not been stored. Without `warehouse` only the state store is checked.
    """
    try:
        async with state.transaction() as transaction:
            message = Message(position, (0, _ID), 0)
            deduplicate([message], await transaction.lookup([message]))
            await transaction.merge_traits([TraitsUpdate(0, _ID, None, Raw(b"{}"))])
            observation = IdentityObservation(0, 0, (0,), _ID, None, 0, ("{}",), reaches=(0,))
            await transaction.change_identities(await transaction.merge_identities([observation]))
            entry = LaneEntry(position, _ID, 0, _ID, None, document=0)
            await transaction.append_to_lanes([NewChunk(0, 0, 0, [entry])], {0: [b"{}"]}, now=0)
            if warehouse is not None:
                await warehouse.check([StoredEvent(position, 0, 0, 0, 0, 0, "track", None, _ID, None, b"{}")])
            raise _Rollback
    except _Rollback:
        pass


class _Rollback(Exception):
    """Ends the transaction."""
