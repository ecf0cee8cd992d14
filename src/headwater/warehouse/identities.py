"""How events become identities: an identity is one person as one pipeline sees them.

The rules: an event with a user id is a sighting of that user, who then also owns the event's anonymous id, and the
anonymous identities of that id disappear from every pipeline of the connection. An event without a user id is a
sighting of an anonymous identity. A sighting moves `updated_at` forward, never back."""

from collections.abc import Iterable
from datetime import datetime

from msgspec import Struct


class Sighting(Struct, frozen=True):
    """A person seen in an event of a source connection."""

    workspace: int
    connection: int
    pipelines: tuple[int, ...]
    """The enabled User pipelines of the connection."""
    user_id: str | None
    anonymous_id: str | None
    """At least one of the two ids is there."""
    at: int
    """When, in microseconds since the epoch."""
    attributes: tuple[str, ...] = ()
    """What each of the pipelines knows of the person, a JSON object each; none at all when no pipeline transforms."""


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


Identities = dict[IdentityKey, IdentityState | None]
"""Identities by their key; None for one that is not, or no longer, there."""


def keys_of(sightings: Iterable[Sighting]) -> list[IdentityKey]:
    """Every identity that these sightings can change, in the order of first sight: so new rows are made in it too."""
    keys: dict[IdentityKey, None] = {}
    for seen in sightings:
        for pipeline in seen.pipelines:
            if seen.user_id is not None:
                keys[IdentityKey(seen.connection, seen.user_id, False, pipeline)] = None
            else:
                keys[IdentityKey(seen.connection, _only_id(seen), True, pipeline)] = None
    return list(keys)


def merge(sightings: Iterable[Sighting], known: Identities) -> set[tuple[int, str]]:
    """Bring `known`, which holds every key of `keys_of(sightings)`, up to date with the sightings in their order.

    Returns the (connection, anonymous id) pairs whose anonymous identities belong to a user now. They are gone from
    `known`; the caller removes them from the pipelines that `known` does not hold.
    """
    anonymous: dict[tuple[int, str], list[IdentityKey]] = {}
    for key in known:
        if key.is_anonymous:
            anonymous.setdefault((key.connection, key.identity_id), []).append(key)
    claimed = set()
    for seen in sightings:
        if seen.user_id is not None and seen.anonymous_id is not None:
            claim = (seen.connection, seen.anonymous_id)
            claimed.add(claim)
            known.update(dict.fromkeys(anonymous.get(claim, ())))
        for index, pipeline in enumerate(seen.pipelines):
            key = IdentityKey(seen.connection, seen.user_id or _only_id(seen), seen.user_id is None, pipeline)
            _see(known, key, seen, seen.attributes[index] if seen.attributes else "{}")
    return claimed


def _see(known: Identities, key: IdentityKey, seen: Sighting, attributes: str) -> None:
    state = known.get(key)
    if state is None:
        state = known[key] = IdentityState(seen.workspace, [], seen.at)
    if seen.anonymous_id is not None and seen.anonymous_id not in state.anonymous_ids:
        state.anonymous_ids.append(seen.anonymous_id)
    state.updated_at = max(state.updated_at, seen.at)
    state.attributes = attributes


def _only_id(seen: Sighting) -> str:
    assert seen.anonymous_id is not None, "a sighting has at least one id"
    return seen.anonymous_id
