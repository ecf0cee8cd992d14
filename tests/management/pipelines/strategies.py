"""Generates valid pipelines: profiles of any schema, to and from the other side, through a mapping or a function."""

from dataclasses import replace
from typing import Any, Final

from hypothesis import strategies as st

from headwater.catalog import Matching, TransformationDefinition
from headwater.filters import Condition, Filter
from headwater.schemas import DateTimeType, ObjectType, Property, StringType, Type, as_destination
from headwater.transforms.mapping import FUNCTIONS
from tests.management.pipelines.examples import EXAMPLES, TEXT, function, mapped
from tests.schemas.strategies import profile_schemas

KEY: Final = "identifier"
"""Longer than the names that are generated."""
_WORDS: Final = frozenset((*FUNCTIONS, "true", "false", "null"))

_characters = st.characters(codec="utf-8", exclude_characters="\0$")
_texts = st.text(_characters, min_size=1, max_size=30)


def _profiles() -> st.SearchStrategy[ObjectType]:
    key = Property(KEY, TEXT, read_optional=True)
    return (
        profile_schemas()
        .filter(lambda schema: _WORDS.isdisjoint(property.name for property in schema))
        .map(lambda schema: ObjectType((key, *schema)))
    )


def _filters() -> st.SearchStrategy[Filter]:
    conditions = st.one_of(
        st.builds(lambda value: Condition(KEY, "is not", (value,)), _texts),
        st.builds(lambda values: Condition(KEY, "is one of", tuple(values)), st.lists(_texts, min_size=1, max_size=3)),
    )
    return st.builds(
        lambda logical, all_: Filter(logical, tuple(all_)),
        st.sampled_from(("and", "or")),
        st.lists(conditions, min_size=1, max_size=3),
    )


@st.composite
def _transformations(draw: st.DrawFn, inside: tuple[str, ...], outside: tuple[str, ...]) -> TransformationDefinition:
    if draw(st.booleans()):
        return mapped(**dict(zip(outside, inside, strict=True)))
    return function(
        language=draw(st.sampled_from(("JavaScript", "Python"))),
        source=draw(_texts),
        preserve_json=draw(st.booleans()),
        in_paths=inside,
        out_paths=outside,
    )


@st.composite
def pipelines(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A kind, and all the members of a valid pipeline of it."""
    kind = draw(st.sampled_from([*EXAMPLES]))
    members: dict[str, Any] = {**EXAMPLES[kind].least}
    if kind in ("SE", "DV", "SU"):
        for given in draw(st.lists(st.sampled_from([*EXAMPLES[kind].optional.values()]), max_size=2)):
            members.update(given)
        if kind == "SU" and draw(st.booleans()):
            profile = draw(_profiles())
            names = tuple(property.name for property in profile)
            members |= {"outSchema": profile, "transformation": mapped(**{name: f"traits.{name}" for name in names})}
        return kind, members
    for member in ("query", "path", "tableName"):
        if member in members:
            members[member] = draw(_texts)
    for member, values in (
        ("compression", ("", "Zip", "Gzip", "Snappy")),
        ("exportMode", ("CreateOnly", "UpdateOnly", "CreateOrUpdate")),
        ("updateOnDuplicates", (True, False)),
    ):
        if member in members or member in EXAMPLES[kind].optional:
            members[member] = draw(st.sampled_from(values))
    if "format" in members and draw(st.booleans()):
        sheet = draw(st.text(st.sampled_from("aZ é'1"), max_size=9))
        members |= {"format": "excel", "sheet": f"x{sheet}x"}
        members["formatSettings"] = {"hasColumnNames": True} if kind == "SF" else None
    if "filter" in EXAMPLES[kind].optional:
        members["filter"] = draw(st.none() | _filters())
    profile = draw(_profiles())
    other = as_destination(profile)
    assert other is not None
    names = tuple(property.name for property in profile)
    if kind in ("SA", "SD", "SF"):
        columns: tuple[Property, ...] = tuple(other)
        if kind != "SA":
            columns = (*columns, Property("_id", TEXT))
            members["userIDColumn"] = "_id"
            members |= {"updatedAtColumn": None, "updatedAtFormat": None, "incremental": False}
            if draw(st.booleans()):
                type_: Type = DateTimeType() if draw(st.booleans()) else TEXT
                columns = (*columns, Property("_at", type_, nullable=draw(st.booleans())))
                members |= {"updatedAtColumn": "_at", "incremental": draw(st.booleans())}
                if isinstance(type_, StringType):
                    members["updatedAtFormat"] = draw(st.sampled_from(("ISO8601", "%Y")))
        members |= {"inSchema": ObjectType(columns), "outSchema": profile}
        members["transformation"] = draw(_transformations(names, names))
    elif kind == "DF":
        members |= {"inSchema": profile, "orderBy": KEY}
    else:
        members["inSchema"] = profile
        first, *rest = other
        if kind == "DD":
            members |= {"tableKey": KEY, "outSchema": ObjectType((replace(first, create_required=True), *rest))}
            members["transformation"] = draw(_transformations(names, names))
        else:
            members |= {"matching": Matching(KEY, "_key"), "outSchema": ObjectType((*other, Property("_key", TEXT)))}
            members["transformation"] = draw(_transformations(names, names))
    return kind, members
