"""Replaces the placeholders of queries, such as `${updated_at}`, by literals of the database.

A value becomes a literal of its type, so that no value can change the query. `Syntax` knows enough of a database's SQL
to tell code from strings, quoted names and comments:

| place | `${name}` |
| --- | --- |
| in code | is replaced; an unknown name is an error |
| in a string or a quoted name | is an error if the name is known: a literal has quotes of its own; else it is text |
| in a comment | is part of the comment |
"""

import math
import re
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from typing import Final

import msgspec

from headwater.connectors.contract import QueryRejected
from headwater.schemas import DateTime, Json, Time, Value

NULL: Final = "NULL"

_PLACEHOLDER: Final = re.compile(r"\$\{([^{}]*)(\}?)")
_READING: Final = re.compile(r"[\s(]*(?:SELECT|WITH|VALUES|TABLE)\b", re.IGNORECASE)
_COMMENT_MARK: Final = re.compile(r"/\*|\*/")


class InvalidPlaceholder(QueryRejected):
    """The query has a placeholder that does not exist, or one at a place where it cannot be replaced."""


class Syntax(msgspec.Struct, frozen=True, kw_only=True):
    """The lexical rules of a database's SQL. Every database has strings in '...' and comments after --."""

    name_quotes: str = '"'
    """The characters that quote names. `[` ends with `]`."""
    string_quotes: str = "'"
    backslash_escapes: bool = False
    """Whether a backslash in a string escapes the next character."""
    escape_strings: bool = False
    """Whether E'...' is a string with backslash escapes."""
    dollar_quotes: bool = False
    """Whether $$...$$ and $tag$...$tag$ are strings."""
    line_comments: str = "--"
    """The pattern that begins a comment to the end of the line."""
    nested_comments: bool = False
    """Whether /* /* */ */ is one comment."""


POSTGRESQL: Final = Syntax(escape_strings=True, dollar_quotes=True, nested_comments=True)
MYSQL: Final = Syntax(
    name_quotes="`", string_quotes="'\"", backslash_escapes=True, line_comments=r"--(?=[\x00-\x20\x7f]|\Z)|#"
)
CLICKHOUSE: Final = Syntax(
    name_quotes='"`', backslash_escapes=True, line_comments=r"--|#(?=[ !])", nested_comments=True
)
SQLITE: Final = Syntax(name_quotes='"`[')
DUCKDB: Final = Syntax(escape_strings=True, dollar_quotes=True)
SNOWFLAKE: Final = Syntax(backslash_escapes=True, dollar_quotes=True, line_comments="--|//")


def replace_placeholders(text: str, parameters: Mapping[str, Value], syntax: Syntax) -> str:
    """Return the query with the literals of its parameters. Raises InvalidPlaceholder, and QueryRejected for a value
    that has no literal."""
    if "\0" in text:
        raise QueryRejected("the query contains the NUL character")
    if "${" not in text:
        return text
    parts = []
    for part, is_code, is_comment in _split(text, syntax):
        if is_code:
            part = _PLACEHOLDER.sub(lambda match: _replacement(match, parameters, syntax), part)
        elif not is_comment:
            _check_quoted(part, parameters)
        parts.append(part)
    return "".join(parts)


def without_terminator(text: str) -> str:
    """Return the query without semicolons at its end, so that it can become part of another statement."""
    return text.rstrip("; \t\r\n")


def check_reading(text: str, syntax: Syntax, forbidden: re.Pattern[str]) -> None:
    """Check that a query begins with a word that reads, and has none of the forbidden words in its code.

    It complements transactions that only read, for what such a transaction does not prevent. A comment that the
    database executes is not allowed, because it hides code. Raises QueryRejected.
    """
    code = []
    for part, is_code, is_comment in _split(text, syntax):
        if is_comment and part.startswith(("/*!", "/*M!")):
            raise QueryRejected("the query has a comment that the database would execute")
        code.append(part if is_code else " ")
    if _READING.match("".join(code)) is None:
        raise QueryRejected("the query must begin with SELECT, WITH, VALUES or TABLE")
    if forbidden.search("".join(code)):
        raise QueryRejected("the query must not write files")


def literal(value: Value, syntax: Syntax) -> str:
    """Return the literal of a value. Raises QueryRejected for lists, objects and texts that SQL cannot contain."""
    if value is None:
        return NULL
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, int):
        return str(value) if value >= 0 else f"({value})"  # without the parentheses, "x-${n}" would become a comment
    if isinstance(value, float):
        return _number(repr(value)) if math.isfinite(value) else _string(str(value), syntax)
    if isinstance(value, Decimal):
        return _number(format(value, "f")) if value.is_finite() else _string(str(value), syntax)
    if isinstance(value, DateTime):
        return _string(datetime_text(value), syntax)
    if isinstance(value, date):
        return _string(value.isoformat(), syntax)
    if isinstance(value, Time):
        return _string(str(value), syntax)
    if isinstance(value, Json):
        return _string(value.text, syntax)
    if isinstance(value, str):
        return _string(value, syntax)
    raise QueryRejected("lists and objects cannot be passed to a query")


def datetime_text(value: DateTime) -> str:
    """Return `2026-05-04 12:00:00.5`: UTC, at most microseconds, rounded down.

    Databases accept this form for every type of date and time. Among texts of the same form it sorts by time, because
    it has no trailing zeros and no zone.
    """
    moment = value.to_datetime()
    seconds = moment.replace(microsecond=0, tzinfo=None).isoformat(" ")
    fraction = f".{moment.microsecond:06d}".rstrip("0") if moment.microsecond else ""
    return seconds + fraction


def _replacement(match: re.Match[str], parameters: Mapping[str, Value], syntax: Syntax) -> str:
    name, end = match[1].strip(), match[2]
    if not end:
        raise InvalidPlaceholder(f'the placeholder "${{{name[:60]}" is not closed')
    if name not in parameters:
        known = ", ".join(f"${{{each}}}" for each in parameters) or "none"
        raise InvalidPlaceholder(f"the placeholder ${{{name[:60]}}} does not exist; the placeholders are {known}")
    return literal(parameters[name], syntax)


def _check_quoted(part: str, parameters: Mapping[str, Value]) -> None:
    for match in _PLACEHOLDER.finditer(part):
        name = match[1].strip()
        if name in parameters:
            raise InvalidPlaceholder(f"the placeholder ${{{name}}} is inside quotes: write it without quotes")


def _number(text: str) -> str:
    return text if not text.startswith("-") else f"({text})"


def _string(text: str, syntax: Syntax) -> str:
    if "\0" in text or not _is_encodable(text):
        raise QueryRejected("a value of the query contains the NUL character or a lone surrogate")
    if syntax.backslash_escapes:
        text = text.replace("\\", "\\\\")
    return "'" + text.replace("'", "''") + "'"


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _split(text: str, syntax: Syntax) -> Iterator[tuple[str, bool, bool]]:
    """Yield the parts of a query, each with whether it is code, and whether it is a comment."""
    opening = _opening(syntax)
    here = 0
    while (match := opening.search(text, here)) is not None:
        if match.start() > here:
            yield text[here : match.start()], True, False
        end = _end(text, match, syntax)
        yield text[match.start() : end], False, match["comment"] is not None or match["block"] is not None
        here = end
    if here < len(text):
        yield text[here:], True, False


def _opening(syntax: Syntax) -> re.Pattern[str]:
    quotes = re.escape(syntax.string_quotes + syntax.name_quotes)
    alternatives = [rf"(?P<comment>{syntax.line_comments})", r"(?P<block>/\*)"]
    alternatives.append(r"(?P<escaped>(?<![\w$])[eE]')" if syntax.escape_strings else r"(?P<escaped>(?!))")
    tag = r"(?<![\w$])\$(?:[^\W\d]\w*)?\$"
    alternatives.append(rf"(?P<dollar>{tag})" if syntax.dollar_quotes else r"(?P<dollar>(?!))")
    alternatives.append(rf"(?P<quote>[{quotes}])")
    return re.compile("|".join(alternatives))


def _end(text: str, match: re.Match[str], syntax: Syntax) -> int:
    """Return the end of the string, name or comment that begins with the match; the end of the text if it has none."""
    if match["comment"] is not None:
        return _after(text.find("\n", match.end()), 1, text)
    if match["block"] is not None:
        return _end_of_comment(text, match.end(), syntax.nested_comments)
    if match["dollar"] is not None:
        return _after(text.find(match["dollar"], match.end()), len(match["dollar"]), text)
    quote = "'" if match["escaped"] is not None else match["quote"]
    is_string = quote in syntax.string_quotes
    has_escapes = match["escaped"] is not None or (is_string and syntax.backslash_escapes)
    # A doubled quote ends a string and begins the next one, which is the same to a search for placeholders.
    closing = "]" if quote == "[" else re.escape(quote)
    inside = rf"(?:[^{closing}\\]|\\.)*" if has_escapes else rf"[^{closing}]*"
    found = re.compile(rf"{inside}{closing}", re.DOTALL).match(text, match.end())
    return len(text) if found is None else found.end()


def _end_of_comment(text: str, here: int, is_nested: bool) -> int:
    depth = 1
    for mark in _COMMENT_MARK.finditer(text, here):
        if mark[0] == "*/":
            depth -= 1
        elif is_nested:
            depth += 1
        if depth == 0:
            return mark.end()
    return len(text)


def _after(index: int, length: int, text: str) -> int:
    return len(text) if index < 0 else index + length
