"""The rules for names, and for identifiers that stand in a request."""

from typing import Final

from headwater.base.errors import BadRequest
from headwater.base.identifiers import LARGEST_ID

LONGEST_NAME: Final = 60
"""Of a connection or a pipeline, in code points."""
LONGEST_TITLE: Final = 100
"""Of a workspace or an API key, in code points."""


def check_name(name: str, *, longest: int = LONGEST_NAME) -> None:
    """Refuse what cannot be the name of something. It need not be unique."""
    if not name:
        raise BadRequest("name is empty", field="name")
    if len(name) > longest:
        raise BadRequest(f"name is longer than {longest} characters", field="name")
    if "\0" in name:
        raise BadRequest("name contains the NUL character", field="name")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise BadRequest("name contains a lone surrogate", field="name") from None


def check_identifier(value: int, what: str, *, field: str) -> None:
    """Refuse what no object can have as its identifier. `what` opens the message ("connection identifier")."""
    if not 1 <= value <= LARGEST_ID:
        raise BadRequest(f"{what} {value} is not an integer between 1 and {LARGEST_ID}", field=field)
