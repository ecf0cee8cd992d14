"""Limits on the total size of the expressions in one request."""

from collections.abc import Collection
from typing import Final

from headwater.base.errors import BadRequest

MAX_EXPRESSIONS: Final = 10_000
"""Maximum expressions in one mapping or one list."""
MAX_EXPRESSION_CHARACTERS: Final = 250_000
"""Maximum characters of all expressions of a mapping or a list. Parsing and compiling take up to 4 µs for each."""


def check_expressions(expressions: Collection[str], field: str) -> None:
    """Check the number and the total length of expressions. Raises BadRequest that names `field`."""
    if len(expressions) > MAX_EXPRESSIONS:
        raise BadRequest(f"{field} must have at most {MAX_EXPRESSIONS} expressions", field=field)
    if sum(map(len, expressions)) > MAX_EXPRESSION_CHARACTERS:
        raise BadRequest(
            f"the expressions of {field} must have at most {MAX_EXPRESSION_CHARACTERS} characters together", field=field
        )
