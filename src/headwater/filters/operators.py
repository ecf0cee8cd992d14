"""The 26 operators: their texts, their numbers of values, and the properties for which they are allowed."""

from typing import Final, Literal, TypeGuard, get_args

from headwater.schemas import ArrayType, Kind, Property, StringType

Operator = Literal[
    "is", "is not",
    "is less than", "is less than or equal to", "is greater than", "is greater than or equal to",
    "is between", "is not between",
    "contains", "does not contain",
    "is one of", "is not one of",
    "starts with", "ends with",
    "is before", "is on or before", "is after", "is on or after",
    "is true", "is false",
    "is empty", "is not empty",
    "is null", "is not null",
    "exists", "does not exist",
]  # fmt: skip
OPERATORS: Final[tuple[Operator, ...]] = get_args(Operator)
"""In the order of the documentation."""

Logical = Literal["and", "or"]
Role = Literal["Source", "Destination"]
Target = Literal["User", "Event"]

_NULLARY: Final = frozenset(OPERATORS[OPERATORS.index("is true") :])
_NOT_COMPARABLE: Final = ("boolean", "array", "object", "map")
_ORDERED: Final = ("string", "int", "float", "decimal", "json")
_MOMENTS: Final = ("year", "datetime", "date", "time")

_KINDS: Final[dict[str, tuple[Kind, ...]]] = {
    "is less than": _ORDERED,
    "is less than or equal to": _ORDERED,
    "is greater than": _ORDERED,
    "is greater than or equal to": _ORDERED,
    "is between": (*_ORDERED, *_MOMENTS),
    "is not between": (*_ORDERED, *_MOMENTS),
    "contains": ("string", "json", "array"),
    "does not contain": ("string", "json", "array"),
    "is one of": (*_ORDERED, *_MOMENTS),
    "is not one of": (*_ORDERED, *_MOMENTS),
    "starts with": ("string", "json"),
    "ends with": ("string", "json"),
    "is before": (*_MOMENTS, "json"),
    "is on or before": (*_MOMENTS, "json"),
    "is after": (*_MOMENTS, "json"),
    "is on or after": (*_MOMENTS, "json"),
    "is true": ("boolean", "json"),
    "is false": ("boolean", "json"),
    "is empty": ("string", "json", "array", "map", "object"),
    "is not empty": ("string", "json", "array", "map", "object"),
}
_FOR_ENUMERATIONS: Final = frozenset(
    ("is", "is not", "contains", "does not contain", "is one of", "is not one of",
     "is null", "is not null", "exists", "does not exist")
)  # fmt: skip
"""`is empty` is also allowed if the empty text is one of the values."""


def is_operator(text: str) -> TypeGuard[Operator]:
    """Return whether the text is one of the operators."""
    return text in OPERATORS


def is_logical(text: str) -> TypeGuard[Logical]:
    """Return whether the text joins conditions."""
    return text in ("and", "or")


def arity(operator: Operator) -> tuple[int, int | None]:
    """Return the minimum and the maximum number of values; the maximum is None if there is no limit."""
    if operator in _NULLARY:
        return 0, 0
    if operator in ("is one of", "is not one of"):
        return 1, None
    return (2, 2) if operator in ("is between", "is not between") else (1, 1)


def check_arity(operator: Operator, count: int) -> str | None:
    """Return why the operator cannot take this many values; None if it can."""
    minimum, maximum = arity(operator)
    if minimum <= count and (maximum is None or count <= maximum):
        return None
    if maximum == 0:
        return "must be absent: the operator takes no values"
    wanted = "at least 1 value" if maximum is None else "1 value" if maximum == 1 else f"{maximum} values"
    return f"must be {wanted}, not {count}"


def find_violation(operator: Operator, property: Property, *, inside: bool, role: Role, target: Target) -> str | None:
    """Return why the operator cannot be used with the property; None if it can.

    `inside` states that the path continues inside a JSON value. Role and target are those of the pipeline. The users of
    a destination are profiles, which the warehouse filters.
    """
    type = property.type
    of_profiles = role == "Destination" and target == "User"
    if type.kind == "json" and of_profiles:
        return "cannot be used with properties of kind json in filters of profiles"
    if operator in ("exists", "does not exist"):
        if property.read_optional or inside:
            return None
        hint = "; give a path inside it" if type.kind == "json" else ""
        return f"cannot be used: the property is not readOptional, so it always exists{hint}"
    if operator in ("is null", "is not null"):
        return None if property.nullable or type.kind == "json" else "cannot be used: the property is not nullable"
    kinds = _KINDS.get(operator)
    if type.kind not in kinds if kinds is not None else type.kind in _NOT_COMPARABLE:
        hint = "; use is true or is false" if type.kind == "boolean" else ""
        return f"cannot be used with properties of kind {type.kind}{hint}"
    match type:
        case StringType(values=tuple(values)):
            empty = operator in ("is empty", "is not empty")
            if empty and "" not in values:
                return "cannot be used: the empty text is not one of the property's values"
            if not empty and operator not in _FOR_ENUMERATIONS:
                return "cannot be used with strings with values"
        case ArrayType(element_type=element) if operator in ("contains", "does not contain"):
            if element.kind in _NOT_COMPARABLE:
                return f"cannot be used with arrays with elements of kind {element.kind}"
    if type.kind == "object" and (of_profiles or target == "Event"):
        return "cannot be used with properties of kind object in filters of profiles and events"
    return None
