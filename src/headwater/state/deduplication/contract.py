"""The contract of message stores."""

from collections.abc import Collection
from datetime import timedelta
from typing import Final, Protocol

from headwater.state.deduplication.message import MessageKey, MessageStates
from headwater.storage.sessions import Session

RETENTION: Final = timedelta(days=7)
"""A message that comes again within this time is a duplicate."""


class MessageStore(Protocol):
    """Keeps messages for `RETENTION`, or longer."""

    async def lookup(self, session: Session, keys: Collection[MessageKey]) -> MessageStates:
        """Return the states of those messages that are known.

        `session` is the surrounding transaction of the state store.
        """
        ...

    async def save(self, session: Session, states: MessageStates) -> None:
        """Replace these states. They are durable when the transaction is, or earlier.

        They may outlive a rolled-back transaction. That is harmless: its positions come again, and a position that a
        state already has is the message itself.
        """
        ...

    async def remove(self, session: Session, keys: Collection[MessageKey]) -> None:
        """Delete the states of these messages. An arrival of one of them is new afterwards."""
        ...

    async def overwrite_removed(self) -> None:
        """Remove the bytes of removed messages from files. Takes seconds for each GB, in which others work."""
        ...

    async def trim(self, session: Session) -> None:
        """Delete messages that are older than `RETENTION`, unless they expire by themselves."""
        ...

    async def close(self) -> None:
        """Close all open resources."""
        ...
