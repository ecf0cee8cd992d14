"""What the ledger knows of a message: the position that is the message, what became of it, and which positions only
repeated it."""

from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec import Struct

from headwater.base.steps import ProcessingStep, StepOutcome

MessageKey = tuple[int, str]
"""A message by its source connection and its message id."""

MAX_REPEATS: Final = 20
"""How many repetitions of a message are remembered; more are only counted."""


class Step(Struct, frozen=True, array_like=True):
    """How far one pipeline has taken a message."""

    pipeline: int
    connection: int
    """The pipeline's connection: the source itself, or a destination linked with it."""
    step: ProcessingStep
    """The last step that it came to."""
    outcome: StepOutcome
    message: str = ""
    """Why, for people; empty when it passed."""


class Repeat(Struct, frozen=True, array_like=True):
    """Another arrival of the message."""

    position: int
    received_at: int
    """Microseconds since the epoch."""


class MessageState(Struct, array_like=True):
    """One message. Stored as MessagePack, so fields are only ever added at the end, with a default."""

    position: int
    """The position of its first arrival, which is the message."""
    received_at: int
    """Microseconds since the epoch."""
    steps: tuple[Step, ...] = ()
    """What pipelines did with it, in their order."""
    repeats: list[Repeat] = []
    """The first `MAX_REPEATS` of its repetitions."""
    repeated: int = 0
    """How many there were."""
    carried_at: int = 0
    """When the pipelines had it, in microseconds since the epoch."""

    @property
    def has_pipeline(self) -> bool:
        """Whether any pipeline took the message. A step of pipeline 0 is a note about the message itself."""
        return any(step.pipeline for step in self.steps)


class Message(Struct, frozen=True):
    """An arrival that wants to be a message."""

    position: int
    key: MessageKey
    received_at: int
    """Microseconds since the epoch."""


MessageStates = dict[MessageKey, MessageState]

encode_message = msgspec.msgpack.Encoder().encode
decode_message = msgspec.msgpack.Decoder(MessageState).decode


def deduplicate(messages: Iterable[Message], known: MessageStates, *, now: int = 0) -> tuple[set[int], MessageStates]:
    """Which positions are new messages, and the entries that change; `known` is what the ledger has of these messages.

    `now` is the present moment in microseconds since the epoch. `messages` are in the order of their positions. A
    position that the ledger has already is new again: then what was done with it was undone by a crash, and is done
    once more.
    """
    fresh: set[int] = set()
    changed: MessageStates = {}
    for message in messages:
        key = message.key
        entry = changed.get(key) or known.get(key)
        if entry is None or entry.position == message.position:
            changed[key] = MessageState(message.position, message.received_at, carried_at=now)
            fresh.add(message.position)
        elif all(repeat.position != message.position for repeat in entry.repeats):
            entry.repeated += 1
            if len(entry.repeats) < MAX_REPEATS:
                entry.repeats.append(Repeat(message.position, message.received_at))
            changed[key] = entry
    return fresh, changed
