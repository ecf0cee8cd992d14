"""How much of an expression language one request may hold, all its expressions together."""

from collections.abc import Collection
from typing import Final

from headwater.base.errors import BadRequest

MAX_EXPRESSIONS: Final = 10_000
"""In one mapping, or one list of expressions."""
MAX_EXPRESSION_CHARACTERS: Final = 250_000
"""Of all expressions of a mapping or a list, in code points. Parsing and compiling take up to 4 µs for each."""


def check_expressions(expressions: Collection[str], field: str) -> None:
    """Refuse expressions that are too many or, together, too long. Raises BadRequest that names `field`."""
    if len(expressions) > MAX_EXPRESSIONS:
        raise BadRequest(f"{field} must have at most {MAX_EXPRESSIONS} expressions", field=field)
    if sum(map(len, expressions)) > MAX_EXPRESSION_CHARACTERS:
        raise BadRequest(
            f"the expressions of {field} must have at most {MAX_EXPRESSION_CHARACTERS} characters together", field=field
        )
