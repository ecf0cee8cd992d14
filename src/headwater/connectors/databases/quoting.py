"""Names of tables and columns: reading them from settings, and quoting them in SQL."""

import re
from typing import Final

from headwater.base.errors import BadRequest

MAX_TABLE_CHARACTERS: Final = 1_024

_PART: Final = re.compile(r'"((?:[^"]|"")+)"|([^".]+)')


def parse_table(text: str, *, max_parts: int = 2) -> tuple[str, ...]:
    """Return the parts of a table's name: `people`, `sales.people`, `"a.b"."c"`.

    Names are those in the database, in their case. A part that contains a dot or a double quote is written in double
    quotes, where a double quote is doubled. Raises BadRequest.
    """
    parts: list[str] = []
    here = 0
    while (match := _PART.match(text, here)) is not None and len(parts) < max_parts:
        parts.append(match[1].replace('""', '"') if match[1] is not None else match[2])
        here = match.end()
        if here == len(text):
            if "\0" in text or len(text) > MAX_TABLE_CHARACTERS:
                break
            return tuple(parts)
        if text[here] != ".":
            break
        here += 1
    raise BadRequest(f"{text[:100]!r} is not the name of a table", field="table")


def parse_qualified(text: str, default: str) -> tuple[str, str]:
    """Return the schema and the name of a table; `default` is the schema of a name without one. Raises BadRequest."""
    parts = parse_table(text)
    return (parts[0], parts[1]) if len(parts) == 2 else (default, parts[0])


def quote(name: str, mark: str = '"') -> str:
    """Return the name in quotes. Raises BadRequest for a name that no database allows."""
    if not name or "\0" in name:
        raise BadRequest("a name is empty or contains the NUL character")
    return f"{mark}{name.replace(mark, mark * 2)}{mark}"


def quote_all(names: tuple[str, ...], mark: str = '"') -> str:
    """Return the names in quotes, separated by commas."""
    return ", ".join(quote(name, mark) for name in names)
