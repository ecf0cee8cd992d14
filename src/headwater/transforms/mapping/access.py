"""Compiles paths: through objects and maps, which are dicts, and then inside the text of a JSON value."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw

from headwater.transforms.mapping.conversions.containers import Conversion
from headwater.transforms.mapping.conversions.fromjson import Reader
from headwater.transforms.mapping.errors import CannotEvaluate
from headwater.transforms.mapping.evaluation import SMALL_CHARACTERS, Evaluator, Input, charge
from headwater.transforms.mapping.language.printer import path_text
from headwater.transforms.mapping.language.tree import PathReference, Step

_members: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_OPENS_OBJECT: Final = ord("{")
_NO_OBJECT: Final[dict[str, Raw]] = {}
"""The cached members of a JSON value that is not an object."""
_NOTHING: Final[dict[str, Raw]] = {}
"""The members of a value that does not exist."""


DecodeMembers = Callable[[Input], dict[str, Raw]]
Parents = dict[tuple[tuple[Step, ...], bool], tuple[tuple[str, ...], DecodeMembers]]
"""The access to objects, by the steps to them and whether the next step is optional. All paths of a mapping, which may
be thousands, share it."""


def compile_dict_access(names: Sequence[str], convert: Conversion | None = None) -> Evaluator:
    """Return an evaluator of the value at a path of properties and keys, converted. It gives None if the value or a
    parent is missing or null."""
    first, *others = names
    if not others:
        if convert is None:
            return lambda given: given.record.get(first)

        def get_first(given: Input) -> Any:
            value = given.record.get(first)
            return None if value is None else convert(value)

        return get_first

    def get(given: Input) -> Any:
        here: Any = given.record.get(first)
        for name in others:
            if here is None:
                return None
            here = here.get(name)
        return here if convert is None or here is None else convert(here)

    return get


def compile_json_access(path: PathReference, length: int, read: Reader, parents: Parents) -> Evaluator:
    """Return an evaluator that applies `read` to the JSON inside the value at the first `length` steps of the path.

    A key that an object does not have gives None. A key of anything but an object raises CannotEvaluate, unless the key
    is marked as optional. The last of repeated members wins. Objects are decoded one level at a time, and once for all
    expressions on the same record.
    """
    above, last = path.steps[:-1], path.steps[-1]
    if (above, last.optional) not in parents:
        parents[above, last.optional] = _compile_parent_access(path, length)
    parent, decode_parent = parents[above, last.optional]
    name = last.name

    def follow(given: Input) -> Any:
        members = given.decoded.get(parent)
        if not members:  # not decoded yet, or empty
            members = decode_parent(given)
        raw = members.get(name)
        if raw is None:
            return None
        if (size := len(raw)) > SMALL_CHARACTERS:
            charge(given, size)
        return read(raw)

    return follow


def _compile_parent_access(path: PathReference, length: int) -> tuple[tuple[str, ...], DecodeMembers]:
    """Return the names above the last step, and a function for the members of the JSON object there."""
    names = tuple(step.name for step in path.steps)
    evaluate = compile_dict_access(names[:length])
    levels = [
        (index, names[:index], names[index - 1], path.steps[index].optional) for index in range(length, len(names))
    ]

    def decode_parent(given: Input) -> dict[str, Raw]:
        decoded = given.decoded
        above = _NOTHING
        for index, prefix, name, optional in levels:
            members = decoded.get(prefix)
            if members is None:
                if index == length:
                    value = evaluate(given)
                    text = None if value is None else value.text.encode()
                else:
                    raw = above.get(name)
                    text = None if raw is None else bytes(raw)
                if text is None:
                    return _NOTHING
                members = decoded[prefix] = _decode_members(text, path, index)
            if members is _NO_OBJECT:
                if optional:
                    return _NOTHING
                raise CannotEvaluate(f"{path_text(path, index)} is not a JSON object")
            above = members
        return above

    return names[:-1], decode_parent


def with_charge(evaluate: Evaluator) -> Evaluator:
    """Return an evaluator that charges the JSON values of `evaluate`, because expressions convert or compare them."""

    def evaluate_and_charge(given: Input) -> Any:
        value = evaluate(given)
        if value is not None and (size := len(value.text)) > SMALL_CHARACTERS:
            charge(given, size)
        return value

    return evaluate_and_charge


def _decode_members(text: bytes, path: PathReference, length: int) -> dict[str, Raw]:
    if text[0] != _OPENS_OBJECT:
        return _NO_OBJECT
    try:
        return _members(text)
    except msgspec.DecodeError:  # an escape of half a surrogate pair, which is JSON but not Unicode
        raise CannotEvaluate(f"a key in {path_text(path, length)} has a lone surrogate") from None
