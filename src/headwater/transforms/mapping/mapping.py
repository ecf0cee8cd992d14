"""A mapping: for each path of an output schema, the expression that computes its value.

It is checked and compiled as a whole, once, and applied to any number of records. Each output conforms to the output
schema; otherwise there is an error for that record alone. Records are not changed, but outputs may share parts with
them.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Mapping as Dictionary
from typing import Any, Final, NamedTuple

import structlog
from msgspec import UNSET

from headwater.base.throttle import Throttle
from headwater.schemas import (
    InvalidValue,
    ObjectType,
    Property,
    PropertyNotFound,
    Record,
    RecordWriter,
    Schema,
    Table,
    Type,
    compile_columns_writer,
    compile_writer,
    is_path,
    parse_path,
    property_at,
)
from headwater.transforms.limits import MAX_RESULT_CHARACTERS
from headwater.transforms.mapping.columns import compile_column
from headwater.transforms.mapping.compiler import Compiler
from headwater.transforms.mapping.errors import (
    CannotEvaluate,
    InvalidExpression,
    InvalidMapping,
    MappingFailed,
    TransformationError,
    ValidationError,
    quoted,
)
from headwater.transforms.mapping.evaluation import Evaluator, Input
from headwater.transforms.mapping.language.parser import parse
from headwater.transforms.mapping.language.tree import Expression, count_parts
from headwater.transforms.mapping.requirements import Purpose, Requirement, list_requirements
from headwater.transforms.mapping.sizes import Size, compile_size, find_max_size

MAX_EXPRESSIONS_CHARACTERS: Final = 200_000
"""Maximum size of all expressions of a mapping together, in characters. It bounds the time to compile it and to apply
it."""
MAX_EXPRESSIONS_PARTS: Final = 5_000
"""Maximum number of constants, paths and calls in all expressions of a mapping together. Each takes about 1.5 KB in
every worker, and up to half a microsecond for each record."""
MAX_TOGETHER_PARTS: Final = 100
"""Maximum number of constants, paths and calls of a mapping whose outputs are computed for many records together. It
bounds the memory: each part can give a value as large as all that a record has."""
_MAX_KNOWN_CHARACTERS: Final = MAX_RESULT_CHARACTERS // 2
_TOO_LARGE: Final = f"makes the results of the record larger than {MAX_RESULT_CHARACTERS} characters together"
_log = structlog.get_logger(__name__)
_throttle: Final = Throttle()

PURPOSES: Final[tuple[Purpose, ...]] = ("Import", "Create", "Update")


def check_length(expressions: Iterable[str]) -> None:
    """Raise InvalidMapping if the expressions are longer than MAX_EXPRESSIONS_CHARACTERS together."""
    if sum(map(len, expressions)) > MAX_EXPRESSIONS_CHARACTERS:
        raise InvalidMapping(f"the expressions must have at most {MAX_EXPRESSIONS_CHARACTERS} characters together")


TableWriter = Callable[[Table], list[str] | None]
"""Returns the outputs of records as JSON, or None."""


class _Output(NamedTuple):
    parents: tuple[str, ...]
    name: str
    evaluate: Evaluator
    nullable: bool
    type: Type
    path: str
    expression: str


class CompiledMapping:
    """A mapping that is ready for records. It is immutable: any number of threads may use it."""

    def __init__(self, expressions: Dictionary[str, str], in_schema: Schema | None, out_schema: Schema) -> None:
        """Compile the expressions, given by output path, in their order.

        Without an input schema they can use constants only. Raises InvalidMapping with the invalid path as its `field`.
        """
        if not expressions:
            raise InvalidMapping("a mapping must have at least one expression")
        check_length(expressions.values())
        properties = _out_properties(expressions, out_schema)
        trees, self._parts = _parse(expressions)
        self._trees, self._in_schema = trees, in_schema
        compiler = Compiler(in_schema)
        outputs: list[_Output] = []
        for path, expression in expressions.items():
            property = properties[path]
            try:
                evaluate = compiler.compile_to(trees[path], property.type)
            except InvalidExpression as error:
                raise _invalid(path, expression, error) from error
            *parents, name = parse_path(path)
            outputs.append(_Output(tuple(parents), name, evaluate, property.nullable, property.type, path, expression))
        self.in_paths: Final = tuple(sorted(compiler.paths))
        """The paths of the properties that the expressions read."""
        self.out_paths: Final = tuple(expressions)
        self._outputs: Final = tuple(outputs)
        sizes, self._known_size = _sizes(outputs)
        self._plan: Final = [
            (each.evaluate, each.nullable, each.name, each.parents, size, each)
            for each, size in zip(outputs, sizes, strict=True)
        ]
        self._requirements: Final[dict[Purpose, tuple[Requirement, ...]]] = {
            purpose: list_requirements(self.out_paths, out_schema, purpose) for purpose in PURPOSES
        }

    def apply(self, record: Record, purpose: Purpose = "Import") -> Record:
        """Return the output for the record, which conforms to the input schema.

        Raises only MappingFailed, also for an output of more than MAX_RESULT_CHARACTERS. Texts and elements are counted
        before they are joined, and properties while they are computed, so no larger output is ever held.
        """
        result: Record = {}
        size = self._known_size
        output = self._outputs[0]
        given = Input(record, {})
        try:
            for evaluate, nullable, name, parents, measure_value, output in self._plan:  # noqa: B007  # for the error message
                value = evaluate(given)
                if value is not None or nullable:
                    if measure_value is not None and value is not None:
                        size += measure_value(value)
                        if size > MAX_RESULT_CHARACTERS:
                            raise InvalidValue(_TOO_LARGE)
                    if parents:
                        _inside(result, parents)[name] = value
                    else:
                        result[name] = value
        except CannotEvaluate as error:
            raise TransformationError(str(error), expression=output.expression, path=output.path) from None
        except InvalidValue as error:
            where = f"the result at {error.path}" if error.path else "the result"
            reason = f"{where} {error.rule}"
            raise ValidationError(reason, expression=output.expression, path=output.path) from None
        except Exception as error:  # a bug, which must affect this record only
            reason = "a value is nested too deeply"
            if not isinstance(error, RecursionError):
                kind = type(error).__name__
                if count := _throttle.passes((output.expression, kind)):
                    _log.warning("an expression fails", path=output.path, error=kind, count=count)
                reason = "it cannot be computed for this record"
            raise TransformationError(reason, expression=output.expression, path=output.path) from error
        if requirements := self._requirements[purpose]:
            self._check(result, requirements, purpose)
        return result

    def compile_writer(self, out_schema: Schema) -> RecordWriter:
        """Return a function that writes the output of an import for a record as JSON, of this schema.

        It raises MappingFailed, as `apply`, and UnicodeEncodeError for a text with lone surrogates.
        """
        write, apply = compile_writer(out_schema), self.apply
        return lambda record: write(apply(record))

    def compile_table_writer(self, out_schema: Schema) -> TableWriter | None:
        """Return a function that writes the outputs of many records, property by property. It takes half of the time
        of `compile_writer`, and returns None if one of the records fails.

        Return None if a property is inside another one, or if the outputs of many records could exceed the memory.
        """
        plan = {each[-1].path: each for each in self._plan}
        is_flat = all(property in out_schema.by_name for property in plan)
        in_schema = self._in_schema
        if in_schema is None or not is_flat or self._parts > MAX_TOGETHER_PARTS or self._requirements["Import"]:
            return None
        written = [property for property in out_schema if property.name in plan]
        write_columns = compile_columns_writer(ObjectType(tuple(written)))
        ordered = [
            (compile_column(self._trees[name], in_schema, plan[name][-1].type), *plan[name])
            for name in (property.name for property in written)
        ]
        known_size = self._known_size

        def write(table: Table) -> list[str] | None:
            given: list[Input] = []
            size = known_size
            columns: list[Sequence[Any]] = []
            try:
                for evaluate_column, evaluate, nullable, _, _, measure_value, _ in ordered:
                    if evaluate_column is not None:
                        values = evaluate_column(table)
                    else:
                        given = given or [Input(record, {}) for record in table.records]
                        values = list(map(evaluate, given))
                    has_null = None in values
                    if measure_value is not None:
                        present = [value for value in values if value is not None] if has_null else values
                        size += max(map(measure_value, present), default=0)
                    if has_null and not nullable:
                        values = [UNSET if value is None else value for value in values]
                    columns.append(values)
                return write_columns(columns) if size <= MAX_RESULT_CHARACTERS else None
            except Exception:
                return None  # `compile_writer` names the record, the expression and the property at fault

        return write

    def apply_all(self, records: Iterable[Record], purpose: Purpose = "Import") -> Iterator[Record | MappingFailed]:
        """Yield the output of each record, or the reason why there is none.

        Outputs are computed during iteration. Encode each before taking the next, because together they may exceed the
        memory. Never raises for a record.
        """
        apply = self.apply
        for record in records:
            try:
                yield apply(record, purpose)
            except MappingFailed as error:
                yield error

    def _check(self, result: Record, requirements: tuple[Requirement, ...], purpose: Purpose) -> None:
        action = "creation" if purpose == "Create" else "update"
        for requirement in requirements:
            missing = requirement.missing(result)
            if missing is not None:
                sources = {output.path: output.expression for output in self._outputs}
                raise ValidationError(
                    f"{missing} is required for {action}", expression=sources[requirement.source], path=missing
                )


def _sizes(outputs: list[_Output]) -> tuple[list[Size | None], int]:
    """Return the measure of each output, None if its type bounds the size; and the sum of these bounds."""
    bounds = [find_max_size(output.type) for output in outputs]
    bounds = [None if bound is None or bound > _MAX_KNOWN_CHARACTERS else bound for bound in bounds]
    known = sum(bound or 0 for bound in bounds)
    if known > _MAX_KNOWN_CHARACTERS:
        return [compile_size(output.type) for output in outputs], 0
    sizes = [compile_size(each.type) if bound is None else None for each, bound in zip(outputs, bounds, strict=True)]
    return sizes, known


def _parse(expressions: Dictionary[str, str]) -> tuple[dict[str, Expression], int]:
    """Return the trees of the expressions by output path, and the number of their parts. They are counted before any is
    compiled, which takes much longer."""
    trees: dict[str, Expression] = {}
    parts = 0
    for path, expression in expressions.items():
        try:
            trees[path] = parse(expression)
        except InvalidExpression as error:
            raise _invalid(path, expression, error) from error
        parts += count_parts(trees[path])
        if parts > MAX_EXPRESSIONS_PARTS:
            raise InvalidMapping(
                f"the expressions must have at most {MAX_EXPRESSIONS_PARTS} constants, paths and calls together",
                field=path,
            )
    return trees, parts


def _invalid(path: str, expression: str, error: InvalidExpression) -> InvalidMapping:
    message = f"the expression {quoted(expression)} for {quoted(path)} is not valid: {error.message}"
    return InvalidMapping(message, field=path)


def _inside(result: Record, parents: tuple[str, ...]) -> dict[str, Any]:
    here: dict[str, Any] = result
    for parent in parents:
        here = here.setdefault(parent, {})
    return here


def _out_properties(paths: Iterable[str], schema: Schema) -> dict[str, Property]:
    properties: dict[str, Property] = {}
    for path in paths:
        if not is_path(path):
            raise InvalidMapping(f"{quoted(path)} is not a property path", field=path)
        try:
            properties[path] = property_at(schema, path)
        except PropertyNotFound as error:
            raise InvalidMapping(f"the output schema has no {quoted(path)}: {error.message}", field=path) from error
    for path in properties:
        for point, character in enumerate(path):
            if character == "." and path[:point] in properties:
                raise InvalidMapping(
                    f"{quoted(path)} is inside {quoted(path[:point])}, which is mapped too", field=path
                )
    return properties
