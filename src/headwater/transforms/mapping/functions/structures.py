"""The functions that build values of several parts: array, map, json_parse."""

from collections.abc import Callable
from operator import attrgetter
from typing import Any, Final, NamedTuple

from headwater.schemas import (
    JSON_NULL,
    ArrayType,
    InvalidValue,
    Json,
    JsonType,
    MapType,
    ObjectType,
    Type,
    compile_check,
)
from headwater.transforms.limits import MAX_RESULT_CHARACTERS
from headwater.transforms.mapping.conversions.containers import convert_elements
from headwater.transforms.mapping.conversions.texts import check_depth, compile_json_text, quote_json
from headwater.transforms.mapping.errors import CannotEvaluate, InvalidExpression
from headwater.transforms.mapping.evaluation import JSON, Evaluator, Function, Input, Scope, TypedExpression, charge
from headwater.transforms.mapping.language.tree import STRING, Call, Constant, Expression, PathReference
from headwater.transforms.mapping.sizes import SCALAR_CHARACTERS, compile_size, too_large

_ARRAY_OF_JSON: Final = ArrayType(JSON)
_MAP_OF_JSON: Final = MapType(JSON)


def _array(scope: Scope, call: Call, target: Type | None) -> TypedExpression:
    type = target if isinstance(target, ArrayType) else _ARRAY_OF_JSON
    of_json = isinstance(type.element_type, JsonType)
    if not of_json:
        for argument in call.arguments:
            if isinstance(argument, Constant) and argument.value is None:
                raise InvalidExpression(f"null cannot be an element of {type}", argument.offset)
    elements = [scope.compile_to(argument, type.element_type) for argument in call.arguments]
    check, measure_element = compile_check(type), scope.memoize(compile_size, type.element_type)

    def evaluate(given: Input) -> list[Any]:
        size = 0

        def measured(element: Evaluator) -> Any:
            nonlocal size
            value = element(given)
            if value is None:
                return JSON_NULL if of_json else None
            size += SCALAR_CHARACTERS + measure_element(value)
            if size > MAX_RESULT_CHARACTERS:  # before more elements are held
                raise too_large("the array")
            return value

        values = convert_elements(elements, measured)
        check(values)
        return values

    return TypedExpression(type, evaluate)


def _map(scope: Scope, call: Call, target: Type | None) -> TypedExpression:
    if len(call.arguments) % 2:
        raise InvalidExpression("map takes pairs of keys and values", call.offset)
    of_json = isinstance(target, JsonType)
    members: dict[str, _MapMember] = {}
    for key, value in zip(call.arguments[::2], call.arguments[1::2], strict=True):
        if not isinstance(key, Constant) or not isinstance(key.value, str):
            raise InvalidExpression("a key of map must be a string constant", key.offset)
        if key.value in members:
            raise InvalidExpression("the key is given twice", key.offset)
        members[key.value] = _text_member(scope, value) if of_json else _json_member(scope, value)
    if of_json:
        return TypedExpression(JSON, _json_object(members))
    evaluators = [(key, each.evaluate, each.may_be_missing) for key, each in members.items()]

    def evaluate(given: Input) -> dict[str, Json]:
        result: dict[str, Json] = {}
        size = 0
        for key, evaluate_value, may_be_missing in evaluators:
            value = evaluate_value(given)
            if value is not None:
                size += SCALAR_CHARACTERS + len(key) + len(value.text)
                if size > MAX_RESULT_CHARACTERS:  # before more values are held
                    raise too_large("the map")
                result[key] = value
            elif not may_be_missing:
                result[key] = JSON_NULL
        return result

    return TypedExpression(_MAP_OF_JSON, evaluate)


class _MapMember(NamedTuple):
    """The value of a member of a map."""

    evaluate: Evaluator
    may_be_missing: bool
    """Whether there is no member if the value is null."""
    write: Callable[[Any], str] = attrgetter("text")
    """Returns the JSON of a value."""
    is_flat: bool = False
    """Whether its JSON has no arrays and objects."""


def _json_member(scope: Scope, value: Expression) -> _MapMember:
    """Return a member whose values are Json."""
    return _MapMember(scope.compile_to(value, JSON), isinstance(value, PathReference))


def _text_member(scope: Scope, value: Expression) -> _MapMember:
    """Return a member whose values are those of the path, if it is that of a scalar, and Json otherwise."""
    member = _json_member(scope, value)
    if isinstance(value, PathReference):
        typed = scope.compile(value)
        if typed.type is not None and not isinstance(typed.type, JsonType | ArrayType | MapType | ObjectType):
            return _MapMember(typed.evaluate, True, compile_json_text(typed.type), is_flat=True)
    return member


def _json_object(members: dict[str, _MapMember]) -> Evaluator:
    """Return an evaluator of the map as JSON, which is several times as fast as a map and its conversion."""
    evaluators = [
        (f"{quote_json(key)}:", SCALAR_CHARACTERS + len(key), each.evaluate, each.write, each.may_be_missing)
        for key, each in members.items()
    ]
    is_flat = all(each.is_flat for each in members.values())

    def evaluate(given: Input) -> Json:
        texts: list[str] = []
        size = 0
        for start, characters, evaluate_value, write, may_be_missing in evaluators:
            value = evaluate_value(given)
            if value is not None:
                text = write(value)
                size += characters + len(text)
                if size > MAX_RESULT_CHARACTERS:  # before more values are held
                    raise too_large("the map")
                texts.append(start + text)
            elif not may_be_missing:
                texts.append(start + JSON_NULL.text)
        text = f"{{{','.join(texts)}}}"
        return Json(text if is_flat else check_depth(text))

    return evaluate


def _json_parse(scope: Scope, call: Call, target: Type | None) -> TypedExpression:
    argument = scope.compile_argument(call, 0, STRING)

    def evaluate(given: Input) -> Json | None:
        text = argument(given)
        if text is None:
            return None
        charge(given, len(text))
        try:
            return Json.parse(text)
        except InvalidValue as error:
            raise CannotEvaluate(f"the text for json_parse {error.rule}") from None

    return TypedExpression(JSON, evaluate)


FUNCTIONS: Final = {
    "array": Function(0, None, _array),
    "map": Function(0, None, _map),
    "json_parse": Function(1, 1, _json_parse),
}
