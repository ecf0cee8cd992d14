"""What goes wrong with filters: always which condition, and the rule that it breaks.

BadRequest
└── InvalidFilter               a filter that can never work here
    ├── UnknownProperty         it names a property that the schema does not have
    └── InvalidFilterText       its text form cannot be read, with the position of the offending character
"""

from typing import Final

from headwater.base.errors import BadRequest

MAX_QUOTED: Final = 60
"""How much of a path or a value a message repeats, in code points."""


class InvalidFilter(BadRequest):
    """A filter breaks a rule. `field` is the path of what is to blame inside the filter: `conditions[2].values[0]`."""

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
        """The message without saying what is not valid."""
        super().__init__(f"the filter is not valid: {self.reason}", field=field or None)
        self.rule = rule
        """The broken rule, as the predicate of a sentence: "must be an integer"."""
        self.condition = condition
        """The index of the condition; None when the whole filter is to blame."""
        self.property = property
        """The path that the condition names."""
        self.operator = operator
        """The condition's operator."""


class UnknownProperty(InvalidFilter):
    """A condition names a property that the schema does not have."""

    def __init__(self, rule: str, condition: int, property: str, operator: str, missing: str) -> None:
        field = f"conditions[{condition}].property"
        super().__init__(rule, field, condition=condition, property=property, operator=operator)
        self.missing = missing
        """The path as far as the first component that does not exist."""


class InvalidFilterText(InvalidFilter):
    """A text is not a filter."""

    def __init__(self, rule: str, offset: int) -> None:
        super().__init__(rule)
        self.reason = f"{rule}, at character {offset + 1}"
        self.message = f"the filter is not valid: {self.reason}"
        self.args = (self.message,)
        self.offset = offset
        """Where the text stops being a filter, in code points from its start."""


def quoted(text: str) -> str:
    """The beginning of what someone wrote, for messages."""
    shown = text.encode(errors="backslashreplace").decode()
    return shown if len(shown) <= MAX_QUOTED else f"{shown[:MAX_QUOTED]}…"
