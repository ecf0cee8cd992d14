"""What the ledger knows of a message: the position that is the message, what became of it, and which positions only
repeated it."""

from collections.abc import Iterable
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

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


class _Stored(Struct, array_like=True):
    """A message as it is stored, without what repeated it."""

    position: int
    received_at: int
    delay: int
    """`carried_at` minus `received_at`."""
    steps: Raw


class _StoredWithRepeats(_Stored, array_like=True):
    repeats: list[Repeat] = []
    repeated: int = 0


_COMPACT: Final = b"\xc1"
"""The first byte of a compact value, which MessagePack never uses: a value without it is an encoded MessageState, as
earlier releases stored it."""
_MAX_CACHED_STEPS: Final = 1_000
_OUTCOMES: Final[tuple[tuple[Any, Any], ...]] = tuple(
    (step, outcome)
    for step in ("Receive", "InputValidation", "Filter", "Transformation", "OutputValidation", "Finalize")
    for outcome in ("Passed", "Filtered", "Failed", "Pending")
)
"""Numbered as stored: add pairs at the end only."""
_NUMBERS: Final = {pair: number for number, pair in enumerate(_OUTCOMES)}

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_StoredWithRepeats).decode
_decode_state: Final = msgspec.msgpack.Decoder(MessageState).decode
_decode_steps: Final = msgspec.msgpack.Decoder(list[tuple[int, int, int, str]]).decode
_encoded_steps: Final[dict[tuple[Step, ...], Raw]] = {}
_decoded_steps: Final[dict[bytes, tuple[Step, ...]]] = {}


def encode_message(state: MessageState) -> bytes:
    """Return a message as it is stored: a third of the size of its fields as they are."""
    delay = state.carried_at - state.received_at
    if state.repeated:
        stored = _StoredWithRepeats(
            state.position, state.received_at, delay, _compact(state.steps), state.repeats, state.repeated
        )
        return _COMPACT + _encode(stored)
    return _COMPACT + _encode(_Stored(state.position, state.received_at, delay, _compact(state.steps)))


def decode_message(value: bytes) -> MessageState:
    """Return the message that `encode_message`, of this or an earlier release, has encoded."""
    if value[:1] != _COMPACT:
        return _decode_state(value)
    stored = _decode(memoryview(value)[1:])
    return MessageState(
        stored.position,
        stored.received_at,
        _expand(bytes(stored.steps)),
        stored.repeats,
        stored.repeated,
        stored.received_at + stored.delay,
    )


def _compact(steps: tuple[Step, ...]) -> Raw:
    """Return the steps as MessagePack. Nearly all messages of a source have the same, so they are remembered."""
    if (known := _encoded_steps.get(steps)) is not None:
        return known
    encoded = Raw(_encode([_numbered(step) for step in steps]))
    if not any(step.message for step in steps):
        if len(_encoded_steps) >= _MAX_CACHED_STEPS:
            _encoded_steps.clear()
        _encoded_steps[steps] = encoded
    return encoded


def _numbered(step: Step) -> tuple[int, int, int, str]:
    return step.pipeline, step.connection, _NUMBERS[step.step, step.outcome], step.message


def _expand(encoded: bytes) -> tuple[Step, ...]:
    if (known := _decoded_steps.get(encoded)) is not None:
        return known
    steps = tuple(
        Step(pipeline, connection, *_OUTCOMES[number], message)
        for pipeline, connection, number, message in _decode_steps(encoded)
    )
    if not any(step.message for step in steps):
        if len(_decoded_steps) >= _MAX_CACHED_STEPS:
            _decoded_steps.clear()
        _decoded_steps[encoded] = steps
    return steps


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
