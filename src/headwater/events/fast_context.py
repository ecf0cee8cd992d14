"""Decodes a context that fits its schema in one pass, about five times as fast as `Codec`.

msgspec decodes objects, texts and flags, and skips unknown members. Other values are read by the schema's decoders, so
the result is that of `Codec`.
"""

from functools import lru_cache
from typing import Any, Final, Literal, TypedDict

import msgspec
from msgspec import Raw

from headwater.schemas import BooleanType, DecimalType, MapType, ObjectType, Path, Record, StringType, Type
from headwater.schemas.decoding import Decoder, compile_decoder

_MAX_REMEMBERED: Final = 256


class FastContext:
    """A decoder for contexts of one schema: objects in at most two levels, with properties that may be missing."""

    def __init__(self, schema: ObjectType) -> None:
        readers: dict[Path, Decoder] = {}
        self._decode: Final = msgspec.json.Decoder(_form(schema, (), readers)).decode
        self._readers: Final = [(path[0], read) for path, read in readers.items() if len(path) == 1]
        self._sections: Final = [
            (section, [(path[1], read) for path, read in readers.items() if path[:-1] == (section,)])
            for section in dict.fromkeys(path[0] for path in readers if len(path) == 2)
        ]

    def decode(self, text: Raw) -> Record:
        """Return the known members. Raises msgspec.DecodeError or InvalidValue if one of them does not fit or is
        null."""
        record: dict[str, Any] = self._decode(text)
        _read(record, self._readers)
        for section, readers in self._sections:
            if inside := record.get(section):
                _read(inside, readers)
        return record


def _read(record: dict[str, Any], readers: list[tuple[str, Decoder]]) -> None:
    for name, read in readers:
        if name in record:
            record[name] = read(record[name])


def _form(type_: Type, path: Path, readers: dict[Path, Decoder]) -> Any:
    """Return the type that msgspec decodes. Values that it leaves as text get a reader."""
    match type_:
        case ObjectType():
            forms = {each.name: _form(each.type, (*path, each.name), readers) for each in type_}
            return TypedDict("Form", forms, total=False)  # type: ignore[operator]  # its members are data
        case MapType(element_type=BooleanType()):
            return dict[str, bool]
        case BooleanType():
            return bool
        case StringType() if type_ == StringType():
            return str
        case StringType(values=tuple(values)):
            return Literal[values]
        case _:
            read = compile_decoder(type_)
            readers[path] = _remembering(read) if isinstance(type_, DecimalType) else read
            return Raw


def _remembering(read: Decoder) -> Decoder:
    """Return a reader that remembers its results, because there are few densities of screens and they take long."""
    remembered = lru_cache(_MAX_REMEMBERED)(lambda text: read(Raw(text)))
    return lambda raw: remembered(bytes(raw))
