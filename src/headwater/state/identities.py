"""Derives identities from events. An identity is one person in one pipeline.

An event with a user id is an observation of that user, who then also owns the event's anonymous id. The anonymous
identities of that id are deleted from every pipeline of the connection. An event without a user id is an observation of
an anonymous identity. An observation moves `updated_at` forward, never back; the stored time may be up to a minute old.

An alias merges the identities of a user's previous id, anonymous or not, into those of the user, in every pipeline of
the connection, whatever its filter: it states who a person is, and contains no traits.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Final

import msgspec
from msgspec import Raw, Struct

from headwater.events.raw import is_absent

MAX_ANONYMOUS_IDS: Final = 1_000
"""Maximum number of anonymous ids of an identity. The latest are kept.

An identity with more is a shared login or a bug of a client, and each of its events would cost more than the one
before.
"""


MAX_ATTRIBUTES_BYTES: Final = 256 * 1024
"""Maximum size of the attributes of an identity, as JSON in UTF-8. A pipeline fails for an event that exceeds it.

`attributes_fit` checks it.
"""


MAX_UPDATE_DELAY_MICROSECONDS: Final = 60_000_000
"""Maximum delay of the stored `updated_at` after the latest event of an identity.

An event that only moves the time by less writes nothing. Most events are of people who were active a moment before.
"""


class IdentityObservation(Struct, frozen=True):
    """An observation of a person in an event of a source connection."""

    workspace: int
    connection: int
    pipelines: tuple[int, ...]
    """The pipelines that observe the person. An alias also changes all that it `reaches`."""
    user_id: str | None
    anonymous_id: str | None
    """The anonymous id. At least one of the two ids is present."""
    at: int
    """Time of the event, in microseconds since the epoch."""
    attributes: tuple[str, ...] = ()
    """The attributes of the person in each of the pipelines, as JSON objects; empty if no pipeline transforms."""
    previous_id: str | None = None
    """The previous id of the user. Only an alias has one, and an alias has a user id."""
    only_if_unclaimed: bool = False
    """True for an alias that applies only if the user is unknown and the previous id is known and anonymous."""
    reaches: tuple[int, ...] = ()
    """The pipelines of the connection in which a claim or an alias has effect.

    Pipelines with a lane get it in the order of their lane instead (`headwater.state.lanes`).
    """
    claims: bool = True
    """True if the anonymous id belongs to the user from this event on. An event that all pipelines filter out claims
    nothing."""


class IdentityKey(Struct, frozen=True, cache_hash=True):
    """The key of an identity."""

    connection: int
    identity_id: str
    is_anonymous: bool
    pipeline: int


class IdentityState(Struct):
    """The mutable part of an identity."""

    workspace: int
    anonymous_ids: list[str]
    updated_at: int
    attributes: str = "{}"
    """A JSON object with the attributes of the pipeline's latest event."""


class Identity(Struct, frozen=True):
    """An identity in a list."""

    user_id: str | None
    """The user id; None for an anonymous identity."""
    anonymous_ids: list[str]
    connection: int
    pipeline: int
    updated_at: datetime
    id: int = 0
    """The id of the row, which orders identities with the same time."""


class IdentityCursor(Struct, frozen=True, array_like=True):
    """A place in a list of identities: after this time, in microseconds since the epoch, and id."""

    updated_at: int
    id: int


Identities = dict[IdentityKey, IdentityState | None]
"""Identities by their key; None if there is no such identity."""


class StoredIdentity(Struct, frozen=True):
    """The row of an identity before a change."""

    id: int
    attributes: str


class IdentityChanges(Struct, frozen=True):
    """The identity changes of observations."""

    removed: dict[IdentityKey, IdentityKey | None]
    """The identities to delete, before any is written, with the user's that takes the place of each; None for none."""
    changed: dict[IdentityKey, IdentityState]
    """The identities to write, new ones in the order of their first appearance."""
    stored: dict[IdentityKey, StoredIdentity]
    """The rows of those to write that exist."""


def affected_keys(observations: Iterable[IdentityObservation]) -> list[IdentityKey]:
    """Return all identities that these observations can change, in the order of first appearance, which is that of new
    rows."""
    keys: dict[IdentityKey, None] = {}
    for observation in observations:
        for pipeline in observation.pipelines:
            if observation.user_id is not None:
                keys[IdentityKey(observation.connection, observation.user_id, False, pipeline)] = None
            else:
                keys[IdentityKey(observation.connection, _only_id(observation), True, pipeline)] = None
    return list(keys)


def affected_ids(observations: Iterable[IdentityObservation]) -> set[tuple[int, str]]:
    """Return the connections and ids whose identities in every pipeline these observations can change."""
    return {
        (observation.connection, id_)
        for observation in observations
        if observation.previous_id is not None
        for id_ in (observation.previous_id, observation.user_id)
        if id_ is not None
    }


def needs_write(before: IdentityState | None, after: IdentityState) -> bool:
    """Return whether a changed identity must be written: not if only its time has moved a little."""
    return (
        before is None
        or after.updated_at - before.updated_at >= MAX_UPDATE_DELAY_MICROSECONDS
        or after.anonymous_ids != before.anonymous_ids
        or after.attributes != before.attributes
        or after.workspace != before.workspace
    )


def merge(observations: Iterable[IdentityObservation], known: Identities) -> dict[IdentityKey, IdentityKey | None]:
    """Apply the observations to `known`, in their order. Return the identities that were deleted, with the user's that
    took the place of each.

    An identity that was taken leads to the last user of a chain of claims and aliases, who may be unknown in its
    pipeline.

    `known` must contain every key of `affected_keys(observations)`, and every identity of `affected_ids(observations)`.
    The caller deletes the returned identities that `known` does not contain again.
    """
    merging = _IdentityMerger(known)
    for observation in observations:
        merging.apply(observation)
    return merging.successors()


class _Latest(Struct, frozen=True):
    """The person last observed with an anonymous id, by which pipelines, and with which states."""

    user_id: str | None = None
    pipelines: tuple[int, ...] = ()
    reaches: tuple[int, ...] = ()
    claims: bool = True
    states: tuple[IdentityState, ...] = ()


_NOBODY: Final = _Latest()


class _IdentityMerger:
    def __init__(self, known: Identities) -> None:
        self._known = known
        self._removals: dict[IdentityKey, int] = {}
        """Number of deletions of each key. A key can be known again after that, as another identity."""
        self._successors: dict[tuple[IdentityKey, int], tuple[IdentityKey, int]] = {}
        """The identity that took the place of a deleted one. Each is a key, and the number of its earlier deletions."""
        self._latest: dict[tuple[int, str | None], _Latest] = {}
        """The latest observation by connection and anonymous id."""

    def successors(self) -> dict[IdentityKey, IdentityKey | None]:
        """Return the deleted identities with their last successors."""
        return {key: self._last_successor(key) for key in self._removals}

    def _last_successor(self, key: IdentityKey) -> IdentityKey:
        """Follow the successors, whose order is that of time, to one that was not deleted."""
        passed: list[tuple[IdentityKey, int]] = []
        last = (key, 0)
        while (following := self._successors.get(last)) is not None:
            passed.append(last)
            last = following
        self._successors.update((each, last) for each in passed)
        return last[0]

    def apply(self, observation: IdentityObservation) -> None:
        if not self._is_repeat(observation):
            self._apply(observation)

    def _is_repeat(self, observation: IdentityObservation) -> bool:
        """Return whether only the time differs from the latest observation, as in most events; then apply the time."""
        latest = self._latest.get((observation.connection, observation.anonymous_id), _NOBODY)
        if (
            latest.user_id != observation.user_id
            or latest.pipelines != observation.pipelines
            or latest.reaches != observation.reaches
        ):
            return False
        if latest.claims != observation.claims or observation.previous_id is not None or observation.attributes:
            return False
        for state in latest.states:
            if len(state.anonymous_ids) >= MAX_ANONYMOUS_IDS:  # the id may have been dropped as the oldest since
                return False
        for state in latest.states:
            state.updated_at = max(state.updated_at, observation.at)
            state.attributes = "{}"
        return True

    def _apply(self, observation: IdentityObservation) -> None:
        anonymous_ids = [] if observation.anonymous_id is None else [observation.anonymous_id]
        if observation.claims and observation.user_id is not None and observation.anonymous_id is not None:
            self._take(observation, observation.anonymous_id, is_anonymous=True)
        if observation.previous_id is not None and observation.previous_id != observation.user_id:
            if not self._is_known(observation, observation.previous_id):
                anonymous_ids.append(observation.previous_id)
            self._link(observation, observation.previous_id)
        states: list[IdentityState] = []
        for index, pipeline in enumerate(observation.pipelines):
            key = IdentityKey(
                observation.connection,
                observation.user_id or _only_id(observation),
                observation.user_id is None,
                pipeline,
            )
            state = self._known.get(key)
            if state is None:
                state = self._known[key] = IdentityState(observation.workspace, [], observation.at)
            state.anonymous_ids = _merge_ids(state.anonymous_ids, anonymous_ids)
            state.updated_at = max(state.updated_at, observation.at)
            if observation.previous_id is None:
                state.attributes = observation.attributes[index] if observation.attributes else "{}"
            states.append(state)
        if observation.previous_id is not None:  # other identities may have been merged into this one
            self._latest.clear()
        latest = _Latest(
            observation.user_id, observation.pipelines, observation.reaches, observation.claims, tuple(states)
        )
        self._latest[observation.connection, observation.anonymous_id] = latest

    def _link(self, observation: IdentityObservation, previous_id: str) -> None:
        """Merge the identities of the previous id into the user's."""
        assert observation.user_id is not None, "an alias has a user id"
        if observation.only_if_unclaimed and self._is_known(observation, observation.user_id):
            return
        for is_anonymous in (True,) if observation.only_if_unclaimed else (True, False):
            for previous, state in self._take(observation, previous_id, is_anonymous=is_anonymous):
                key = IdentityKey(observation.connection, observation.user_id, False, previous.pipeline)
                self._known[key] = _combine(self._known.get(key), state)

    def _take(
        self, observation: IdentityObservation, id_: str, *, is_anonymous: bool
    ) -> list[tuple[IdentityKey, IdentityState]]:
        """Delete an id's identities, which the user's replace, from every pipeline in reach. Return those that were
        known."""
        assert observation.user_id is not None, "only a user takes identities"
        taken: list[tuple[IdentityKey, IdentityState]] = []
        for pipeline in observation.reaches:
            key = IdentityKey(observation.connection, id_, is_anonymous, pipeline)
            self._replace(key, IdentityKey(observation.connection, observation.user_id, False, pipeline))
            if (state := self._known.get(key)) is not None:
                taken.append((key, state))
                self._known[key] = None
        return taken

    def _replace(self, key: IdentityKey, successor: IdentityKey) -> None:
        count = self._removals.get(key, 0)
        if count and key.is_anonymous:  # it succeeded no other, and was not stored
            return
        self._removals[key] = count + 1
        self._successors[key, count] = successor, self._removals.get(successor, 0)

    def _is_known(self, observation: IdentityObservation, user_id: str) -> bool:
        return any(
            self._known.get(IdentityKey(observation.connection, user_id, False, pipeline)) is not None
            for pipeline in observation.reaches
        )


def _combine(user: IdentityState | None, previous: IdentityState) -> IdentityState:
    """Return the attributes of a user merged with those of a previous identity. The user's take precedence.

    If the result exceeded MAX_ATTRIBUTES_BYTES, it is the user's attributes alone.
    """
    if user is None:
        return previous
    ids = _merge_ids(user.anonymous_ids, previous.anonymous_ids)
    members = _members(previous.attributes)
    members |= {name: value for name, value in _members(user.attributes).items() if not is_absent(value)}
    attributes = msgspec.json.encode(members).decode()
    if not attributes_fit(attributes):
        attributes = user.attributes
    return IdentityState(user.workspace, ids, max(user.updated_at, previous.updated_at), attributes)


def attributes_fit(attributes: str) -> bool:
    """Return whether the attributes, a JSON object, have at most MAX_ATTRIBUTES_BYTES."""
    if 4 * len(attributes) <= MAX_ATTRIBUTES_BYTES:
        return True
    return len(attributes) <= MAX_ATTRIBUTES_BYTES and len(attributes.encode()) <= MAX_ATTRIBUTES_BYTES


def _merge_ids(known: list[str], new: list[str]) -> list[str]:
    """Return the ids of both lists without duplicates, limited to the latest. It may be `known` itself."""
    added = [id_ for id_ in new if id_ not in known]
    return [*known, *added][-MAX_ANONYMOUS_IDS:] if added else known


_members = msgspec.json.Decoder(dict[str, Raw]).decode


def _only_id(observation: IdentityObservation) -> str:
    assert observation.anonymous_id is not None, "a sighting has at least one id"
    return observation.anonymous_id
