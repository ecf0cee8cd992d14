"""What a caller says of its body in `Content-Type`, for the dialects that mind."""

import re
from typing import Final

from headwater.base.errors import BadRequest

_JSON: Final = re.compile(r'(application/json|text/plain)(\s*;\s*charset\s*=\s*("utf-?8"|utf-?8))?\s*;?', re.IGNORECASE)
"""Web pages send text/plain: a browser asks for permission before it sends anything else to another origin."""


def check_is_json(content_type: str) -> None:
    """Raises BadRequest unless the body is said to be JSON in UTF-8, or nothing is said."""
    if content_type.strip() and not _JSON.fullmatch(content_type.strip()):
        raise BadRequest("the Content-Type must be application/json or text/plain, in UTF-8", field="content-type")
