"""The contract of stores of messages, whatever they are kept in."""

from collections.abc import Collection
from datetime import timedelta
from typing import Final, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from headwater.state.deduplication.message import MessageKey, MessageStates

RETENTION: Final = timedelta(days=7)
"""A message that comes again within this time is a duplicate."""


class MessageStore(Protocol):
    """Remembers messages for `RETENTION`, or longer."""

    async def lookup(self, connection: AsyncConnection, keys: Collection[MessageKey]) -> MessageStates:
        """Return the states of those messages that are known.

        `connection` is the transaction of the state store in which this happens.
        """
        ...

    async def save(self, connection: AsyncConnection, states: MessageStates) -> None:
        """Replace these states. They are durable at the latest when the transaction is.

        They may outlive a transaction that is rolled back. That is harmless: its positions come again, and a position
        that a state has already is the message.
        """
        ...

    async def trim(self, connection: AsyncConnection) -> None:
        """Remove messages that are older than `RETENTION`, unless they expire by themselves."""
        ...

    async def close(self) -> None:
        """Close everything that is open."""
        ...
