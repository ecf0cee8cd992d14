"""Messages in a table of the state store's own database: PostgreSQL, which several machines share.

Writes are part of the transaction. Two consumers that both believe to hold the lease could not save the same message
twice: the second would wait for the first, and find its position overtaken.
"""

from collections.abc import Collection
from typing import Final

from sqlalchemy import any_, delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from headwater.base.clock import Clock, microseconds
from headwater.state import bulk
from headwater.state.deduplication.contract import RETENTION
from headwater.state.deduplication.message import MessageKey, MessageStates, decode_message, encode_message
from headwater.state.tables import messages

_TRIMMED_AT_ONCE: Final = 20_000
_TRIMMED_IN_ALL: Final = 400_000
"""In one call: more than arrive between two of them, or the table would only grow."""
_COLUMNS: Final = (
    messages.c.position,
    messages.c.connection,
    messages.c.message_id,
    messages.c.received_at,
    messages.c.entry,
)

_KEY: Final = (messages.c.connection, messages.c.message_id)


class SqlMessageStore:
    """Messages in the table `messages`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def lookup(self, connection: AsyncConnection, keys: Collection[MessageKey]) -> MessageStates:
        states: MessageStates = {}
        for source, message_id, value in await bulk.lookup(connection, (*_KEY, messages.c.entry), _KEY, keys):
            states[source, message_id] = decode_message(value)
        return states

    async def save(self, connection: AsyncConnection, states: MessageStates) -> None:
        rows = [(state.position, *key, state.received_at, encode_message(state)) for key, state in states.items()]
        await bulk.upsert(connection, _COLUMNS, rows, key=("connection", "message_id"))

    async def trim(self, connection: AsyncConnection) -> None:
        """Remove old messages, the oldest first, a bounded number per call."""
        horizon = microseconds(self._clock.now() - RETENTION)
        oldest = select(messages.c.position).order_by(messages.c.position).limit(_TRIMMED_AT_ONCE)
        # An array makes PostgreSQL search the index for each position; it may join the whole table with a subquery.
        chosen = messages.c.position == any_(func.array(oldest.scalar_subquery()))
        trim = delete(messages).where(chosen, messages.c.received_at < horizon)
        for _ in range(_TRIMMED_IN_ALL // _TRIMMED_AT_ONCE):
            if (await connection.execute(trim)).rowcount < _TRIMMED_AT_ONCE:
                break

    async def close(self) -> None:
        """Nothing is open."""
