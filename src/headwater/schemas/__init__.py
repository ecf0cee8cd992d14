"""Types, schemas, and the values that conform to them. Pure, and below every room but `base`.

schema = parse_schema(text)                     JSON text -> ObjectType, or InvalidType with path and rule
serialise(schema)                               canonical JSON text; parse_schema gives an equal schema back
property_at(schema, "address.zip").type         a property, or PropertyNotFound with the path that is missing
for path, property in walk(schema): ...         everything, through arrays and maps too
prune, without, select, as_source, as_destination    schemas made of schemas
"""

from headwater.schemas.errors import InvalidPath, InvalidType, InvalidValue, PropertyNotFound, SchemaError
from headwater.schemas.names import is_property_name, property_name_of
from headwater.schemas.parsing import parse_schema, parse_type, read_schema, read_type
from headwater.schemas.paths import (
    Path,
    contains_path,
    elements_of,
    is_path,
    parse_path,
    property_at,
    resolve,
    walk,
    walk_objects,
)
from headwater.schemas.patterns import compile_pattern
from headwater.schemas.projections import as_destination, as_source, prune, select, without
from headwater.schemas.serialisation import property_document, serialise, type_document
from headwater.schemas.types import (
    KINDS,
    MAX_DEPTH,
    ArrayType,
    BooleanType,
    DateTimeType,
    DateType,
    DecimalType,
    FloatType,
    IntType,
    IpType,
    JsonType,
    Kind,
    MapType,
    ObjectType,
    Property,
    Schema,
    StringType,
    TimeType,
    Type,
    UuidType,
    YearType,
)

__all__ = [
    "KINDS", "MAX_DEPTH",
    "ArrayType", "BooleanType", "DateTimeType", "DateType", "DecimalType", "FloatType", "IntType", "InvalidPath",
    "InvalidType", "InvalidValue", "IpType", "JsonType", "Kind", "MapType", "ObjectType", "Path", "Property",
    "PropertyNotFound", "Schema", "SchemaError", "StringType", "TimeType", "Type", "UuidType", "YearType",
    "as_destination", "as_source", "compile_pattern", "contains_path", "elements_of", "is_path", "is_property_name",
    "parse_path", "parse_schema", "parse_type", "property_at", "property_document", "property_name_of", "prune",
    "read_schema", "read_type", "resolve", "select", "serialise", "type_document", "walk", "walk_objects", "without",
]  # fmt: skip
