"""Arguments that several groups of commands have."""

from argparse import ArgumentTypeError
from typing import Final

from headwater.cli.usage import Argument, option

DIRECT: Final = (
    " With --url or HEADWATER_URL it calls the API. Without them it uses the database in the data directory directly, "
    "with or without a running server."
)


DEFAULT_LIMIT: Final = 100
MAX_LIMIT: Final = 1_000_000


def parse_limit(text: str) -> int:
    """Return a number of lines. Raises argparse.ArgumentTypeError."""
    if not (text.isascii() and text.isdigit() and len(text) <= 7 and 1 <= int(text) <= MAX_LIMIT):
        raise ArgumentTypeError(f"must be a number from 1 to {MAX_LIMIT}, not {text!r}")
    return int(text)


LIMIT: Final = option(
    "--limit", "N", f"maximum number of lines [{DEFAULT_LIMIT}]", parse=parse_limit, default=DEFAULT_LIMIT
)
ID: Final = Argument("id", "the number that `list` shows", "ID")
FILE: Final = Argument("file", "a file with a JSON object; - for standard input", "FILE", is_required=False)
FILTER: Final = option("--filter", "FILTER", "a filter in words, such as 'event is \"Order Completed\"', or as JSON")
CONNECTION: Final = option("--connection", "ID", "only those of this connection")
