"""Errors in mappings: when they are written, and when they are applied to a record.

    BadRequest
    └── InvalidMapping              a mapping, or one expression of it, can never work
        └── InvalidExpression       with the position of the invalid character
    Unprocessable (TransformationFailed)
    └── MappingFailed               this record only; the mapping continues with the next
        ├── TransformationError     an expression cannot be computed: step Transformation
        └── ValidationError         its result does not fit the output property: step OutputValidation

Messages contain expressions, paths and rules, never a value of a record, because they are stored and shown to people
without access to values.
"""

from typing import ClassVar

from headwater.base.errors import BadRequest, Unprocessable
from headwater.base.steps import ProcessingStep

MAX_QUOTED = 200
"""Maximum length of an expression in a message, in code points."""


class InvalidMapping(BadRequest):
    """A mapping breaks a rule. `field` is the invalid output path, if there is one."""


class InvalidExpression(InvalidMapping):
    """An expression breaks a rule of the language, or does not fit its schema or its target type."""

    def __init__(self, rule: str, offset: int) -> None:
        super().__init__(f"{rule}, at character {offset + 1}")
        self.rule = rule
        """The broken rule, without the position."""
        self.offset = offset
        """The position, in code points from the start of the expression."""


class MappingFailed(Unprocessable):
    """A record cannot be mapped."""

    step: ClassVar[ProcessingStep] = "Transformation"
    """The processing step that counts the error."""

    def __init__(self, reason: str, *, expression: str, path: str) -> None:
        super().__init__("TransformationFailed", f"{quoted(expression)} for {quoted(path)}: {reason}", field=path)
        self.reason = reason
        self.expression = expression
        """The source of the expression that failed."""
        self.path = path
        """The path of the output property."""


class TransformationError(MappingFailed):
    """An expression cannot be computed for the record."""

    step = "Transformation"


class ValidationError(MappingFailed):
    """The result of an expression does not fit its property, or a required property would be missing."""

    step = "OutputValidation"


class CannotEvaluate(Exception):
    """Raised by compiled expressions with the reason. The mapping adds expression and path, and converts it to a
    TransformationError."""


def quoted(text: str) -> str:
    """Return the text in the quotation marks of expressions and paths in messages, cut if it is long."""
    cut = text if len(text) <= MAX_QUOTED else text[:MAX_QUOTED] + "…"
    return "«" + cut.replace("»", "≫") + "»"
