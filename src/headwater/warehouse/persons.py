"""Decides which events belong to given persons."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from headwater.warehouse.contract import Person

_Connections = frozenset[int] | None
"""Source connections; None for any."""
_NO_CONNECTIONS: Final[frozenset[int]] = frozenset()


class PersonSet:
    """Persons by their ids, for decisions about many events."""

    def __init__(self, persons: Iterable[Person]) -> None:
        self._users: dict[str, _Connections] = {}
        self._anonymous: dict[str, _Connections] = {}
        for person in persons:
            if person.user_id is not None:
                _add(self._users, person.user_id, person.connection)
            elif person.anonymous_id is not None:
                _add(self._anonymous, person.anonymous_id, person.connection)
        self.user_ids: Final = frozenset(self._users)
        self.anonymous_ids: Final = frozenset(self._anonymous)

    def pairs(self, *, anonymous: bool) -> Iterator[tuple[int | None, str]]:
        """Yield each connection, None for any, with each user id or anonymous id."""
        ids: Mapping[str, _Connections] = self._anonymous if anonymous else self._users
        for id, connections in ids.items():
            if connections is None:
                yield None, id
            else:
                for connection in sorted(connections):
                    yield connection, id

    def __bool__(self) -> bool:
        return bool(self.user_ids or self.anonymous_ids)

    def __len__(self) -> int:
        return len(self.user_ids) + len(self.anonymous_ids)

    def has(self, connection: int, user_id: str | None, anonymous_id: str | None) -> bool:
        """Return whether an event of this connection with these ids belongs to one of the persons."""
        if user_id is not None:
            connections = self._users.get(user_id, _NO_CONNECTIONS)
        elif anonymous_id is not None:
            connections = self._anonymous.get(anonymous_id, _NO_CONNECTIONS)
        else:
            return False
        return connections is None or connection in connections


def _add(ids: dict[str, _Connections], id: str, connection: int | None) -> None:
    known = ids.get(id, _NO_CONNECTIONS)
    ids[id] = None if connection is None or known is None else known | {connection}
