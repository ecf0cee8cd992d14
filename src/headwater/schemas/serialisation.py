"""Writes types and schemas in their canonical JSON form: one text for each type, in the documented order of keys,
without redundant members. `parsing` reads it back into an equal type."""

from decimal import Decimal

import msgspec
from msgspec import Raw

from headwater.schemas import types as t
from headwater.schemas.decimals import decimal_text
from headwater.schemas.floats import float_text

_encode = msgspec.json.Encoder().encode


def serialise(type: t.Type | t.Schema | None) -> bytes:
    """Return the canonical JSON text in UTF-8; `null` for no schema."""
    return b"null" if type is None else _encode(type_document(type))


def type_document(type: t.Type) -> dict[str, object]:
    """Return the members of the canonical form, for a document that contains it. Encode it with msgspec: bounds are
    exact texts (`msgspec.Raw`), which the standard library's `json` does not encode."""
    document: dict[str, object] = {"kind": type.kind}
    match type:
        case t.StringType():
            _put(document, maxBytes=type.max_bytes, maxLength=type.max_length, pattern=type.pattern, values=type.values)
        case t.IntType():
            document["bitSize"] = type.bit_size
            _put(document, unsigned=type.unsigned or None, minimum=type.minimum, maximum=type.maximum)
        case t.FloatType():
            document["bitSize"] = type.bit_size
            bounds = [None if bound is None else _float(bound, type) for bound in (type.minimum, type.maximum)]
            _put(document, real=type.real or None, minimum=bounds[0], maximum=bounds[1])
        case t.DecimalType():
            _put(document, minimum=_decimal(type.minimum), maximum=_decimal(type.maximum))
            document["precision"] = type.precision
            _put(document, scale=type.scale or None)
        case t.ArrayType():
            _put(
                document,
                minElements=type.min_elements or None,
                maxElements=None if type.max_elements == t.MAX_ELEMENTS else type.max_elements,
                uniqueElements=type.unique_elements or None,
            )
            document["elementType"] = type_document(type.element_type)
        case t.MapType():
            document["elementType"] = type_document(type.element_type)
        case t.ObjectType():
            document["properties"] = [property_document(property) for property in type.properties]
        case _:
            pass
    return document


def property_document(property: t.Property) -> dict[str, object]:
    """Return the members of a property's canonical form."""
    document: dict[str, object] = {"name": property.name}
    _put(document, prefilled=property.prefilled or None)
    document["type"] = type_document(property.type)
    _put(
        document,
        createRequired=property.create_required or None,
        updateRequired=property.update_required or None,
        readOptional=property.read_optional or None,
        nullable=property.nullable or None,
    )
    document["description"] = property.description
    return document


def _put(document: dict[str, object], **members: object) -> None:
    document.update((name, value) for name, value in members.items() if value is not None)


def _float(bound: float, type: t.FloatType) -> Raw:
    return Raw(float_text(bound, type.bit_size).encode())


def _decimal(bound: Decimal | None) -> Raw | None:
    return None if bound is None else Raw(decimal_text(bound).encode())
