"""What differs between databases when a filter becomes SQL, and what the columns of a warehouse hold.

| kind            | SQLite                                                | PostgreSQL                        |
| --------------- | ----------------------------------------------------- | --------------------------------- |
| string          | TEXT                                                  | varchar, text                     |
| uuid, ip        | TEXT, canonical                                       | uuid, inet                        |
| boolean         | INTEGER, 0 or 1                                       | boolean                           |
| int, year       | INTEGER; unsigned of 64 bits as decimal               | smallint to bigint; numeric(20,0) |
| float           | REAL (NaN cannot be held, it becomes NULL)            | real, double precision            |
| decimal         | TEXT: its digits without exponent and needless zeros  | numeric                           |
| datetime        | INTEGER, microseconds since 1970 in UTC               | timestamp                         |
| date            | TEXT, YYYY-MM-DD                                      | date                              |
| time            | TEXT, as the codec writes it, to the microsecond      | time                              |
| array           | TEXT, as the codec writes it                          | an array of the element's type    |
| map             | TEXT, as the codec writes it                          | jsonb                             |
| object          | one column for each property in it, and none itself   | the same                          |

SQLite has no exact numbers beyond 64 bits, hence the digits as text. Both hold moments to the microsecond.
"""

from typing import Any, Final, Literal, Protocol

from headwater.filters.literals import Scalar
from headwater.schemas import ArrayType, DateTime, Time, Type

Symbol = Literal["=", "<", "<=", ">", ">="]

FALSE: Final = "FALSE"
TRUE: Final = "TRUE"

MAX_INT64: Final = 2**63 - 1


class Parameters(dict[str, Any]):
    """The values that a statement takes, by the names of its placeholders."""

    def __init__(self, prefix: str) -> None:
        super().__init__()
        self._prefix = prefix

    def add(self, value: object) -> str:
        """A placeholder for the value: `:f0`, which `sqlite3` and SQLAlchemy's `text` understand."""
        name = f"{self._prefix}{len(self)}"
        self[name] = value
        return f":{name}"


class Dialect(Protocol):
    """How one database says what conditions say. `column` is SQL; nothing here has to hold for a column that is NULL,
    where every answer may be NULL too."""

    def compare(self, column: str, symbol: Symbol, type: Type, value: Scalar, parameters: Parameters) -> str:
        """The column compared with the value, as the values of the type compare in Python."""

    def one_of(self, column: str, type: Type, values: tuple[Scalar, ...], parameters: Parameters) -> str:
        """The column is equal to one of the values."""

    def text_contains(self, column: str, text: str, parameters: Parameters) -> str:
        """The text is somewhere in the column."""

    def starts_with(self, column: str, text: str, parameters: Parameters) -> str:
        """The column begins with the text."""

    def ends_with(self, column: str, text: str, parameters: Parameters) -> str:
        """The column ends with the text."""

    def array_contains(self, column: str, type: ArrayType, value: Scalar, parameters: Parameters) -> str:
        """An element of the column is equal to the value."""

    def is_empty(self, column: str, type: Type) -> str:
        """The column is the empty text, array or map."""


def to_microseconds(symbol: Symbol, value: DateTime | Time) -> tuple[Symbol, int] | None:
    """A comparison of whole microseconds that means the same; None when it is with `=` and never holds."""
    microseconds, rest = divmod(value.nanoseconds, 1000)
    if not rest:
        return symbol, microseconds
    if symbol == "=":
        return None
    return ("<=" if symbol in ("<", "<=") else ">"), microseconds
