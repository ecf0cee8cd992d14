"""Property names: validation, and conversion of column headings."""

import re
import unicodedata
from typing import Final

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OTHER: Final = re.compile(r"[^A-Za-z0-9_]+")


def is_property_name(text: str) -> bool:
    """Return whether the text is an ASCII letter or underscore, followed by ASCII letters, digits and underscores."""
    return _NAME.fullmatch(text) is not None


def suggest_property_name(text: str) -> str | None:
    """Return a property name that resembles the text, or None if there is none.

    A valid name stays unchanged. Otherwise surrounding spaces are removed and Latin letters lose their accents. Each
    character that is not a letter or digit becomes one underscore, as does a leading digit. Letters of other scripts
    give None.
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
