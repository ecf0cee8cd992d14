"""The dummy's customers: ten initially, in memory, lost when the process ends; and any number of generated ones."""

from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from headwater.connectors.contract import SourceUser
from headwater.schemas import Record

MAX_CUSTOMERS: Final = 100_000
_CREATED_AT: Final = datetime(2026, 1, 1, tzinfo=UTC)

_PEOPLE: Final = (
    ("Ada", "Lovelace", "tea", "Metropolis", ("12 St James's Square", "SW1Y 4JH", "London")),
    ("Alan", "Turing", "beer", None, ("78 High Street", "SK9 5AA", "Wilmslow")),
    ("Grace", "Hopper", "water", "Contact", ("1 Wall Street", "10005", "New York")),
    ("Katherine", "Johnson", "tea", "Hidden Figures", ("5 Dock Road", "23669", "Hampton")),
    ("Edsger", "Dijkstra", "wine", None, ("Plantage 3", "1018", "Amsterdam")),
    ("Margaret", "Hamilton", "water", "Apollo 13", None),
    ("Donald", "Knuth", None, "Fantasia", ("353 Serra Mall", "94305", "Stanford")),
    ("Barbara", "Liskov", "wine", None, ("32 Vassar Street", "02139", None)),
    ("Plato", None, "wine", None, ("Academy Grove", "10441", "Athens")),
    ("Hedy", "Lamarr", "water", "Algiers", ("Ring 17", "1010", "Vienna")),
)


class Customers:
    """The users of the application, in the order in which they were created."""

    def __init__(self) -> None:
        self._users = [_user(number, *person) for number, person in enumerate(_PEOPLE, start=1)]
        self._positions = {user.id: position for position, user in enumerate(self._users)}
        self._created: dict[str, str] = {}
        """The ids of created customers by idempotency key."""

    def after(self, position: int, maximum: int) -> tuple[list[SourceUser], int]:
        """Return at most `maximum` customers from the one at `position`, and the number of those that follow them."""
        page = self._users[position : position + maximum]
        return page, max(0, len(self._users) - position - len(page))

    def write(self, id_: str, attributes: Record, key: str, now: datetime) -> str | None:
        """Update a customer, or create one if `id_` is empty, once for each key. Return its id; None if it does not
        exist.

        None is also returned when there are `MAX_CUSTOMERS` already.
        """
        id_ = id_ or self._created.get(key, "")
        if not id_:
            return self._create(attributes, key, now)
        position = self._positions.get(id_)
        if position is None:
            return None
        user = self._users[position]
        merged = {**user.attributes, **_readable(attributes)}
        self._users[position] = msgspec.structs.replace(user, attributes=merged, updated_at=now)
        return id_

    def _create(self, attributes: Record, key: str, now: datetime) -> str | None:
        if len(self._users) >= MAX_CUSTOMERS:
            return None
        id_ = f"dummy{len(self._users) + 1}"
        record: Record = {**_EMPTY, **_readable(attributes), "dummyId": id_}
        self._users.append(SourceUser(id=id_, attributes=record, updated_at=now))
        self._positions[id_] = len(self._users) - 1
        self._created[key] = id_
        return id_


def generate(number: int) -> SourceUser:
    """Return a generated customer. It is always the same for a number, which is 1 or more, and cannot be written."""
    first_name, last_name, drink, movie, address = _PEOPLE[number % len(_PEOPLE)]
    user = _user(number, first_name, last_name, drink, movie, address)
    id_ = f"generated{number}"
    attributes = {**user.attributes, "dummyId": id_, "email": f"{first_name.lower()}.{number}@example.com"}
    return SourceUser(id=id_, attributes=attributes, updated_at=_CREATED_AT + timedelta(seconds=number))


_EMPTY: Final[Record] = {
    "email": "",
    "firstName": "",
    "lastName": None,
    "fullName": "",
    "favouriteDrink": None,
    "address": None,
}


def _readable(attributes: Record) -> Record:
    """Return the attributes that can be read again."""
    return {name: value for name, value in attributes.items() if name != "additionalProperties"}


def _user(
    number: int,
    first_name: str,
    last_name: str | None,
    drink: str | None,
    movie: str | None,
    address: tuple[str, str, str | None] | None,
) -> SourceUser:
    record: Record = {
        "dummyId": f"dummy{number}",
        "email": f"{first_name.lower()}@example.com",
        "firstName": first_name,
        "lastName": last_name,
        "fullName": " ".join(filter(None, (first_name, last_name))),
        "favouriteDrink": drink,
        "address": None if address is None else dict(zip(("street", "postal_code", "city"), address, strict=True)),
    }
    if movie is not None:  # the only property that may be missing
        record["favourite_movie"] = movie
    return SourceUser(id=f"dummy{number}", attributes=record, updated_at=_CREATED_AT)
