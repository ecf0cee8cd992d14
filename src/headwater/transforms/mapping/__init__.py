"""Mappings: expressions that compute the properties of one record from those of another.

    mapping = CompiledMapping({"email": "lower(traits.email)"}, in_schema, out_schema)    or InvalidMapping
    mapping.apply(record, "Create")                  the output, or MappingFailed: TransformationError, ValidationError
    mapping.apply_all(records)                       outputs and errors, one for each record, one by one
    mapping.in_paths                                 the properties that it reads
    validate_expression(text, properties, type)      "", or why the expression is not valid
    list_properties([(text, type)], schema)          the properties that expressions read
    rename_properties(text, rename)                  the expression with other names of the properties that it reads
    parse(text), print_expression(tree)              syntax trees; a printed tree is parsed into an equal one

`language` parses and prints text, `conversions` converts values between types, `functions` has the functions of the
language, and the compiler combines them. Missing, null and JSON null differ, as everywhere. Expressions represent both
missing and null by None.
"""

from headwater.transforms.mapping.errors import (
    InvalidExpression,
    InvalidMapping,
    MappingFailed,
    TransformationError,
    ValidationError,
)
from headwater.transforms.mapping.functions import FUNCTIONS
from headwater.transforms.mapping.inspection import list_properties, validate_expression
from headwater.transforms.mapping.language.parser import MAX_DEPTH, MAX_LENGTH, parse
from headwater.transforms.mapping.language.printer import print_expression
from headwater.transforms.mapping.mapping import (
    MAX_EXPRESSIONS_CHARACTERS,
    MAX_EXPRESSIONS_PARTS,
    PURPOSES,
    CompiledMapping,
)
from headwater.transforms.mapping.renaming import rename_properties
from headwater.transforms.mapping.requirements import Purpose

__all__ = [
    "FUNCTIONS",
    "MAX_DEPTH",
    "MAX_EXPRESSIONS_CHARACTERS",
    "MAX_EXPRESSIONS_PARTS",
    "MAX_LENGTH",
    "PURPOSES",
    "CompiledMapping",
    "InvalidExpression",
    "InvalidMapping",
    "MappingFailed",
    "Purpose",
    "TransformationError",
    "ValidationError",
    "list_properties",
    "parse",
    "print_expression",
    "rename_properties",
    "validate_expression",
]  # fmt: skip
