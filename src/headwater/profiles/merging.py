"""Merges the attributes of the identities of a profile. Pure.

A scalar, a map or a JSON value is the latest that is present and not null, and the higher identity wins a tie. The
values of the property's primary source take precedence. An array has the elements of all arrays, without repeated ones,
sorted. A value that does not fit the profile schema is skipped.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Raw, Struct, defstruct
from msgspec.structs import astuple

from headwater.catalog.profiles import ProfileSchema
from headwater.schemas import ArrayType, FloatType, InvalidValue, JsonType, ObjectType, StringType, Type
from headwater.schemas.decoding import Decoder, compile_decoder
from headwater.schemas.encoding import compile_encoder
from headwater.state.profiles.model import IdentityRow, MergedRow

_members = msgspec.json.Decoder(dict[str, Raw]).decode
_elements = msgspec.json.Decoder(list[Raw]).decode
_encode = msgspec.json.Encoder(order="sorted").encode
_NULL: Final = b"null"
_ABSENT: Final = Raw(b"null")
"""The value of a property that an identity does not have."""
_BRACE: Final = ord("{")


class Merger:
    """Merges attributes for the profile schema of a workspace. Without a schema, profiles have no attributes."""

    def __init__(self, schema: ProfileSchema | None) -> None:
        self._properties: list[_Property] = []
        self._tree: _Tree = {}
        if schema is not None:
            self._tree = self._add(schema.schema, (), schema.primary_sources)
        self._indices = {name: below for name, below in self._tree.items() if isinstance(below, int)}
        """The top-level properties. A flat tree has no others."""
        self._is_flat = len(self._indices) == len(self._tree)
        self._flat = None
        if self._is_flat and self._properties and all(property.union is None for property in self._properties):
            self._flat = _FlatMerger(self._properties)
        self._arrays = [index for index, property in enumerate(self._properties) if property.union is not None]

    def _add(self, type: ObjectType, path: tuple[str, ...], primary_sources: dict[str, int]) -> "_Tree":
        tree: _Tree = {}
        for property in type.properties:
            own = (*path, property.name)
            if isinstance(property.type, ObjectType):
                tree[property.name] = self._add(property.type, own, primary_sources)
            else:
                tree[property.name] = len(self._properties)
                self._properties.append(_Property(own, property.type, primary_sources.get(".".join(own))))
        return tree

    def merge(self, identities: Sequence[IdentityRow]) -> tuple[str, int]:
        """Return the attributes of a profile with these identities, at least one, and its time of change.

        The attributes are canonical: a JSON object with sorted members. The time is that of the latest identity.
        """
        return self.merge_rows(
            [(row.updated_at, row.id, row.name.connection, row.attributes, "", 0) for row in identities]
        )

    def merge_rows(self, rows: Sequence[MergedRow]) -> tuple[str, int]:
        """Merge identities as `merge` does."""
        if self._flat is not None and (found := self._flat.merge(rows)) is not None:
            return found
        if len(rows) == 1 and not self._arrays:
            return self._take(rows[0][3]), rows[0][0]
        latest_first = sorted(rows, reverse=True)
        updated_at = latest_first[0][0]
        if not self._properties:
            return "{}", updated_at
        chosen: dict[int, Raw] = {}
        others: dict[int, Raw] = {}
        """Values of sources other than the primary one."""
        arrays: dict[int, dict[bytes, Raw]] = {index: {} for index in self._arrays}
        scalars = len(self._properties) - len(arrays)
        for _, _, source, attributes, _, _ in latest_first:
            if len(chosen) == scalars and not arrays:
                break
            for index, raw in self._values(attributes):
                property = self._properties[index]
                if property.union is not None:
                    arrays[index].setdefault(bytes(raw), raw)
                elif index not in chosen:
                    if property.primary_source is None or property.primary_source == source:
                        if property.accepts(raw):
                            chosen[index] = raw
                    elif index not in others and property.accepts(raw):
                        others[index] = raw
        for index, texts in arrays.items():
            union = self._properties[index].union
            assert union is not None, "an array"
            merged = union(texts.values())
            if merged is not None:
                chosen[index] = merged
        return self._document({**others, **chosen}), updated_at

    def _take(self, attributes: str) -> str:
        """Return the attributes of a profile with one identity, without arrays."""
        properties = self._properties
        return self._document({index: raw for index, raw in self._values(attributes) if properties[index].accepts(raw)})

    def _values(self, attributes: str) -> Iterable[tuple[int, Raw]]:
        """Return the values that are not null, with the index of their property."""
        if attributes == "{}":
            return ()
        if not self._is_flat:
            return _walk(self._tree, _members(attributes))
        indices = self._indices
        return [
            (indices[name], raw)
            for name, raw in _members(attributes).items()
            if name in indices and not (len(raw) == len(_NULL) and bytes(raw) == _NULL)
        ]

    def _document(self, values: dict[int, Raw]) -> str:
        if not values:
            return "{}"
        document: dict[str, Any] = {}
        if self._is_flat:
            document = {self._properties[index].path[0]: raw for index, raw in values.items()}
            return _encode(document).decode()
        for index, raw in values.items():
            *parents, name = self._properties[index].path
            here = document
            for parent in parents:
                here = here.setdefault(parent, {})
            here[name] = raw
        return _encode(document).decode()


_Tree = dict[str, "int | _Tree"]
"""The index of each property by name, and the trees of objects."""


class _Property:
    def __init__(self, path: tuple[str, ...], type: Type, primary_source: int | None) -> None:
        self.path = path
        self.type = type
        self.primary_source = primary_source
        self.union = _compile_union(type.element_type) if isinstance(type, ArrayType) else None
        """Merges arrays; None if the property is no array."""
        self.accepts: Callable[[Raw], bool] = partial(_accepts, compile_decoder(type))


class _FlatMerger:
    """Merges attributes for a schema without objects and arrays. It decodes an identity, and encodes a profile, with
    one call each."""

    def __init__(self, properties: Sequence[_Property]) -> None:
        ordered = sorted(properties, key=lambda property: property.path)
        members: list[tuple[str, Any, Any]] = []
        self._checked: list[tuple[int, Callable[[Raw], bool]]] = []
        """The properties whose values are not texts, and their checks."""
        for index, property in enumerate(ordered):
            text = _text_type(property.type)
            members.append((f"_{index}", Raw, _ABSENT) if text is None else (f"_{index}", text, None))
            if text is None:
                self._checked.append((index, property.accepts))
        self._primary = [
            (index, each.primary_source) for index, each in enumerate(ordered) if each.primary_source is not None
        ]
        names = {f"_{index}": property.path[0] for index, property in enumerate(ordered)}
        self._type: Callable[..., Struct] = defstruct("Attributes", members, rename=names, omit_defaults=True, gc=False)
        self._decode: Callable[[str], Struct] = msgspec.json.Decoder(self._type).decode
        self._encode = msgspec.json.Encoder().encode

    def merge(self, rows: Sequence[MergedRow]) -> tuple[str, int] | None:
        """Merge identities as `Merger.merge` does. Return None if one has a value of another kind."""
        try:
            if len(rows) == 1:
                [row] = rows
                attributes = self._decode(row[3])
                if self._checked:
                    attributes = self._type(*self._restore(self._values(attributes)))
                return self._encode(attributes).decode(), row[0]
            latest_first = sorted(rows, reverse=True)
            values = [self._values(self._decode(row[3])) for row in latest_first]
        except msgspec.ValidationError:
            return None
        chosen, *earlier = values
        for each in earlier:
            if None not in chosen:
                break
            chosen = [other if value is None else value for value, other in zip(chosen, each, strict=True)]
        for index, source in self._primary:
            found = (
                each[index]
                for row, each in zip(latest_first, values, strict=True)
                if row[2] == source and each[index] is not None
            )
            if (value := next(found, None)) is not None:
                chosen = [*chosen[:index], value, *chosen[index + 1 :]]
        return self._encode(self._type(*self._restore(chosen))).decode(), latest_first[0][0]

    def _values(self, attributes: Struct) -> Sequence[Any]:
        """Return the accepted value of each property; None without one."""
        values = astuple(attributes)
        if not self._checked:
            return values
        accepted = list(values)
        for index, accepts in self._checked:
            raw = accepted[index]
            if raw is _ABSENT or (len(raw) == len(_NULL) and bytes(raw) == _NULL) or not accepts(raw):
                accepted[index] = None
        return accepted

    def _restore(self, values: Sequence[Any]) -> Sequence[Any]:
        """Return values as members."""
        if not self._checked:
            return values
        members = list(values)
        for index, _ in self._checked:
            if members[index] is None:
                members[index] = _ABSENT
        return members


def _text_type(type: Type) -> Any:
    """Return the type of the JSON text of a property that accepts every text of it; None if values need a check."""
    if not isinstance(type, StringType) or type.pattern is not None or type.values is not None:
        return None
    if type.max_bytes is not None:
        return None
    return str | None if type.max_length is None else Annotated[str, Meta(max_length=type.max_length)] | None


def _walk(tree: _Tree, members: dict[str, Raw]) -> Iterator[tuple[int, Raw]]:
    for name, raw in members.items():
        below = tree.get(name)
        if below is None or (len(raw) == len(_NULL) and bytes(raw) == _NULL):
            continue
        if not isinstance(below, dict):
            yield below, raw
        elif memoryview(raw)[0] == _BRACE:
            yield from _walk(below, _members(raw))


def _compile_union(type: Type) -> Callable[[Iterable[Raw]], Raw | None]:
    """Return a function that merges arrays with elements of the type. It returns None if none of them is an array."""
    decode, encode = compile_decoder(type), compile_encoder(type)
    order = _order(type)

    def union(arrays: Iterable[Raw]) -> Raw | None:
        elements: dict[bytes, Any] = {}
        is_present = False
        for array in arrays:
            try:
                texts = _elements(array)
            except msgspec.ValidationError:
                continue
            is_present = True
            for text in texts:
                if _accepts(decode, text):
                    value = decode(text)
                    elements.setdefault(_encode(encode(value)), value)
        if not is_present:
            return None
        ordered = sorted(elements.items(), key=lambda element: (order(element[1]), element[0]))
        return Raw(b"[" + b",".join(text for text, _ in ordered) + b"]")

    return union


def _order(type: Type) -> Callable[[Any], Any]:
    match type:
        case FloatType():
            return lambda value: (math.isnan(value), 0.0 if math.isnan(value) else value)
        case JsonType():
            return lambda value: value.text
        case _:
            return lambda value: value


def _accepts(decode: Decoder, raw: Raw) -> bool:
    try:
        decode(raw)
    except InvalidValue:
        return False
    return True
