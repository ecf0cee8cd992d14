"""The syntax tree of mapping expressions: what was written, before anything is known about schemas.

Trees are immutable. Positions are kept for messages but do not count when trees are compared, and neither does how
something was written: `a["b"]` is `a.b`, and `'A' 'B'` is `'AB'`.
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
    """A string, number, boolean or null that stands in the expression."""

    value: str | bool | int | Decimal | None
    type: StringType | BooleanType | IntType | DecimalType | None
    """None for null, which is of no type."""
    offset: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Step:
    """One element of a path: a property name or key."""

    name: str
    optional: bool = False
    """Marked with `?`: asking it of something that has no keys gives null."""
    offset: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class PathReference:
    """What the record has at a path: at least one step, the first of them a property name."""

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
    """Two or more parts whose texts are joined. None is a concatenation, and no two neighbours are string constants."""

    parts: tuple["Constant | PathReference | Call", ...]
    offset: int = field(default=0, compare=False, repr=False)


Part = Constant | PathReference | Call
Expression = Part | Concatenation


def count_parts(expression: Expression) -> int:
    """How many constants, paths and calls there are."""
    match expression:
        case Concatenation():
            return sum(map(count_parts, expression.parts))
        case Call():
            return 1 + sum(map(count_parts, expression.arguments))
        case _:
            return 1
