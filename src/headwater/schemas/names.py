"""Property names: what is one, and how the heading of a column becomes one."""

import re
import unicodedata
from typing import Final

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OTHER: Final = re.compile(r"[^A-Za-z0-9_]+")


def is_property_name(text: str) -> bool:
    """Whether the text is an ASCII letter or underscore, followed by ASCII letters, digits and underscores."""
    return _NAME.fullmatch(text) is not None


def property_name_of(text: str) -> str | None:
    """A property name that resembles the text, or None when there is none.

    A valid name stays as it is. Otherwise spaces around it go, Latin letters lose their accents, whatever else is not
    a letter or digit becomes one underscore, and so does a digit in front. Any other letter is not guessed at.
    """
    if is_property_name(text):
        return text
    decomposed = unicodedata.normalize("NFD", text.strip())
    plain = "".join(character for character in decomposed if not unicodedata.combining(character))
    if any(character.isalpha() and not character.isascii() for character in plain):
        return None
    name = _OTHER.sub("_", plain)
    if name[:1].isdigit():
        name = "_" + name[1:]
    return None if name in ("", "_") else name
