"""The syntax tree of mapping expressions, independent of schemas.

Trees are immutable. Positions are kept for messages but ignored in comparisons. Equivalent forms give equal trees:
`a["b"]` is `a.b`, and `'A' 'B'` is `'AB'`.
"""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from headwater.schemas import BooleanType, DecimalType, IntType, StringType

KEYWORDS: Final[dict[str, bool | None]] = {"true": True, "false": False, "null": None}

STRING: Final = StringType()
BOOLEAN: Final = BooleanType()
INT32: Final = IntType(32)
NUMBER: Final = DecimalType(76, 37)
"""The type of number constants that are not whole numbers of 32 bits."""


@dataclass(frozen=True, slots=True)
class Constant:
    """A string, number, boolean or null in the expression."""

    value: str | bool | int | Decimal | None
    type: StringType | BooleanType | IntType | DecimalType | None
    """None for null, which has no type."""
    offset: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Step:
    """One element of a path: a property name or key."""

    name: str
    optional: bool = False
    """Marked with `?`: a value without keys gives null."""
    offset: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class PathReference:
    """The value of the record at a path: at least one step, the first of them a property name."""

    steps: tuple[Step, ...]
    offset: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a function, which may not exist."""

    name: str
    arguments: tuple["Expression", ...]
    offset: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Concatenation:
    """Two or more parts whose texts are joined. No part is a concatenation, and no two string constants are
    adjacent."""

    parts: tuple["Constant | PathReference | Call", ...]
    offset: int = field(default=0, compare=False, repr=False)


Part = Constant | PathReference | Call
Expression = Part | Concatenation


def count_parts(expression: Expression) -> int:
    """Return the number of constants, paths and calls."""
    match expression:
        case Concatenation():
            return sum(map(count_parts, expression.parts))
        case Call():
            return 1 + sum(map(count_parts, expression.arguments))
        case _:
            return 1
