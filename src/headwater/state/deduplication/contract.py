"""What a ledger is, whatever it is kept in."""

from collections.abc import Collection
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from headwater.state.deduplication.message import MessageKey, MessageStates


class MessageStore(Protocol):
    """Remembers messages for `KEPT`, and longer as it likes."""

    async def lookup(self, connection: AsyncConnection, keys: Collection[MessageKey]) -> MessageStates:
        """The entries of those messages that are known.

        `connection` is the transaction of the warehouse in which this happens.
        """
        ...

    async def save(self, connection: AsyncConnection, entries: MessageStates) -> None:
        """Keep these entries, over what there was. They are durable at the latest when the transaction is.

        They may outlive a transaction that is undone. That is harmless: its positions come again, and the ledger says
        of a position that it knows that it is the message.
        """
        ...

    async def trim(self, connection: AsyncConnection) -> None:
        """Forget what is older than `KEPT`, as far as that does not happen by itself."""
        ...

    async def close(self) -> None:
        """Let go of what is open."""
        ...
