"""What goes wrong with mappings: when they are written, and when they meet a record.

    BadRequest
    └── InvalidMapping              a mapping, or one expression of it, can never work
        └── InvalidExpression       with the position of the offending character
    Unprocessable (TransformationFailed)
    └── MappingFailed               this record only; the mapping goes on with the next
        ├── TransformationError     an expression cannot be computed: step Transformation
        └── ValidationError         its result does not fit the output property: step OutputValidation

Messages name expressions, paths and rules, never a value of a record: they are stored and shown where values are not.
"""

from typing import ClassVar

from headwater.base.errors import BadRequest, Unprocessable
from headwater.base.steps import ProcessingStep

MAX_QUOTED = 200
"""How much of an expression a message repeats, in code points."""


class InvalidMapping(BadRequest):
    """A mapping breaks a rule. `field` is the output path that is to blame, if one is."""


class InvalidExpression(InvalidMapping):
    """An expression breaks a rule of the language, or does not fit its schema or the type that it must give."""

    def __init__(self, rule: str, offset: int) -> None:
        super().__init__(f"{rule}, at character {offset + 1}")
        self.rule = rule
        """What is wrong, without the position."""
        self.offset = offset
        """Where, in code points from the start of the expression."""


class MappingFailed(Unprocessable):
    """A record cannot be mapped."""

    step: ClassVar[ProcessingStep] = "Transformation"
    """The step of a run that counts it."""

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
    """Raised by compiled expressions, with the reason; the mapping, which knows expression and path, makes a
    TransformationError of it."""


def quoted(text: str) -> str:
    """The text in the marks that expressions and paths stand in within messages, cut when it is long."""
    cut = text if len(text) <= MAX_QUOTED else text[:MAX_QUOTED] + "…"
    return "«" + cut.replace("»", "≫") + "»"
