"""The 15 kinds of types, as immutable values that are valid after construction.

A type knows its constraints and checks them against each other. It neither reads JSON (`parsing`) nor converts values
(`codec`). Redundant constraints, such as a minimum that is the natural one, become None. So two types are equal exactly
if they accept the same values in the same way, apart from `description` and the like.
"""

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import ClassVar, Final, Literal, get_args

from headwater.schemas.decimals import fits, plain
from headwater.schemas.errors import InvalidType
from headwater.schemas.floats import to_float32
from headwater.schemas.names import is_property_name
from headwater.schemas.patterns import compile_pattern

Kind = Literal[
    "string", "boolean", "int", "float", "decimal", "datetime", "date", "time",
    "year", "uuid", "json", "ip", "array", "object", "map",
]  # fmt: skip
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
"""In the order of the documentation's tables."""

MAX_DEPTH: Final = 64
"""Maximum nesting of types. Functions on types recurse, and this limit keeps them within the stack."""
MAX_PROPERTIES: Final = 2_000
"""Properties of a schema of a pipeline, including those of nested objects. See `check_size`."""
MAX_TEXT_SIZE: Final = 2**32 - 1
"""Maximum of `max_length` and `max_bytes`."""
MAX_ELEMENTS: Final = 2**31 - 1
"""Maximum number of elements of any array."""
MAX_PRECISION: Final = 76
MAX_SCALE: Final = 37
MAX_FLOAT32: Final = (2 - 2**-23) * 2.0**127
MIN_YEAR: Final = 1
MAX_YEAR: Final = 9999

_INT_SIZES: Final = (8, 16, 24, 32, 64)
_FLOAT_SIZES: Final = (32, 64)


class _Scalar:
    """The common members of types that contain no other types."""

    __slots__ = ()
    kind: ClassVar[Kind]
    depth: ClassVar[int] = 1
    """Levels of nested types, including this one."""

    def __str__(self) -> str:
        return self.kind


@dataclass(frozen=True, slots=True)
class StringType(_Scalar):
    """Text: any Unicode except lone surrogates. With `values`, only these (an enumeration)."""

    kind: ClassVar[Kind] = "string"
    max_length: int | None = None
    """In code points."""
    max_bytes: int | None = None
    """In bytes of UTF-8."""
    pattern: str | None = None
    """A regular expression of RE2 that must match somewhere in the text."""
    values: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for key, size in (("maxLength", self.max_length), ("maxBytes", self.max_bytes)):
            if size is not None and not 1 <= size <= MAX_TEXT_SIZE:
                raise InvalidType(f"must be in the range 1 to {MAX_TEXT_SIZE}", key)
        if self.pattern is not None:
            _check_text("pattern", self.pattern)
            compile_pattern(self.pattern)
        if self.values is not None:
            if self.pattern is not None or self.max_length is not None or self.max_bytes is not None:
                raise InvalidType("cannot be combined with pattern, maxLength or maxBytes", "values")
            if not self.values:
                raise InvalidType("must have at least one element", "values")
            for index, value in enumerate(self.values):
                _check_text(f"values[{index}]", value)


@dataclass(frozen=True, slots=True)
class BooleanType(_Scalar):
    """True or false."""

    kind: ClassVar[Kind] = "boolean"


@dataclass(frozen=True, slots=True)
class IntType(_Scalar):
    """A whole number of `bit_size` bits."""

    kind: ClassVar[Kind] = "int"
    bit_size: int
    """8, 16, 24, 32 or 64."""
    unsigned: bool = False
    minimum: int | None = None
    maximum: int | None = None

    def __post_init__(self) -> None:
        if self.bit_size not in _INT_SIZES:
            raise InvalidType("must be 8, 16, 24, 32 or 64", "bitSize")
        low, high = self._natural
        for key, bound in (("minimum", self.minimum), ("maximum", self.maximum)):
            if bound is not None and not low <= bound <= high:
                raise InvalidType(f"must be in the range {low} to {high}", key)
        _check_order(*self.range)
        if self.minimum == low:
            object.__setattr__(self, "minimum", None)
        if self.maximum == high:
            object.__setattr__(self, "maximum", None)

    @property
    def _natural(self) -> tuple[int, int]:
        if self.unsigned:
            return 0, 2**self.bit_size - 1
        return -(2 ** (self.bit_size - 1)), 2 ** (self.bit_size - 1) - 1

    @property
    def range(self) -> tuple[int, int]:
        """Return the minimum and the maximum."""
        low, high = self._natural
        return low if self.minimum is None else self.minimum, high if self.maximum is None else self.maximum

    def __str__(self) -> str:
        return f"int({self.bit_size})"


@dataclass(frozen=True, slots=True)
class FloatType(_Scalar):
    """A binary floating point number (IEEE 754), including NaN and the infinities unless it is `real`.

    A bound is a comparison that must hold. Every comparison with NaN is false, so NaN is outside every bound.
    """

    kind: ClassVar[Kind] = "float"
    bit_size: int
    """32 or 64."""
    real: bool = False
    minimum: float | None = None
    maximum: float | None = None

    def __post_init__(self) -> None:
        if self.bit_size not in _FLOAT_SIZES:
            raise InvalidType("must be 32 or 64", "bitSize")
        highest = self.largest
        for key, bound in (("minimum", self.minimum), ("maximum", self.maximum)):
            if bound is not None and not -highest <= bound <= highest:
                raise InvalidType(f"must be a finite number of {self.bit_size} bits", key)
        if self.minimum is not None and self.maximum is not None:
            _check_order(self.minimum, self.maximum)
        object.__setattr__(self, "minimum", None if self.minimum in (None, -highest) else self._own(self.minimum))
        object.__setattr__(self, "maximum", None if self.maximum in (None, highest) else self._own(self.maximum))

    def _own(self, bound: float) -> float:
        """Return the bound as a value of this type, because a value with the same text could otherwise miss the bound.
        A negative zero, which equals zero but is written differently, becomes zero."""
        return (to_float32(bound) if self.bit_size == 32 else float(bound)) + 0.0

    @property
    def largest(self) -> float:
        """Return the largest finite number of this size."""
        return MAX_FLOAT32 if self.bit_size == 32 else _MAX_FLOAT64

    def __str__(self) -> str:
        return f"float({self.bit_size})"


@dataclass(frozen=True, slots=True)
class DecimalType(_Scalar):
    """An exact number of at most `precision` decimal digits, `scale` of them after the point."""

    kind: ClassVar[Kind] = "decimal"
    precision: int
    """1 to 76."""
    scale: int = 0
    """0 to 37, and at most the precision."""
    minimum: Decimal | None = None
    maximum: Decimal | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.precision <= MAX_PRECISION:
            raise InvalidType(f"must be in the range 1 to {MAX_PRECISION}", "precision")
        if not 0 <= self.scale <= min(MAX_SCALE, self.precision):
            raise InvalidType(f"must be in the range 0 to {MAX_SCALE} and not above the precision", "scale")
        low, high = self._natural
        for key, bound in (("minimum", self.minimum), ("maximum", self.maximum)):
            if bound is not None and not fits(bound, self.precision, self.scale):
                raise InvalidType(f"must be a {self}", key)
        _check_order(*self.range)
        object.__setattr__(self, "minimum", None if self.minimum in (None, low) else plain(self.minimum))
        object.__setattr__(self, "maximum", None if self.maximum in (None, high) else plain(self.maximum))

    @property
    def _natural(self) -> tuple[Decimal, Decimal]:
        digits = (9,) * self.precision
        return Decimal((1, digits, -self.scale)), Decimal((0, digits, -self.scale))

    @property
    def range(self) -> tuple[Decimal, Decimal]:
        """Return the minimum and the maximum."""
        low, high = self._natural
        return low if self.minimum is None else self.minimum, high if self.maximum is None else self.maximum

    def __str__(self) -> str:
        return f"decimal({self.precision},{self.scale})"


@dataclass(frozen=True, slots=True)
class DateTimeType(_Scalar):
    """A point in time in UTC, to the nanosecond, in the years 1 to 9999."""

    kind: ClassVar[Kind] = "datetime"


@dataclass(frozen=True, slots=True)
class DateType(_Scalar):
    """A day of the years 1 to 9999."""

    kind: ClassVar[Kind] = "date"


@dataclass(frozen=True, slots=True)
class TimeType(_Scalar):
    """A time of day, to the nanosecond, without a zone."""

    kind: ClassVar[Kind] = "time"


@dataclass(frozen=True, slots=True)
class YearType(_Scalar):
    """A year, 1 to 9999."""

    kind: ClassVar[Kind] = "year"


@dataclass(frozen=True, slots=True)
class UuidType(_Scalar):
    """A UUID."""

    kind: ClassVar[Kind] = "uuid"


@dataclass(frozen=True, slots=True)
class JsonType(_Scalar):
    """Any JSON value including `null`, with all digits."""

    kind: ClassVar[Kind] = "json"


@dataclass(frozen=True, slots=True)
class IpType(_Scalar):
    """An IPv4 or IPv6 address."""

    kind: ClassVar[Kind] = "ip"


@dataclass(frozen=True, slots=True)
class ArrayType:
    """A list of elements of one type."""

    kind: ClassVar[Kind] = "array"
    element_type: "Type"
    min_elements: int = 0
    max_elements: int = MAX_ELEMENTS
    unique_elements: bool = False
    """Whether all elements must be different; not for elements of kind json, array, object or map."""
    depth: int = field(init=False, repr=False, compare=False)
    """Levels of nested types, including this one."""

    def __post_init__(self) -> None:
        if not 0 <= self.max_elements <= MAX_ELEMENTS:
            raise InvalidType(f"must be in the range 0 to {MAX_ELEMENTS}", "maxElements")
        if not 0 <= self.min_elements <= self.max_elements:
            raise InvalidType("must be 0 or more, and not above maxElements", "minElements")
        if self.unique_elements and self.element_type.kind in ("json", "array", "object", "map"):
            raise InvalidType(f"cannot be set when the elements are of kind {self.element_type.kind}", "uniqueElements")
        object.__setattr__(self, "depth", _depth_above(self.element_type.depth))

    def __str__(self) -> str:
        return f"array({self.element_type})"


@dataclass(frozen=True, slots=True)
class MapType:
    """Values of one type, by keys that are any text."""

    kind: ClassVar[Kind] = "map"
    element_type: "Type"
    depth: int = field(init=False, repr=False, compare=False)
    """Levels of nested types, including this one."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "depth", _depth_above(self.element_type.depth))

    def __str__(self) -> str:
        return f"map({self.element_type})"


@dataclass(frozen=True, slots=True)
class Property:
    """One property of an object."""

    name: str
    """An ASCII identifier."""
    type: "Type"
    prefilled: str = ""
    """A suggested mapping expression, or ""."""
    create_required: bool = False
    """Must be present when a record is created in a destination."""
    update_required: bool = False
    """Must be present when a record is updated in a destination."""
    read_optional: bool = False
    """May be absent when a record is read."""
    nullable: bool = False
    """May be null."""
    description: str = ""

    def __post_init__(self) -> None:
        if not is_property_name(self.name):
            raise InvalidType("must be a letter or underscore followed by letters, digits and underscores", "name")
        _check_text("prefilled", self.prefilled)
        _check_text("description", self.description)


@dataclass(frozen=True)
class ObjectType:
    """Named properties, at least one, in a fixed order. A schema is an object type."""

    kind: ClassVar[Kind] = "object"
    properties: tuple[Property, ...]
    depth: int = field(init=False, repr=False, compare=False)
    """Levels of nested types, including this one."""

    def __post_init__(self) -> None:
        if not self.properties:
            raise InvalidType("must have at least one element", "properties")
        names: set[str] = set()
        for index, property in enumerate(self.properties):
            if property.name in names:
                raise InvalidType("is the name of an earlier property", f"properties[{index}].name")
            names.add(property.name)
        object.__setattr__(self, "depth", _depth_above(max(property.type.depth for property in self.properties)))

    @cached_property
    def by_name(self) -> dict[str, Property]:
        """The properties by name, in their order. Do not change it."""
        return {property.name: property for property in self.properties}

    def get(self, name: str) -> Property | None:
        """Return the property with this name, if there is one."""
        return self.by_name.get(name)

    def __iter__(self) -> Iterator[Property]:
        return iter(self.properties)

    def __str__(self) -> str:
        return self.kind


Type = (
    StringType | BooleanType | IntType | FloatType | DecimalType | DateTimeType | DateType | TimeType
    | YearType | UuidType | JsonType | IpType | ArrayType | ObjectType | MapType
)  # fmt: skip

Schema = ObjectType
"""The type of records. An optional schema, the documentation's invalid type, is `Schema | None`."""

_MAX_FLOAT64: Final = (2 - 2**-52) * 2.0**1023


def _check_text(key: str, text: str) -> None:
    if "\0" in text:
        raise InvalidType("must not contain NUL", key)
    if not text.isascii():
        if not unicodedata.is_normalized("NFC", text):
            raise InvalidType("must be in Unicode's normalization form C", key)
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise InvalidType("must not contain lone surrogates", key)


def _check_order(low: int | float | Decimal, high: int | float | Decimal) -> None:
    if low > high:
        raise InvalidType("must not be above the maximum", "minimum")


def _depth_above(depth: int) -> int:
    if depth >= MAX_DEPTH:
        raise InvalidType(f"is nested deeper than {MAX_DEPTH} levels")
    return depth + 1
