"""What became of each event of a call, for a caller who wants to know and is willing to wait for it."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final, Literal

from headwater.base.errors import Unavailable
from headwater.processing import CONSUMER
from headwater.state import StateStore

WAIT_SECONDS: Final = 2.0
"""How long the worker has to carry the call before its events are called "Pending"."""
POLL_SECONDS: Final = 0.02

EventOutcome = Literal["Accepted", "NoPipeline", "Duplicate", "Pending"]


async def outcomes(
    connection: int, position: int, message_ids: Sequence[str | None], state: StateStore
) -> list[EventOutcome | None]:
    """What became of the events of a source from `position` on, by their message ids; None for those without one.

    Whether an event repeats another is known when the worker has carried it, usually after a tenth of a second.
    Until then events are pending, and while the warehouse is away.
    """
    try:
        finished = await _wait_for(position + len(message_ids) - 1, state)
        entries = await state.messages((connection, id_) for id_ in message_ids if id_ is not None)
    except Unavailable:  # they are durable all the same, and a client that hears of a failure sends them again
        finished, entries = 0, {}
    found: list[EventOutcome | None] = []
    for place, id_ in enumerate(message_ids, position):
        entry = None if id_ is None else entries.get((connection, id_))
        if id_ is None:
            found.append(None)
        elif entry is None or place > finished:
            found.append("Pending")
        else:
            found.append(
                ("Accepted" if entry.has_pipeline else "NoPipeline") if entry.position == place else "Duplicate"
            )
    return found


async def _wait_for(position: int, state: StateStore) -> int:
    """Wait until the worker has come to `position`, but not for ever; returns how far it has come."""
    deadline = time.monotonic() + WAIT_SECONDS
    while (finished := await state.position(CONSUMER)) < position and time.monotonic() < deadline:
        await asyncio.sleep(POLL_SECONDS)
    return finished
