"""The dummy's customers: ten of them, in memory, gone with the process."""

from typing import Final

from headwater.schemas import Record

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
    """The users of the application, in the order in which they were made."""

    def __init__(self) -> None:
        self._records = [_record(number, *person) for number, person in enumerate(_PEOPLE, start=1)]

    def after(self, position: int, most: int) -> tuple[list[Record], int]:
        """At most `most` customers from the one at `position`, and how many come after these."""
        page = self._records[position : position + most]
        return list(page), max(0, len(self._records) - position - len(page))


def _record(
    number: int,
    first_name: str,
    last_name: str | None,
    drink: str | None,
    movie: str | None,
    address: tuple[str, str, str | None] | None,
) -> Record:
    record: Record = {
        "dummyId": f"dummy{number}",
        "email": f"{first_name.lower()}@example.com",
        "firstName": first_name,
        "lastName": last_name,
        "fullName": " ".join(filter(None, (first_name, last_name))),
        "favouriteDrink": drink,
        "address": None if address is None else dict(zip(("street", "postal_code", "city"), address, strict=True)),
    }
    if movie is not None:  # the one property that may be missing
        record["favourite_movie"] = movie
    return record
