"""The `first` and `limit` of every list."""

from headwater.base.errors import BadRequest

DEFAULT_LIMIT = 100
MAX_LIMIT = 1_000


def page_of(first: int | None, limit: int | None) -> tuple[int, int]:
    """How many to skip (0 when absent) and how many to return (100 when absent). Raises BadRequest out of range."""
    first = 0 if first is None else first
    limit = DEFAULT_LIMIT if limit is None else limit
    if first < 0:
        raise BadRequest("first must be 0 or greater", field="first")
    if not 1 <= limit <= MAX_LIMIT:
        raise BadRequest(f"limit must be in the range from 1 to {MAX_LIMIT}", field="limit")
    return first, limit
