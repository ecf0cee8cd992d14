"""Reads the values of the identifiers of an identity from its attributes.

A blank or blocked value counts as absent. A value is text: that of a string as it is, a number as decimal digits
without an exponent, a UUID in lower case, an IP address in its canonical form.
"""

import re
from collections.abc import Callable, Sequence
from hashlib import blake2b
from operator import attrgetter
from types import GenericAlias
from typing import Any, Final

import msgspec
from msgspec import Raw

from headwater.catalog.profiles import BlockedPreset, Identifier, ResolutionSettings
from headwater.schemas import (
    DecimalType,
    IntType,
    IpType,
    Path,
    Schema,
    StringType,
    Type,
    UuidType,
    decimal_text,
    parse_decimal,
    parse_path,
    resolve,
)
from headwater.schemas.values import canonical_ip, canonical_uuid
from headwater.state.profiles.model import Evidence, Link, LinkValue

SAME_NAME: Final = -1
"""The identifier of a `LinkValue` that stands for a name: the same user of one connection. The value is the
identity id, or a digest of it."""
MAX_VALUE_BYTES: Final = 200
"""Maximum size of a value, in bytes of UTF-8. A digest replaces a longer value, and one that databases cannot store."""

_DIGEST_PREFIX: Final = "\x01"
"""Begins every digest. A value that begins with it is replaced by a digest too, so none equals a digest."""
_SHORT: Final = MAX_VALUE_BYTES // 4
"""A value of so many characters has at most `MAX_VALUE_BYTES`: a character has at most 4."""
_EMPTY_WORDS: Final = frozenset(
    {"empty", "n/a", "n.a.", "na", "nan", "nil", "none", "not available", "null", "undefined", "unknown"}
)
_INT64: Final = re.compile(r"0|-?[1-9][0-9]{0,19}")
_NULL: Final = Raw(b"null")
_IDENTIFYING: Final = (StringType, IntType, DecimalType, UuidType, IpType)

_members = msgspec.json.Decoder(dict[str, Raw]).decode

_Decode = Callable[[str], tuple[Any, ...]]
_DecodeAll = Callable[[Sequence[str]], list[tuple[Any, ...]] | None]
_Convert = Callable[[Any], str | None]
"""Returns the text of a value that is not null; None if it is not of the kind of the property."""


class EvidenceReader:
    """Reads evidence from attributes, for the identifiers of a workspace.

    Without a schema, no identity has evidence, and none for an identifier that the schema lacks or that is of a kind
    that identifies nobody, such as boolean.
    """

    def __init__(self, settings: ResolutionSettings, schema: Schema | None) -> None:
        self._none: Evidence = (None,) * len(settings.identifiers)
        self._sources: list[tuple[int, _Source]] = []
        for index, identifier in enumerate(settings.identifiers):
            found, missing = (None, "") if schema is None else resolve(schema, identifier.path)
            if found is not None and missing is None and isinstance(found.type, _IDENTIFYING):
                self._sources.append((index, _Source(identifier, found.type)))
        sources = [source for _, source in self._sources]
        self._decode, self._decode_all = _compile([(source.path, source.json_type) for source in sources])
        self._admit = [source.compile() for source in sources]
        self._is_dense = len(sources) == len(self._none)
        self.has_blocks = any(source.has_blocks for source in sources)
        """Whether a value can be blocked."""
        self._are_plain = self._is_dense and all(source.is_plain for source in sources)

    def read(self, attributes: str) -> Evidence:
        """Return the value of each identifier in the attributes, a JSON object."""
        if attributes == "{}" or not self._sources:
            return self._none
        values = self._values(attributes)
        if self._are_plain:
            for value in values:
                if value is not None and not (value > "!" and len(value) <= _SHORT and value.isprintable()):
                    break  # not certainly plain, as `_is_plain_text` decides
            else:
                return tuple(values)
        admitted = [None if value is None else admit(value) for value, admit in zip(values, self._admit, strict=True)]
        if self._is_dense:
            return tuple(admitted)
        evidence = list(self._none)
        for (index, _), value in zip(self._sources, admitted, strict=True):
            evidence[index] = value
        return tuple(evidence)

    def read_all(self, attributes: Sequence[str]) -> list[Evidence]:
        """Return what `read` returns for the attributes of each identity, in half the time for plain values."""
        if self._are_plain and (found := self._decode_all(attributes)) is not None:
            texts = [value for values in found for value in values if value is not None]
            if not texts or (
                min(texts) > "!" and max(map(len, texts)) <= _SHORT and "".join(texts).isprintable()
            ):  # all are certainly plain, as `_is_plain_text` decides
                return found
        return list(map(self.read, attributes))

    def blocked(self, attributes: str) -> list[LinkValue]:
        """Return the values in the attributes that are not evidence because they are blocked. Blank values are not
        among them."""
        if attributes == "{}" or not self.has_blocks:
            return []
        blocked: list[LinkValue] = []
        for value, (index, source) in zip(self._values(attributes), self._sources, strict=True):
            text = None if value is None else source.convert(value)
            if text is not None and not source.is_blank(text) and source.is_blocked(text):
                blocked.append(LinkValue(index, storable(text)))
        return blocked

    def _values(self, attributes: str) -> Sequence[Any]:
        """Return the value of each source as JSON has it; None for null and for a value of another kind."""
        try:
            return self._decode(attributes)
        except (msgspec.ValidationError, AttributeError):  # a value of another kind, or null instead of an object
            return [self._value(attributes, source) for _, source in self._sources]

    def _value(self, attributes: str, source: "_Source") -> Any:
        try:
            raw = _raw_at(attributes, source.path)
            return None if raw == _NULL else source.decode(raw)
        except msgspec.ValidationError:
            return None


class _Source:
    """How the value of one identifier is read."""

    def __init__(self, identifier: Identifier, type: Type) -> None:
        self.path: Path = parse_path(identifier.path)
        self.json_type, self.convert = _conversion(type)
        self.decode: Callable[[Raw], Any] = msgspec.json.Decoder(self.json_type).decode
        self._allows_blank = identifier.allows_blank
        self._blocked = frozenset(self._canonical(value) for value in identifier.blocked_values)
        self._presets = [_PRESETS[preset] for preset in identifier.blocked_presets]
        self.has_blocks = bool(self._blocked or self._presets)
        self.is_plain = self.convert is _text_of_string and not self.has_blocks
        """Whether a plain text is its own evidence."""

    def compile(self) -> _Convert:
        """Return a function that returns the evidence of a value as JSON has it."""
        convert, admit, is_plain = self.convert, self._admit, self.is_plain

        def admit_string(value: str) -> str | None:
            """Return a plain value without further checks."""
            if is_plain and _is_plain_text(value):
                return value
            return admit(value)

        def admit_other(value: Any) -> str | None:
            text = convert(value)
            return None if text is None else admit(text)

        return admit_string if convert is _text_of_string else admit_other

    def _admit(self, value: str) -> str | None:
        """Return the evidence of the text of a value; None if it is blank or blocked."""
        if self.is_blank(value) or (self.has_blocks and self.is_blocked(value)):
            return None
        return value if len(value) <= _SHORT and value.isprintable() else storable(value)

    def is_blank(self, value: str) -> bool:
        return not self._allows_blank and (not value or value.isspace())

    def is_blocked(self, value: str) -> bool:
        return value in self._blocked or any(blocks(value) for blocks in self._presets)

    def _canonical(self, value: str) -> str:
        """Return the blocked value as values of the property are written."""
        if self.json_type == str | None:
            return self.convert(value) or value
        try:
            return decimal_text(parse_decimal(value))
        except ValueError:
            return value


def compute_masks(evidence: Evidence) -> list[tuple[LinkValue, int]]:
    """Return the values of the evidence, each with its mask: bit k is set if the stronger identifier k has a value."""
    masks: list[tuple[LinkValue, int]] = []
    mask = 0
    for index, value in enumerate(evidence):
        if value is not None:
            masks.append((LinkValue(index, value), mask))
            mask |= 1 << index
    return masks


def make_links(identity: int, evidence: Evidence) -> list[Link]:
    """Return the links of an identity with this evidence."""
    return [Link(value, identity, mask) for value, mask in compute_masks(evidence)]


def storable(value: str) -> str:
    """Return the value, or a digest of it if it is longer than `MAX_VALUE_BYTES` or has a NUL."""
    encoded = value.encode(errors="surrogatepass")
    if len(encoded) <= MAX_VALUE_BYTES and not value.startswith(_DIGEST_PREFIX) and b"\0" not in encoded:
        return value
    return _DIGEST_PREFIX + blake2b(encoded, digest_size=16).hexdigest()


def _is_plain_text(value: str) -> bool:
    """Return whether the value is certainly neither blank nor replaced by a digest. A text that sorts after "!" does
    not begin with a space."""
    return value > "!" and len(value) <= _SHORT and value.isprintable()


def _is_empty_word(value: str) -> bool:
    return value.strip().lower() in _EMPTY_WORDS


def _is_zeros_and_dashes(value: str) -> bool:
    return not value.strip("0-.+ ") and bool(value.strip())


_PRESETS: Final[dict[BlockedPreset, Callable[[str], bool]]] = {
    "EmptyWords": _is_empty_word,
    "ZerosAndDashes": _is_zeros_and_dashes,
}


def _compile(fields: list[tuple[Path, Any]]) -> tuple[_Decode, _DecodeAll]:
    """Return decoders of the values at these paths, which read only those members.

    The second one decodes the attributes of many identities, and returns None if some have a value of another kind.
    """
    type_ = _struct(fields)
    decode = msgspec.json.Decoder(type_).decode
    decode_list = msgspec.json.Decoder(GenericAlias(list, (type_,))).decode
    names = [".".join(f"_{component}" for component in path) for path, _ in fields]
    get = attrgetter(*names) if names else lambda _decoded: ()
    take = (lambda decoded: (get(decoded),)) if len(names) == 1 else get

    def decode_all(attributes: Sequence[str]) -> list[tuple[Any, ...]] | None:
        try:
            return list(map(take, decode_list(f"[{','.join(attributes)}]")))
        except (msgspec.DecodeError, AttributeError):
            return None

    return lambda attributes: take(decode(attributes)), decode_all


def _struct(fields: list[tuple[Path, Any]]) -> type[msgspec.Struct]:
    """Return a type with the members at these paths, each optional."""
    below: dict[str, list[tuple[Path, Any]]] = {}
    for path, json_type in fields:
        below.setdefault(path[0], []).append((path[1:], json_type))
    members: list[tuple[str, Any, Any]] = []
    for name, inner in below.items():
        if not inner[0][0]:
            json_type = inner[0][1]
            members.append((f"_{name}", json_type, _NULL if json_type is Raw else None))
        else:
            struct = _struct(inner)
            members.append((f"_{name}", struct | None, struct()))
    return msgspec.defstruct("Attributes", members, frozen=True, rename={f"_{name}": name for name in below})


def _raw_at(attributes: str, path: Path) -> Raw:
    raw: str | Raw = attributes
    for name in path:
        if (inner := _members(raw).get(name)) is None:
            return _NULL
        raw = inner
    assert isinstance(raw, Raw), "a path has a component"
    return raw


def _conversion(type: Type) -> tuple[Any, _Convert]:
    """Return the type of a value in JSON, and the conversion to its text."""
    match type:
        case StringType():
            return str | None, _text_of_string
        case IntType(bit_size=64):
            return str | None, _text_of_int64
        case IntType():
            return int | None, str
        case DecimalType():
            return Raw, _text_of_decimal
        case UuidType():
            return str | None, _canonical(canonical_uuid)
        case IpType():
            return str | None, _canonical(canonical_ip)
        case _:
            raise AssertionError(type)


def _text_of_string(value: str) -> str:
    return value


def _text_of_int64(value: str) -> str | None:
    return value if _INT64.fullmatch(value) else None


def _text_of_decimal(value: Raw) -> str | None:
    try:
        return decimal_text(parse_decimal(bytes(value).decode()))
    except ValueError:
        return None


def _canonical(convert: Callable[[str], str]) -> _Convert:
    def text(value: str) -> str | None:
        try:
            return convert(value)
        except ValueError:
            return None

    return text
