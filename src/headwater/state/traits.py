"""How the traits that the client API says of people add up.

Its calls say what changes: a trait that is not said stays, one that is null is cleared, and others are replaced as a
whole. So what a source knows of a person is kept here, beside the identities, which are what pipelines make of it. The
traits of somebody anonymous become those of a user who appears with both ids, or in an alias, if the user has none.
"""

from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import Raw, Struct
from sqlalchemy.ext.asyncio import AsyncConnection

from headwater.state import bulk, tables

MAX_TRAITS_BYTES: Final = 64 * 1024
"""How much is kept of a person. What is said when it becomes more replaces all that was said before."""
MAX_MERGED_BYTES: Final = 32 * 1024 * 1024
"""How much is told of people in one batch: a thousand small calls may be about one person of whom much is known."""

_COLUMNS: Final = list(tables.traits.c)
_KEY: Final = ("connection", "identity_id", "is_anonymous")

PersonKey = tuple[int, str, bool]
"""A connection, an id there, and whether it is anonymous."""
Traits = dict[str, Raw]


class TraitsUpdate(Struct, frozen=True):
    """What an event of the client API says of a person."""

    connection: int
    user_id: str | None
    anonymous_id: str | None
    traits: Raw
    previous_id: str | None = None
    """The anonymous id that the user had before, in an alias, which says nothing else."""

    @property
    def user(self) -> PersonKey | None:
        """The person as a user."""
        return None if self.user_id is None else (self.connection, self.user_id, False)

    @property
    def anonymous(self) -> PersonKey | None:
        """The person as somebody anonymous, now or before."""
        id_ = self.previous_id or self.anonymous_id
        return None if id_ is None else (self.connection, id_, True)

    @property
    def person(self) -> PersonKey | None:
        """The person, as a user where that is known; None when it names nobody."""
        return self.user or self.anonymous


async def merge(connection: AsyncConnection, updates: Sequence[TraitsUpdate]) -> list[Raw]:
    """Add up what is said, in its order; returns what is known of each person from then on.

    When that becomes more than `MAX_TOLD_BYTES`, only the last of what is said of each person comes with all that is
    known; of the others there is what they say themselves.
    """
    keys = {key for update in updates for key in (update.user, update.anonymous) if key is not None}
    columns = [tables.traits.c[name] for name in _KEY]
    before: dict[PersonKey, Traits] = {}
    for source, id_, is_anonymous, traits in await bulk.lookup(connection, _COLUMNS, columns, keys):
        before[source, id_, bool(is_anonymous)] = _members(traits)
    known = dict(before)
    merged = add_all(updates, known)
    await bulk.remove(connection, columns, before.keys() - known.keys())
    rows = [
        (*key, msgspec.json.encode(traits).decode()) for key, traits in known.items() if traits is not before.get(key)
    ]
    await bulk.upsert(connection, _COLUMNS, rows, key=_KEY)
    return merged


def add_all(updates: Sequence[TraitsUpdate], known: dict[PersonKey, Traits]) -> list[Raw]:
    """Add what is said to what is known of people; returns what `merge` does."""
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
    """Add what is said to what is known of people; returns what is known of this person then."""
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
