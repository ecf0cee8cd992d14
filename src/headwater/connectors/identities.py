"""Identities that stand for nobody: placeholders that clients send instead of an identifier.

A destination would make one person of all users with such an id. It cannot separate them afterwards.
"""

from typing import Final

PLACEHOLDERS: Final = frozenset(
    {
        "",
        "-1",
        "0",
        "00000000-0000-0000-0000-000000000000",
        "<nil>",
        "[]",
        "[object object]",
        "anon",
        "anonymous",
        "distinct_id",
        "distinctid",
        "email",
        "false",
        "guest",
        "id",
        "lmy47d",
        "n/a",
        "na",
        "nan",
        "nil",
        "none",
        "not_authenticated",
        "null",
        "true",
        "undefined",
        "unknown",
        "user_id",
        "userid",
        "{}",
    }
)
"""In lower case, without spaces and quotation marks around them: those that PostHog, Mixpanel and Amplitude refuse, and
more."""
_MAX_CHARACTERS: Final = 40
"""More than any placeholder has, with quotation marks."""


def is_placeholder(identifier: str) -> bool:
    """Return whether the identifier is empty, or stands for nobody."""
    if len(identifier) <= _MAX_CHARACTERS:
        return identifier.strip().strip("'\" ").lower() in PLACEHOLDERS
    return not identifier.strip()
