"""Normalises and hashes the personal data of events, each value once.

Meta compares SHA-256 hashes of normalised values. A value that was hashed before it was normalised matches nobody, and
neither does a hash that was hashed again: a value of 64 hexadecimal digits is sent as it is.
"""

import re
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Final

from headwater.connectors.identities import is_placeholder

MIN_PHONE_DIGITS: Final = 7
MAX_PHONE_DIGITS: Final = 15

_HASH: Final = re.compile(r"[0-9A-Fa-f]{64}")
_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+")
_NO_DIGIT: Final = re.compile(r"[^0-9]+")
_US_ZIP: Final = re.compile(r"[0-9]{5}-?[0-9]{4}")
_BIRTHDAY: Final = re.compile(r"((?:19|20)[0-9]{2})[-/.]?(0[1-9]|1[0-2])[-/.]?(0[1-9]|[12][0-9]|3[01])")


def _email(text: str) -> str:
    email = text.lower()
    return email if _EMAIL.fullmatch(email) else ""


def _phone(text: str) -> str:
    digits = _NO_DIGIT.sub("", text).lstrip("0")
    return digits if MIN_PHONE_DIGITS <= len(digits) <= MAX_PHONE_DIGITS else ""


def _name(text: str) -> str:
    """Return lower case without punctuation. Letters of other alphabets stay, with their marks."""
    lowered = text.lower()
    if lowered.isalnum():
        return lowered
    kept = "".join(each for each in lowered if each.isalnum() or each.isspace() or _is_mark(each))
    return " ".join(kept.split())


def _is_mark(character: str) -> bool:
    """Return whether the character is part of a word in its alphabet, such as a vowel sign."""
    return f"a{character}".isidentifier() and character != "_"


def _place(text: str) -> str:
    return _name(text).replace(" ", "")


def _zip(text: str) -> str:
    code = "".join(text.lower().split())
    return code[:5] if _US_ZIP.fullmatch(code) else code.replace("-", "")


def _country(text: str) -> str:
    code = text.lower()
    return code if len(code) == 2 and code.isascii() and code.isalpha() else ""


def _gender(text: str) -> str:
    gender = text.lower()
    return gender[0] if gender in ("f", "m", "female", "male") else ""


def _birthday(text: str) -> str:
    found = _BIRTHDAY.match(text)
    return "".join(found.groups()) if found else ""


def _unchanged(text: str) -> str:
    return text


NORMALISERS: Final[Mapping[str, Callable[[str], str]]] = {
    "em": _email,
    "ph": _phone,
    "fn": _name,
    "ln": _name,
    "ge": _gender,
    "db": _birthday,
    "ct": _place,
    "st": _place,
    "zp": _zip,
    "country": _country,
    "external_id": _unchanged,
}
"""The parameters that are hashed. A normaliser gets the text without spaces around it, and returns the text to hash, or
an empty one if the value has not the form of its parameter."""


IDENTIFIERS: Final = frozenset({"em", "ph", "external_id"})
"""Parameters in which a placeholder would stand for many people. "ID" and "NA" are countries."""


def hash_parameter(name: str, value: str) -> str:
    """Return the hash of a value of a parameter; empty if it is a placeholder, or has not its form."""
    text = value.strip()
    if not text or (name in IDENTIFIERS and is_placeholder(text)):
        return ""
    if len(text) == 64 and _HASH.fullmatch(text):
        return text.lower()
    normalised = NORMALISERS[name](text)
    return sha256(normalised.encode()).hexdigest() if normalised else ""
