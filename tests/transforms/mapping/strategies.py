"""Strategies for expressions: trees of any shape, and pairs of convertible types."""

from dataclasses import replace
from decimal import Decimal

from hypothesis import strategies as st

from headwater.schemas import types as t
from headwater.transforms.mapping.conversions.matrix import find_mismatch
from headwater.transforms.mapping.functions import FUNCTIONS
from headwater.transforms.mapping.language.tree import (
    BOOLEAN,
    INT32,
    NUMBER,
    STRING,
    Call,
    Concatenation,
    Constant,
    Expression,
    Part,
    PathReference,
    Step,
)
from tests.schemas import strategies as schemas

_texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)
_names = schemas.names | st.sampled_from(["true", "null", "if", "e1", "x"])

constants = st.one_of(
    _texts.map(lambda value: Constant(value, STRING)),
    st.integers(-(2**31), 2**31 - 1).map(lambda value: Constant(value, INT32)),
    st.builds(
        lambda digits, scale: Constant(Decimal(digits).scaleb(-scale).normalize() + 0, NUMBER),
        st.integers(-(10**20), 10**20),
        st.integers(0, 8),
    ),
    st.booleans().map(lambda value: Constant(value, BOOLEAN)),
    st.just(Constant(None, None)),
)


def steps(names: st.SearchStrategy[str]) -> st.SearchStrategy[Step]:
    """Steps with these names, marked as optional or not."""
    return st.builds(Step, names, st.booleans())


paths = st.builds(
    lambda first, others: PathReference((first, *others)),
    steps(_names),
    st.lists(steps(_names | _texts), max_size=3),
)


def _without_neighbours(parts: list[Part]) -> Expression:
    """A concatenation of the parts, with adjacent strings joined, as the parser does."""
    kept: list[Part] = []
    for part in parts:
        if not (kept and _is_string(part) and _is_string(kept[-1])):
            kept.append(part)
    return kept[0] if len(kept) == 1 else Concatenation(tuple(kept))


def _is_string(part: Part) -> bool:
    return isinstance(part, Constant) and isinstance(part.value, str)


def expressions(
    paths: st.SearchStrategy[PathReference], names: st.SearchStrategy[str] | None = None
) -> st.SearchStrategy[Expression]:
    """Expressions of these paths and functions, by default all."""
    functions = st.sampled_from(sorted(FUNCTIONS)) if names is None else names

    def larger(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
        calls = st.builds(lambda name, arguments: Call(name, tuple(arguments)), functions, st.lists(inner, max_size=3))
        parts = st.lists(st.one_of(constants, paths, calls), min_size=2, max_size=4)
        return calls | parts.map(_without_neighbours)

    return st.recursive(constants | paths, larger, max_leaves=8)


@st.composite
def convertible_types(draw: st.DrawFn) -> tuple[t.Type, t.Type]:
    """Two types, of which the first can become the second, as far as types can tell."""
    match draw(st.integers(0, 5)):
        case 0:
            pair: tuple[t.Type, t.Type] = (t.JsonType(), draw(schemas.types()))
        case 1:
            pair = (draw(schemas.types()), t.JsonType())
        case 2:
            pair = (t.StringType(), draw(schemas.scalar_types()))
        case 3:
            pair = (draw(schemas.scalar_types()), t.StringType(max_length=draw(st.integers(1, 30))))
        case 4:
            numbers = schemas.scalar_types().filter(lambda type: type.kind in ("int", "float", "decimal"))
            pair = (draw(numbers | st.just(t.FloatType(64))), draw(numbers))
        case _:
            pair = (draw(schemas.types()), draw(schemas.types()))
    return pair if find_mismatch(*pair) is None else (pair[0], pair[0])


def references(schema: t.ObjectType) -> st.SearchStrategy[PathReference]:
    """References to the properties of the schema, some of them followed by keys."""
    first = st.sampled_from([property.name for property in schema])
    more = st.lists(steps(st.sampled_from(["a", "b", "c"])), max_size=1)
    return st.builds(lambda name, others: PathReference((Step(name), *others)), first, more)


def lenient(type: t.Type) -> t.Type:
    """Return the type with properties that may all be missing, as in written records."""
    match type:
        case t.ArrayType() | t.MapType():
            return replace(type, element_type=lenient(type.element_type))
        case t.ObjectType():
            return t.ObjectType(tuple(replace(each, type=lenient(each.type), read_optional=True) for each in type))
        case _:
            return type
