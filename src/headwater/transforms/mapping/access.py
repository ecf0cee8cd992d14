"""Compiles paths: down objects and maps, which are dicts, and then down the text of a JSON value."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw

from headwater.schemas import Json, Record
from headwater.transforms.mapping.errors import CannotEvaluate
from headwater.transforms.mapping.language.printer import path_text
from headwater.transforms.mapping.language.tree import PathReference
from headwater.transforms.mapping.typed import Evaluator

_members: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_OPENS_OBJECT: Final = ord("{")


def dict_access(names: Sequence[str]) -> Evaluator:
    """The value at a path of properties and keys; None when it, or anything on the way, is missing or null."""
    first, *others = names
    match others:
        case []:
            return lambda record: record.get(first)
        case [second]:

            def get_second(record: Record) -> Any:
                inside = record.get(first)
                return inside.get(second) if inside else None  # type: ignore[union-attr]  # the schema says: a dict

            return get_second

    def get(record: Record) -> Any:
        here: Any = record
        for name in names:
            here = here.get(name)
            if here is None:
                return None
        return here

    return get


def json_access(evaluate: Evaluator, path: PathReference, length: int) -> Evaluator:
    """The value inside the JSON value that `evaluate` gives, which is at the first `length` steps of the path.

    A key that an object does not have gives None. Asking anything but an object for a key raises CannotEvaluate, unless
    the key is marked as optional. Of a member that an object has twice the last counts.
    """
    steps = [(step.name, step.optional, index) for index, step in enumerate(path.steps) if index >= length]

    def follow(record: Record) -> Json | None:
        value = evaluate(record)
        if value is None:
            return None
        here: bytes = value.text.encode()
        for key, optional, index in steps:
            if here[0] != _OPENS_OBJECT:
                if optional:
                    return None
                raise CannotEvaluate(f"{path_text(path, index)} is not a JSON object")
            try:
                raw = _members(here).get(key)
            except msgspec.DecodeError:  # an escape of half a surrogate pair, which is JSON but not Unicode
                raise CannotEvaluate(f"a key in {path_text(path, index)} has a lone surrogate") from None
            if raw is None:
                return None
            here = bytes(raw)
        return Json(here.decode())

    return follow
