"""Checks an expression against the schema of its records and its target type, and compiles it to closures.

Every error that types and constants reveal is an InvalidExpression with the position of the invalid part. Compiled
expressions are immutable and have no side effects, so any number of threads may use them.
"""

import difflib
from collections.abc import Callable
from typing import Any, Final, TypeVar

from headwater.schemas import InvalidValue, Json, JsonType, MapType, ObjectType, Schema, StringType, Type
from headwater.transforms.limits import MAX_RESULT_CHARACTERS
from headwater.transforms.mapping.access import Parents, compile_dict_access, compile_json_access, with_charge
from headwater.transforms.mapping.conversions.containers import Conversion
from headwater.transforms.mapping.conversions.conversion import conversion
from headwater.transforms.mapping.conversions.fromjson import Reader, Text, compile_reader, json_to_text
from headwater.transforms.mapping.conversions.matrix import find_mismatch
from headwater.transforms.mapping.conversions.texts import compile_text
from headwater.transforms.mapping.errors import CannotEvaluate, InvalidExpression
from headwater.transforms.mapping.evaluation import (
    Evaluator,
    Function,
    Input,
    TypedExpression,
    constant,
    with_conversion,
)
from headwater.transforms.mapping.functions import FUNCTIONS
from headwater.transforms.mapping.language.parser import parse
from headwater.transforms.mapping.language.printer import path_text, print_expression
from headwater.transforms.mapping.language.tree import STRING, Call, Concatenation, Constant, Expression, PathReference
from headwater.transforms.mapping.sizes import too_large

_T = TypeVar("_T")

_SWEEP_THRESHOLD: Final = 4
"""Maximum number of parts of a concatenation that are joined before their size is checked, which is faster."""


def compile_expression(text: str, schema: Schema | None, target: Type) -> tuple[Evaluator, frozenset[str]]:
    """Return the expression, with its results converted to the target, and the paths of the properties that it reads.

    Results are None if they are null. Raises InvalidExpression.
    """
    compiler = Compiler(schema)
    return compiler.compile_to(parse(text), target), frozenset(compiler.paths)


class Compiler:
    """Compiles expressions on records of one schema. Implements `Scope` for functions."""

    def __init__(self, schema: Schema | None) -> None:
        self._schema = schema
        self._parents: Parents = {}
        self._made: dict[tuple[object, ...], tuple[Any, tuple[Type, ...]]] = {}
        self.paths: set[str] = set()
        """The paths of the properties that were read so far. They end where JSON begins, and skip keys of maps."""

    def compile(self, expression: Expression, target: Type | None = None) -> TypedExpression:
        """Return the compiled expression; see `Scope`."""
        match expression:
            case Constant():
                return TypedExpression(expression.type, constant(expression.value), constant=True)
            case PathReference():
                return self._path(expression)
            case Call():
                return self._call(expression, target)
            case Concatenation():
                return self._concatenation(expression)

    def compile_branch(self, expression: Expression, target: Type) -> tuple[Evaluator, Conversion | None]:
        """Return the expression without conversion, and the conversion of its values to the target."""
        if isinstance(expression, PathReference):
            _, names = self._resolve(expression)
            if _is_inside_json(expression, names):  # its text unchanged, without a Json around it
                return self._compile_json_access(expression, names, _identity), self.memoize(compile_reader, target)
        typed = self.compile(expression, target)
        if typed.type is None:
            return typed.evaluate, None
        reason = self.memoize(find_mismatch, typed.type, target)
        if reason is not None:
            raise InvalidExpression(reason, expression.offset)
        convert = self.memoize(conversion, typed.type, target)
        if not typed.constant or convert is None:
            return typed.evaluate, convert
        assert isinstance(expression, Constant)
        return constant(_convert_constant(expression, convert, target)), None

    def compile_to(self, expression: Expression, target: Type) -> Evaluator:
        """Return the expression with its values converted to the target."""
        if not isinstance(expression, PathReference):
            return with_conversion(*self.compile_branch(expression, target))
        type, names = self._resolve(expression)
        reason = self.memoize(find_mismatch, type, target)
        if reason is not None:
            raise InvalidExpression(reason, expression.offset)
        if _is_inside_json(expression, names):  # converting while reading saves a call
            return self._compile_json_access(expression, names, self.memoize(compile_reader, target))
        convert = self.memoize(conversion, type, target)
        if convert is not None and isinstance(type, JsonType):
            return with_conversion(with_charge(compile_dict_access(names)), convert)
        return compile_dict_access(names, convert)

    def compile_argument(self, call: Call, index: int, target: Type) -> Evaluator:
        """Return an argument of the call, converted to the target."""
        expression = call.arguments[index]
        evaluate = self.compile_to(expression, target)
        if isinstance(expression, Constant) or (
            isinstance(expression, PathReference) and self._has(expression, target)
        ):
            return evaluate  # it cannot fail

        def evaluate_argument(given: Input) -> Any:
            try:
                return evaluate(given)
            except InvalidValue as error:
                raise CannotEvaluate(f"argument {index + 1} of {call.name} {error.rule}") from None

        return evaluate_argument

    def _path(self, path: PathReference) -> TypedExpression:
        type, names = self._resolve(path)
        evaluate = compile_dict_access(names)
        if _is_inside_json(path, names):
            evaluate = self._compile_json_access(path, names, self.memoize(compile_reader, type))
        elif isinstance(type, JsonType):
            evaluate = with_charge(evaluate)
        return TypedExpression(type, evaluate)

    def _compile_json_access(self, path: PathReference, names: list[str], read: Reader) -> Evaluator:
        return compile_json_access(path, len(names), read, self._parents)

    def memoize(self, make: Callable[..., _T], *types: Type) -> _T:
        """Return the result of `make` for the types, computed once for a mapping; see `Scope`."""
        key = (make, *map(id, types))  # hashing or comparing a type takes time linear in its size
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = make(*types), types  # keeps the types alive, so that their ids stay valid
        result: _T = made[0]
        return result

    def _has(self, path: PathReference, target: Type) -> bool:
        """Return whether the values at the path already are of the target type."""
        type, names = self._resolve(path)
        return not _is_inside_json(path, names) and self.memoize(conversion, type, target) is None

    def _resolve(self, path: PathReference) -> tuple[Type, list[str]]:
        """Return the type at the path, and its steps through objects and maps; the other steps are inside JSON."""
        if self._schema is None:
            raise InvalidExpression(f"there are no properties, so {path_text(path, 1)} does not exist", path.offset)
        type: Type = self._schema
        names: list[str] = []
        properties: list[str] = []
        for index, step in enumerate(path.steps):
            match type:
                case JsonType():
                    break
                case ObjectType():
                    property = type.get(step.name)
                    if property is None:
                        raise InvalidExpression(f"{path_text(path, index + 1)} does not exist", step.offset)
                    properties.append(step.name)
                    type = property.type
                case MapType():
                    type = type.element_type
                case _:
                    raise InvalidExpression(
                        f"{path_text(path, index)} is {type} and has no properties or keys", step.offset
                    )
            if step.optional:
                raise InvalidExpression("? is allowed only after a key inside a json value", step.offset)
            names.append(step.name)
        self.paths.add(".".join(properties))
        return type, names

    def _call(self, call: Call, target: Type | None) -> TypedExpression:
        function = FUNCTIONS.get(call.name)
        if function is None:
            near = difflib.get_close_matches(call.name[:40], FUNCTIONS, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise InvalidExpression(f"there is no function {call.name[:40]}{hint}", call.offset)
        count = len(call.arguments)
        if count < function.minimum or (function.maximum is not None and count > function.maximum):
            raise InvalidExpression(f"{call.name} takes {_arity(function)}, and has {count}", call.offset)
        return function.compile(self, call, target)

    def _concatenation(self, concatenation: Concatenation) -> TypedExpression:
        parts = [self._text_part(part) for part in concatenation.parts]

        def concatenate_few(given: Input) -> str:
            text = "".join([part(given) for part in parts])
            if len(text) > MAX_RESULT_CHARACTERS:
                raise too_large("the concatenation")
            return text

        def concatenate(given: Input) -> str:
            texts: list[str] = []
            size = 0
            for part in parts:
                text = part(given)
                size += len(text)
                if size > MAX_RESULT_CHARACTERS:  # before more texts are held
                    raise too_large("the concatenation")
                texts.append(text)
            return "".join(texts)

        return TypedExpression(STRING, concatenate_few if len(parts) <= _SWEEP_THRESHOLD else concatenate)

    def _text_part(self, part: Expression) -> Evaluator:
        typed = self.compile(part, STRING)
        if typed.type is None:
            return constant("")
        reason = self.memoize(find_mismatch, typed.type, STRING)
        if reason is not None:
            raise InvalidExpression(reason, part.offset)
        evaluate = typed.evaluate
        write: Callable[[Any], str] = (
            _json_value_to_text if isinstance(typed.type, JsonType) else compile_text(typed.type)
        )
        if typed.constant:
            return constant(write(evaluate(Input({}, {}))))
        if isinstance(typed.type, StringType):
            if isinstance(part, PathReference) and len(part.steps) == 1:
                name = part.steps[0].name
                return lambda given: given.record.get(name) or ""  # type: ignore[return-value]  # it is a text
            return lambda given: evaluate(given) or ""

        if isinstance(part, PathReference):
            _, names = self._resolve(part)
            if _is_inside_json(part, names):
                evaluate, write = self._compile_json_access(part, names, _identity), json_to_text

        def evaluate_part(given: Input) -> str:
            value = evaluate(given)
            try:
                return "" if value is None else write(value)
            except InvalidValue as error:
                raise CannotEvaluate(f"{print_expression(part)} {error.rule}") from None

        return evaluate_part


def _convert_constant(constant: Constant, convert: Conversion, target: Type) -> Any:
    shown = print_expression(constant)
    if len(shown) > 60:
        shown = f"{shown[:60]}…"
    try:
        value = convert(constant.value)
    except InvalidValue as error:
        raise InvalidExpression(f"{shown} cannot be converted to {target}: it {error.rule}", constant.offset) from error
    if value is None:
        raise InvalidExpression(f"{shown} cannot be converted to {target}", constant.offset)
    return value


def _is_inside_json(path: PathReference, names: list[str]) -> bool:
    return len(names) < len(path.steps)


def _identity(raw: Text) -> Text:
    return raw


def _json_value_to_text(value: Json) -> str:
    return json_to_text(value.text.encode())


def _arity(function: Function) -> str:
    if function.maximum == function.minimum:
        return "1 argument" if function.minimum == 1 else f"{function.minimum} arguments"
    if function.maximum is None:
        return f"{function.minimum} or more arguments"
    return f"{function.minimum} to {function.maximum} arguments"
