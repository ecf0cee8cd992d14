"""Types, schemas, and the values that conform to them. The package is pure and depends on `base` only.

    schema = parse_schema(text)                          JSON text -> ObjectType, or InvalidType with path and rule
    serialise(schema)                                    canonical JSON text; parse_schema returns an equal schema
    property_at(schema, "address.zip").type              a property, or PropertyNotFound with the missing path
    for path, property in walk(schema): ...              every property, also inside arrays and maps
    prune, without, select, as_source, as_destination    schemas derived from schemas
    codec = Codec(schema)                                compile it once and keep it
    record = codec.decode(text)                          JSON text -> dict, or InvalidValue with path and rule
    codec.encode(record)                                 canonical JSON text; decode returns an equal record
    misalignment(stored, offered, mode)                  the first difference between two schemas
    EVENT_SCHEMA                                         the schema of events for filters and mappings

Values are plain Python (`values` has the table), plus three classes: `DateTime` and `Time`, which have nanoseconds, and
`Json`, which is text. A missing property has no key, null is None, and JSON's null is `JSON_NULL`. `value_at` returns
MISSING if there is no value. An optional schema, the documentation's invalid type, is `Schema | None`. Every error is a
BadRequest with `path` and `rule`.
"""

from headwater.schemas.alignment import ExportMode, Misalignment, misalignment
from headwater.schemas.codec import Codec
from headwater.schemas.constraints import Check, compile_check
from headwater.schemas.datetimes import DateTime, Time
from headwater.schemas.decimals import decimal_text, parse_decimal
from headwater.schemas.documents import RecordWriter, compile_columns_writer, compile_writer
from headwater.schemas.errors import InvalidPath, InvalidType, InvalidValue, PropertyNotFound, SchemaError
from headwater.schemas.eventschema import EVENT_SCHEMA
from headwater.schemas.floats import TEXT_EXPONENT, float_text, to_float32
from headwater.schemas.json_value import JSON_NULL, MAX_JSON_DEPTH, Json
from headwater.schemas.names import is_property_name, suggest_property_name
from headwater.schemas.normalising import compile_normaliser, compile_property, describe_problem
from headwater.schemas.normalising_rows import compile_row_normaliser, compile_rows_normaliser
from headwater.schemas.parsing import parse_schema, parse_type, read_schema, read_type
from headwater.schemas.paths import (
    Path,
    check_size,
    contains_path,
    is_path,
    parse_path,
    property_at,
    resolve,
    unwrap_elements,
    walk,
    walk_objects,
)
from headwater.schemas.patterns import compile_pattern
from headwater.schemas.profile import check_profile_schema, name_column
from headwater.schemas.projections import all_optional, as_destination, as_source, prune, select, without
from headwater.schemas.serialisation import property_document, serialise, type_document
from headwater.schemas.table import Table
from headwater.schemas.types import (
    KINDS,
    MAX_DEPTH,
    MAX_PROPERTIES,
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
from headwater.schemas.values import MISSING, Missing, Record, Value, canonical_ip, canonical_uuid, value_at

__all__ = [
    "EVENT_SCHEMA",
    "JSON_NULL",
    "KINDS",
    "MAX_DEPTH",
    "MAX_JSON_DEPTH",
    "MAX_PROPERTIES",
    "MISSING",
    "TEXT_EXPONENT",
    "ArrayType",
    "BooleanType",
    "Check",
    "Codec",
    "DateTime",
    "DateTimeType",
    "DateType",
    "DecimalType",
    "ExportMode",
    "FloatType",
    "IntType",
    "InvalidPath",
    "InvalidType",
    "InvalidValue",
    "IpType",
    "Json",
    "JsonType",
    "Kind",
    "MapType",
    "Misalignment",
    "Missing",
    "ObjectType",
    "Path",
    "Property",
    "PropertyNotFound",
    "Record",
    "RecordWriter",
    "Schema",
    "SchemaError",
    "StringType",
    "Table",
    "Time",
    "TimeType",
    "Type",
    "UuidType",
    "Value",
    "YearType",
    "all_optional",
    "as_destination",
    "as_source",
    "canonical_ip",
    "canonical_uuid",
    "check_profile_schema",
    "check_size",
    "compile_check",
    "compile_columns_writer",
    "compile_normaliser",
    "compile_pattern",
    "compile_property",
    "compile_row_normaliser",
    "compile_rows_normaliser",
    "compile_writer",
    "contains_path",
    "decimal_text",
    "describe_problem",
    "float_text",
    "is_path",
    "is_property_name",
    "misalignment",
    "name_column",
    "parse_decimal",
    "parse_path",
    "parse_schema",
    "parse_type",
    "property_at",
    "property_document",
    "prune",
    "read_schema",
    "read_type",
    "resolve",
    "select",
    "serialise",
    "suggest_property_name",
    "to_float32",
    "type_document",
    "unwrap_elements",
    "value_at",
    "walk",
    "walk_objects",
    "without",
]  # fmt: skip
