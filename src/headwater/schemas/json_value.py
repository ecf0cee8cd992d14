"""Values of kind json. They stay JSON text, so every digit of a number and every repeated member survives."""

import json
from collections.abc import Iterable
from typing import Final, Self

import msgspec
from msgspec import Raw, Struct

from headwater.base.json_depth import is_deeper
from headwater.schemas.errors import InvalidValue

MAX_JSON_DEPTH: Final = 100
"""Maximum nesting of arrays and objects in a value. The decoder's own limit depends on the depth of the stack at the
call."""

_encode = msgspec.json.Encoder(decimal_format="number").encode


class Json(Struct, frozen=True):
    """A JSON value. Two values are equal if their texts are."""

    text: str
    """Valid JSON without spaces between its tokens. Use `parse` for text that is not known to be valid."""

    @classmethod
    def parse(cls, text: str | bytes) -> Self:
        """Parse JSON text and keep all digits. Raises InvalidValue if it is not JSON or is nested too deep."""
        try:
            decoded = text.decode() if isinstance(text, bytes) else text
            if is_deeper(decoded, MAX_JSON_DEPTH):
                raise InvalidValue(f"is nested deeper than {MAX_JSON_DEPTH} levels")
            return cls(msgspec.json.format(decoded, indent=-1))
        except (msgspec.DecodeError, UnicodeError) as error:
            raise InvalidValue("must be JSON in UTF-8") from error

    @classmethod
    def of(cls, value: object) -> Self:
        """Return the JSON of dicts, lists, strings, numbers, Decimals, booleans and None."""
        return cls(_encode(value).decode())

    @property
    def is_null(self) -> bool:
        """Return whether this is JSON's null, which is a value, unlike a property that is null."""
        return self.text == "null"


JSON_NULL: Final = Json("null")


def reject_repeats(text: str) -> None:
    """Raise InvalidValue if an object anywhere in the JSON text has a repeated member, or the text is not JSON."""
    try:
        _repeats.decode(text)
    except RecursionError as error:
        raise InvalidValue("is nested too deeply") from error
    except InvalidValue:
        raise
    except ValueError as error:
        raise InvalidValue("must be JSON in UTF-8") from error


def excerpt(text: Raw | str) -> str:
    """Return the beginning of a JSON text, for messages."""
    shown = bytes(text).decode(errors="replace") if isinstance(text, Raw) else text
    return shown if len(shown) <= 60 else f"{shown[:60]}…"


def find_repeated(names: Iterable[str]) -> str | None:
    """Return the first name that occurs for the second time, if any."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def _refuse_repeat(pairs: list[tuple[str, object]]) -> None:
    repeated = find_repeated(name for name, _ in pairs)
    if repeated is not None:
        raise InvalidValue(f"has the member {json.dumps(repeated[:60])} twice")


_repeats: Final = json.JSONDecoder(object_pairs_hook=_refuse_repeat, parse_float=str, parse_int=str)
