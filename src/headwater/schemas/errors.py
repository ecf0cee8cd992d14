"""Errors in schemas, paths and values. Each has a path and the rule that is broken there.

The path leads into the document of a type (`properties[2].type.bitSize`) or into a value (`address.zip`, `tags[3]`,
`prefs["k"]`). It is built while the error propagates: each level adds its own component with `under`.
"""

from typing import Self

from headwater.base.errors import BadRequest


class SchemaError(BadRequest):
    """The base class of errors in this package. `field` equals the path, or is None if the whole value is the cause."""

    subject = "the schema"

    def __init__(self, rule: str, path: str = "") -> None:
        super().__init__(f"{path or self.subject} {rule}", field=path or None)
        self.rule = rule
        """The broken rule, as the predicate of a sentence: "must be at most 12"."""
        self.path = path
        """The path of the invalid part; empty if it is the whole type or value."""

    def under(self, component: str) -> Self:
        """Return the same error with the path as seen from one level further out."""
        separator = "." if self.path and not self.path.startswith("[") else ""
        return type(self)(self.rule, f"{component}{separator}{self.path}")


class InvalidType(SchemaError):
    """A type, or its JSON form, breaks a rule of its kind."""

    subject = "the type"


class InvalidValue(SchemaError):
    """A value does not conform to its schema."""

    subject = "the value"


class InvalidPath(SchemaError):
    """A text is not a property path."""

    subject = "the path"


class PropertyNotFound(SchemaError):
    """A schema has no property at a path. `path` ends with the first missing component."""

    subject = "the property"
