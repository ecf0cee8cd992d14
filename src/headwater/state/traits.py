"""Merges the traits in calls of the client API.

These calls contain changes: an absent trait is kept, a null trait is deleted, and any other trait is replaced as a
whole. So the traits that each source has sent for a person are stored here, separately from the identities that
pipelines derive from them. The traits of an anonymous person become those of a user who appears with both ids, or in an
alias, if the user has none.
"""

from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import Raw, Struct
from sqlalchemy import Connection

from headwater.state import bulk, tables

MAX_TRAITS_BYTES: Final = 64 * 1024
"""Maximum size of a person's stored traits. An update that exceeds it replaces the stored traits."""
MAX_MERGED_BYTES: Final = 32 * 1024 * 1024
"""Maximum total size of merged traits returned per batch: thousands of small calls may be about one large person."""

_COLUMNS: Final = list(tables.traits.c)
_KEY: Final = ("connection", "identity_id", "is_anonymous")

PersonKey = tuple[int, str, bool]
"""A connection, an id there, and whether it is anonymous."""
Traits = dict[str, Raw]


class TraitsUpdate(Struct, frozen=True):
    """A traits update by an event of the client API."""

    connection: int
    user_id: str | None
    anonymous_id: str | None
    traits: Raw
    previous_id: str | None = None
    """The previous anonymous id of the user in an alias, which contains no traits."""

    @property
    def user(self) -> PersonKey | None:
        """The key of the person as a user."""
        return None if self.user_id is None else (self.connection, self.user_id, False)

    @property
    def anonymous(self) -> PersonKey | None:
        """The key of the person as an anonymous visitor, now or before."""
        id_ = self.previous_id or self.anonymous_id
        return None if id_ is None else (self.connection, id_, True)

    @property
    def person(self) -> PersonKey | None:
        """The key of the person, as a user if known; None if the event names no person."""
        return self.user or self.anonymous


def merge(connection: Connection, updates: Sequence[TraitsUpdate]) -> list[Raw]:
    """Apply updates to the stored traits, in their order. Return the traits of each person after each update.

    If that exceeds `MAX_MERGED_BYTES`, only the last update of each person returns the merged traits. The others return
    their own traits.
    """
    keys = {key for update in updates for key in (update.user, update.anonymous) if key is not None}
    columns = [tables.traits.c[name] for name in _KEY]
    before: dict[PersonKey, Traits] = {}
    for source, id_, is_anonymous, traits in bulk.lookup(connection, _COLUMNS, columns, keys):
        before[source, id_, bool(is_anonymous)] = _members(traits)
    known = dict(before)
    merged = add_all(updates, known)
    bulk.remove(connection, columns, before.keys() - known.keys())
    rows = [
        (*key, msgspec.json.encode(traits).decode()) for key, traits in known.items() if traits is not before.get(key)
    ]
    bulk.upsert(connection, _COLUMNS, rows, key=_KEY)
    return merged


def add_all(updates: Sequence[TraitsUpdate], known: dict[PersonKey, Traits]) -> list[Raw]:
    """Apply updates to known traits. Returns the same as `merge`."""
    last = {update.person: index for index, update in enumerate(updates) if update.previous_id is None}
    told: list[Raw] = []
    left = MAX_MERGED_BYTES
    for index, update in enumerate(updates):
        traits = add(update, known)
        if left <= 0 and last.get(update.person) != index:
            traits = update.traits
        left -= len(traits)
        told.append(traits)
    return told


def add(update: TraitsUpdate, known: dict[PersonKey, Traits]) -> Raw:
    """Apply one update to known traits. Return the traits of the person after it."""
    user, anonymous = update.user, update.anonymous
    if update.previous_id is not None:
        if user is not None and anonymous in known and user not in known:
            known[user] = known.pop(anonymous)
        return update.traits
    person = update.person
    if person is None:
        return update.traits
    if user is not None and anonymous is not None:
        former = known.pop(anonymous, None)
        if former is not None:
            known.setdefault(user, former)
    said = _members(update.traits)
    if said:
        known[person] = known.get(person, {}) | said
    text = msgspec.json.encode(known.get(person, {}))
    if len(text) > MAX_TRAITS_BYTES:
        known[person] = said
        return update.traits
    return Raw(text)


_members = msgspec.json.Decoder(Traits).decode
