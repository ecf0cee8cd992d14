"""The state of a message: its first position, its outcome in pipelines, and its repeats."""

from collections.abc import Iterable
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from headwater.base.steps import ProcessingStep, StepOutcome

MessageKey = tuple[int, str]
"""A message, by its source connection and its message id."""

MAX_REPEATS: Final = 20
"""Maximum number of stored repeats of a message. Further ones are only counted."""


class Step(Struct, frozen=True, array_like=True, cache_hash=True):
    """The last step of a message in one pipeline."""

    pipeline: int
    connection: int
    """The pipeline's connection: the source itself, or a destination linked with it."""
    step: ProcessingStep
    """The last step that it reached."""
    outcome: StepOutcome
    message: str = ""
    """The reason, for people; empty if it passed."""


class Repeat(Struct, frozen=True, array_like=True):
    """Another arrival of the message."""

    position: int
    received_at: int
    """Time of arrival, in microseconds since the epoch."""


class MessageState(Struct, array_like=True):
    """The state of one message. It is stored as MessagePack: add fields at the end only, with a default."""

    position: int
    """The position of the first arrival, which is the message."""
    received_at: int
    """Time of arrival, in microseconds since the epoch."""
    steps: tuple[Step, ...] = ()
    """The last steps in the pipelines, in their order."""
    repeats: list[Repeat] = []
    """The first `MAX_REPEATS` of its repeats."""
    repeated: int = 0
    """Number of repeats."""
    processed_at: int = 0
    """Time at which the pipelines processed it, in microseconds since the epoch."""

    @property
    def has_pipeline(self) -> bool:
        """Return whether any pipeline processed the message. A step of pipeline 0 is a note about the message
        itself."""
        return any(step.pipeline for step in self.steps)


class Message(Struct, frozen=True):
    """An arrival, which is a new message or a repeat."""

    position: int
    key: MessageKey
    received_at: int
    """Time of arrival, in microseconds since the epoch."""


MessageStates = dict[MessageKey, MessageState]


class _Stored(Struct, array_like=True):
    """A message as it is stored, without its repeats."""

    position: int
    received_at: int
    delay: int
    """`processed_at` minus `received_at`."""
    steps: Raw


class _StoredWithRepeats(_Stored, array_like=True):
    repeats: list[Repeat] = []
    repeated: int = 0


_COMPACT: Final = b"\xc1"
"""The first byte of a compact value, which MessagePack never uses.

A value without it is an encoded MessageState, as earlier releases stored it.
"""
_MAX_CACHED_STEPS: Final = 1_000
_OUTCOMES: Final[tuple[tuple[Any, Any], ...]] = tuple(
    (step, outcome)
    for step in ("Receive", "InputValidation", "Filter", "Transformation", "OutputValidation", "Finalize")
    for outcome in ("Passed", "Filtered", "Failed", "Pending")
)
"""Pairs numbered as they are stored: add pairs at the end only."""
_NUMBERS: Final = {pair: number for number, pair in enumerate(_OUTCOMES)}

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_StoredWithRepeats).decode
_decode_state: Final = msgspec.msgpack.Decoder(MessageState).decode
_decode_steps: Final = msgspec.msgpack.Decoder(list[tuple[int, int, int, str]]).decode
_encoded_steps: Final[dict[tuple[Step, ...], Raw]] = {}
_decoded_steps: Final[dict[bytes, tuple[Step, ...]]] = {}


def encode_message(state: MessageState) -> bytes:
    """Return the stored form of a message, which has a third of the size of its fields."""
    delay = state.processed_at - state.received_at
    if state.repeated:
        stored = _StoredWithRepeats(
            state.position, state.received_at, delay, _compact(state.steps), state.repeats, state.repeated
        )
        return _COMPACT + _encode(stored)
    return _COMPACT + _encode(_Stored(state.position, state.received_at, delay, _compact(state.steps)))


def decode_message(value: bytes) -> MessageState:
    """Return the message in a stored value of this or an earlier release."""
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
    """Return the steps as MessagePack. They are cached, because nearly all messages of a source have the same."""
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
    """Return the positions of new messages, and the changed states. `known` has the stored states of these messages.

    `now` is the present time in microseconds since the epoch. `messages` are in the order of their positions. A
    position that is already the message's own counts as new again: a crash undid its effects, and they are processed
    once more.
    """
    fresh: set[int] = set()
    changed: MessageStates = {}
    for message in messages:
        key = message.key
        entry = changed.get(key) or known.get(key)
        if entry is None or entry.position == message.position:
            changed[key] = MessageState(message.position, message.received_at, processed_at=now)
            fresh.add(message.position)
        elif all(repeat.position != message.position for repeat in entry.repeats):
            entry.repeated += 1
            if len(entry.repeats) < MAX_REPEATS:
                entry.repeats.append(Repeat(message.position, message.received_at))
            changed[key] = entry
    return fresh, changed
