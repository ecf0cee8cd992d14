"""Errors in filters. Each names the condition and the rule that it breaks.

BadRequest
└── InvalidFilter               a filter that can never work here
    ├── UnknownProperty         it names a property that the schema does not have
    └── InvalidFilterText       its text form cannot be parsed, with the position of the invalid character
"""

from typing import Final

from headwater.base.errors import BadRequest

MAX_QUOTED: Final = 60
"""Maximum length of a path or value in a message, in code points."""


class InvalidFilter(BadRequest):
    """A filter breaks a rule. `field` is the path of the invalid part of the filter: `conditions[2].values[0]`."""

    def __init__(
        self,
        rule: str,
        field: str = "",
        *,
        condition: int | None = None,
        property: str | None = None,
        operator: str | None = None,
    ) -> None:
        about = f" ({quoted(property)} {operator})" if property is not None and operator is not None else ""
        self.reason = f"{field or 'it'}{about} {rule}"
        """The message without its introduction."""
        super().__init__(f"the filter is not valid: {self.reason}", field=field or None)
        self.rule = rule
        """The broken rule, as the predicate of a sentence: "must be an integer"."""
        self.condition = condition
        """The index of the condition; None if the whole filter is invalid."""
        self.property = property
        """The path in the condition."""
        self.operator = operator
        """The condition's operator."""


class UnknownProperty(InvalidFilter):
    """A condition names a property that the schema does not have."""

    def __init__(self, rule: str, condition: int, property: str, operator: str, missing: str) -> None:
        field = f"conditions[{condition}].property"
        super().__init__(rule, field, condition=condition, property=property, operator=operator)
        self.missing = missing
        """The path up to the first component that does not exist."""


class InvalidFilterText(InvalidFilter):
    """A text cannot be parsed as a filter."""

    def __init__(self, rule: str, offset: int) -> None:
        super().__init__(rule)
        self.reason = f"{rule}, at character {offset + 1}"
        self.message = f"the filter is not valid: {self.reason}"
        self.args = (self.message,)
        self.offset = offset
        """The position of the first invalid character, in code points from the start."""


def quoted(text: str) -> str:
    """Return the beginning of a text from the request, for messages."""
    shown = text.encode(errors="backslashreplace").decode()
    return shown if len(shown) <= MAX_QUOTED else f"{shown[:MAX_QUOTED]}…"
