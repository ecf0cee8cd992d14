"""Finds ids and values of persons in bytes and texts of any form: JSON, forms, or messages of errors."""

import json
import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote_plus

MAX_SEARCHED: Final = 100
"""Maximum number of values that are searched for outside of JSON strings and numbers."""
MIN_SEARCHED_LENGTH: Final = 5
"""Minimum length of a value that is searched for outside of JSON strings and numbers: shorter ones are too common."""

_TOKENS: Final = re.compile(rb'"((?:[^"\\]|\\.)*)"|(-?[0-9]+)')
_PART: Final = rb"[A-Za-z0-9_]"


class Mentions:
    """Values, and a test of whether bytes contain one of them as a whole: as a JSON string or number, or as a word."""

    def __init__(self, values: Iterable[str]) -> None:
        texts = {value for value in values if value and not value.isspace()}
        self._tokens = frozenset(form for text in texts for form in _json_forms(text))
        long = sorted((text for text in texts if len(text) >= MIN_SEARCHED_LENGTH), key=len, reverse=True)
        forms = {form for text in long[:MAX_SEARCHED] for form in (*_json_forms(text), quote_plus(text).encode())}
        joined = b"|".join(map(re.escape, sorted(forms)))
        self._words = re.compile(b"(?<!%b)(?:%b)(?!%b)" % (_PART, joined, _PART)) if forms else None

    def __bool__(self) -> bool:
        return bool(self._tokens)

    def are_in(self, data: bytes) -> bool:
        """Return whether the bytes contain one of the values."""
        if not self._tokens:
            return False
        if self._words is not None and self._words.search(data):
            return True
        tokens = self._tokens
        return any(string in tokens or number in tokens for string, number in _TOKENS.findall(data))

    def are_in_text(self, text: str) -> bool:
        """Return whether the text contains one of the values."""
        return self.are_in(text.encode(errors="surrogatepass"))


def _json_forms(text: str) -> set[bytes]:
    """Return the text as the inside of a JSON string, with and without escaped letters."""
    escaped = json.dumps(text)[1:-1]
    plain = json.dumps(text, ensure_ascii=False)[1:-1]
    return {each.encode(errors="surrogatepass") for each in (escaped, plain, plain.replace("/", "\\/"))}
