"""Rules for names, and for identifiers in a request."""

from typing import Final

from headwater.base.errors import BadRequest
from headwater.base.identifiers import MAX_ID

MAX_NAME_CHARACTERS: Final = 60
"""Maximum length of the name of a connection or a pipeline, in code points."""
MAX_TITLE_CHARACTERS: Final = 100
"""Maximum length of the name of a workspace or an API key, in code points."""


def check_name(name: str, *, max_characters: int = MAX_NAME_CHARACTERS) -> None:
    """Raise BadRequest for a text that cannot be a name. Names need not be unique."""
    if not name:
        raise BadRequest("name is empty", field="name")
    if len(name) > max_characters:
        raise BadRequest(f"name is longer than {max_characters} characters", field="name")
    if "\0" in name:
        raise BadRequest("name contains the NUL character", field="name")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise BadRequest("name contains a lone surrogate", field="name") from None


def check_identifier(value: int, what: str, *, field: str) -> None:
    """Raise BadRequest for a number that cannot be an identifier. `what` opens the message ("connection
    identifier")."""
    if not 1 <= value <= MAX_ID:
        raise BadRequest(f"{what} {value} is not an integer between 1 and {MAX_ID}", field=field)
