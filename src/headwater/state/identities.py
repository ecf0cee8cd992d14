"""How events become identities: an identity is one person as one pipeline sees them.

The rules: an event with a user id is a sighting of that user, who then also owns the event's anonymous id, and the
anonymous identities of that id disappear from every pipeline of the connection. An event without a user id is a
sighting of an anonymous identity. A sighting moves `updated_at` forward, never back; the stored time may be up to a
minute old.

An alias joins the identities of a user's previous id, anonymous or not, with those of the user in every pipeline of the
connection, whatever its filter: it says who somebody is, and nothing of what is known about them."""

from collections.abc import Iterable
from datetime import datetime
from typing import Final

import msgspec
from msgspec import Raw, Struct

from headwater.events.raw import is_absent

MAX_ANONYMOUS_IDS: Final = 1_000
"""How many anonymous ids of an identity are kept, the latest. Whoever has more is no person but a login that is shared,
or a client's defect, and every event of theirs would cost more than the one before."""


MAX_ATTRIBUTES_BYTES: Final = 256 * 1024
"""Size of the attributes of an identity, as JSON in UTF-8. A pipeline that makes larger ones of an event has failed for
that event; `attributes_fit` tells."""


MAX_UPDATE_DELAY_MICROSECONDS: Final = 60_000_000
"""How far the stored `updated_at` may be behind the latest event of an identity. An event that changes nothing but the
time by less than this writes nothing: most events are of people who were seen a moment before."""


class IdentityObservation(Struct, frozen=True):
    """A person seen in an event of a source connection."""

    workspace: int
    connection: int
    pipelines: tuple[int, ...]
    """Those that see the person; an alias links in all that it `reaches`."""
    user_id: str | None
    anonymous_id: str | None
    """At least one of the two ids is there."""
    at: int
    """When, in microseconds since the epoch."""
    attributes: tuple[str, ...] = ()
    """What each of the pipelines knows of the person, a JSON object each; none at all when no pipeline transforms."""
    previous_id: str | None = None
    """The id that the user had before. Only an alias says one, and an alias has a user id."""
    is_once: bool = False
    """Whether the alias changes nothing where the user is known already, or nobody is known by the previous id: then
    it is seen by no pipeline, and the previous id is anonymous."""
    reaches: tuple[int, ...] = ()
    """The pipelines of the connection in which a claim or an alias has effect. Pipelines that work through a lane learn
    of it from their lane, in its order (`headwater.state.lanes`)."""
    claims: bool = True
    """Whether the user owns the anonymous id from now on: an event that every pipeline filtered out claims nothing."""


class IdentityKey(Struct, frozen=True):
    """What makes an identity the same identity."""

    connection: int
    identity_id: str
    is_anonymous: bool
    pipeline: int


class IdentityState(Struct):
    """What is known of an identity."""

    workspace: int
    anonymous_ids: list[str]
    updated_at: int
    attributes: str = "{}"
    """A JSON object, as the pipeline's latest event left it."""


class Identity(Struct, frozen=True):
    """An identity as it is listed."""

    user_id: str | None
    """None for an anonymous identity."""
    anonymous_ids: list[str]
    connection: int
    pipeline: int
    updated_at: datetime
    id: int = 0
    """Identifies the row, and orders identities of the same time."""


class IdentityCursor(Struct, frozen=True, array_like=True):
    """A place in a list of identities: after this time, in microseconds since the epoch, and id."""

    updated_at: int
    id: int


Identities = dict[IdentityKey, IdentityState | None]
"""Identities by their key; None for one that is not, or no longer, there."""


class IdentityChanges(Struct, frozen=True):
    """What sightings lead to."""

    gone: set[IdentityKey]
    """Who is to be removed, before anybody is written."""
    changed: dict[IdentityKey, IdentityState]
    """Who is to be written."""


def keys_of(observations: Iterable[IdentityObservation]) -> list[IdentityKey]:
    """Every identity that these sightings can change, in the order of first sight: so new rows are made in it too."""
    keys: dict[IdentityKey, None] = {}
    for seen in observations:
        for pipeline in seen.pipelines:
            if seen.user_id is not None:
                keys[IdentityKey(seen.connection, seen.user_id, False, pipeline)] = None
            else:
                keys[IdentityKey(seen.connection, _only_id(seen), True, pipeline)] = None
    return list(keys)


def ids_of(observations: Iterable[IdentityObservation]) -> set[tuple[int, str]]:
    """The connections and ids whose identities in every pipeline these sightings can change."""
    return {
        (seen.connection, id_)
        for seen in observations
        if seen.previous_id is not None
        for id_ in (seen.previous_id, seen.user_id)
        if id_ is not None
    }


def is_worth_a_write(before: IdentityState | None, after: IdentityState) -> bool:
    """Return whether a stored identity differs from its changed state by more than a time that moved a little."""
    return (
        before is None
        or after.updated_at - before.updated_at >= MAX_UPDATE_DELAY_MICROSECONDS
        or after.anonymous_ids != before.anonymous_ids
        or after.attributes != before.attributes
        or after.workspace != before.workspace
    )


def merge(observations: Iterable[IdentityObservation], known: Identities) -> set[IdentityKey]:
    """Bring `known` up to date with the sightings in their order.

    It holds every key of `keys_of(sightings)`, and every identity of `ids_of(sightings)`. Returns who is gone: from
    `known`, unless seen again, and the caller removes those that it does not hold.
    """
    merging = _Merging(known)
    for seen in observations:
        merging.see(seen)
    return merging.gone


class _Latest(Struct, frozen=True):
    """Who was last seen with an anonymous id, by which pipelines, and what they know."""

    user_id: str | None = None
    pipelines: tuple[int, ...] = ()
    reaches: tuple[int, ...] = ()
    claims: bool = True
    states: tuple[IdentityState, ...] = ()


_NOBODY: Final = _Latest()


class _Merging:
    def __init__(self, known: Identities) -> None:
        self.gone: set[IdentityKey] = set()
        self._known = known
        self._latest: dict[tuple[int, str | None], _Latest] = {}
        """By connection and anonymous id."""

    def see(self, seen: IdentityObservation) -> None:
        if not self._is_seen_again(seen):
            self._see(seen)

    def _is_seen_again(self, seen: IdentityObservation) -> bool:
        """Whether the same was seen the last time, as in most events: then only the time is new, and is noted here."""
        latest = self._latest.get((seen.connection, seen.anonymous_id), _NOBODY)
        if latest.user_id != seen.user_id or latest.pipelines != seen.pipelines or latest.reaches != seen.reaches:
            return False
        if latest.claims != seen.claims or seen.previous_id is not None or seen.attributes:
            return False
        for state in latest.states:
            if len(state.anonymous_ids) >= MAX_ANONYMOUS_IDS:  # the id may have been pushed out since
                return False
        for state in latest.states:
            state.updated_at = max(state.updated_at, seen.at)
            state.attributes = "{}"
        return True

    def _see(self, seen: IdentityObservation) -> None:
        anonymous_ids = [] if seen.anonymous_id is None else [seen.anonymous_id]
        if seen.claims and seen.user_id is not None and seen.anonymous_id is not None:
            self._take(seen, seen.anonymous_id, is_anonymous=True)
        if seen.previous_id is not None and seen.previous_id != seen.user_id:
            if not self._is_known(seen, seen.previous_id):
                anonymous_ids.append(seen.previous_id)
            self._link(seen, seen.previous_id)
        states: list[IdentityState] = []
        for index, pipeline in enumerate(seen.pipelines):
            key = IdentityKey(seen.connection, seen.user_id or _only_id(seen), seen.user_id is None, pipeline)
            state = self._known.get(key)
            if state is None:
                state = self._known[key] = IdentityState(seen.workspace, [], seen.at)
            state.anonymous_ids = _joined(state.anonymous_ids, anonymous_ids)
            state.updated_at = max(state.updated_at, seen.at)
            if seen.previous_id is None:
                state.attributes = seen.attributes[index] if seen.attributes else "{}"
            states.append(state)
        if seen.previous_id is not None:  # others may have become this one
            self._latest.clear()
        latest = _Latest(seen.user_id, seen.pipelines, seen.reaches, seen.claims, tuple(states))
        self._latest[seen.connection, seen.anonymous_id] = latest

    def _link(self, seen: IdentityObservation, previous_id: str) -> None:
        """Join the identities of the previous id with the user's."""
        assert seen.user_id is not None, "an alias has a user id"
        if seen.is_once and self._is_known(seen, seen.user_id):
            return
        for is_anonymous in (True,) if seen.is_once else (True, False):
            for previous, state in self._take(seen, previous_id, is_anonymous=is_anonymous):
                key = IdentityKey(seen.connection, seen.user_id, False, previous.pipeline)
                self._known[key] = _united(self._known.get(key), state)

    def _take(
        self, seen: IdentityObservation, id_: str, *, is_anonymous: bool
    ) -> list[tuple[IdentityKey, IdentityState]]:
        """Make an id's identities disappear from every pipeline in reach; returns those that were known."""
        taken: list[tuple[IdentityKey, IdentityState]] = []
        for pipeline in seen.reaches:
            key = IdentityKey(seen.connection, id_, is_anonymous, pipeline)
            self.gone.add(key)
            if (state := self._known.get(key)) is not None:
                taken.append((key, state))
                self._known[key] = None
        return taken

    def _is_known(self, seen: IdentityObservation, user_id: str) -> bool:
        return any(
            self._known.get(IdentityKey(seen.connection, user_id, False, pipeline)) is not None
            for pipeline in seen.reaches
        )


def _united(user: IdentityState | None, previous: IdentityState) -> IdentityState:
    """What is known of a user who had another identity before: what both know is as the user has it. If both together
    would be larger than MAX_ATTRIBUTES_BYTES, only what the user has."""
    if user is None:
        return previous
    ids = _joined(user.anonymous_ids, previous.anonymous_ids)
    members = _members(previous.attributes)
    members |= {name: value for name, value in _members(user.attributes).items() if not is_absent(value)}
    attributes = msgspec.json.encode(members).decode()
    if not attributes_fit(attributes):
        attributes = user.attributes
    return IdentityState(user.workspace, ids, max(user.updated_at, previous.updated_at), attributes)


def attributes_fit(attributes: str) -> bool:
    """Whether the attributes, a JSON object, have at most MAX_ATTRIBUTES_BYTES."""
    if 4 * len(attributes) <= MAX_ATTRIBUTES_BYTES:
        return True
    return len(attributes) <= MAX_ATTRIBUTES_BYTES and len(attributes.encode()) <= MAX_ATTRIBUTES_BYTES


def _joined(known: list[str], new: list[str]) -> list[str]:
    """The ids of both, each once, and of too many the latest."""
    return [*known, *(id_ for id_ in new if id_ not in known)][-MAX_ANONYMOUS_IDS:]


_members = msgspec.json.Decoder(dict[str, Raw]).decode


def _only_id(seen: IdentityObservation) -> str:
    assert seen.anonymous_id is not None, "a sighting has at least one id"
    return seen.anonymous_id
