"""Rules for the filter and the transformation: their properties must exist, and their results must fit."""

from collections.abc import Collection

from headwater.base.errors import BadRequest, Unprocessable
from headwater.catalog import FunctionDefinition
from headwater.filters import InvalidFilter, check_filter
from headwater.management.bounds import check_expressions
from headwater.management.pipelines.draft import Draft
from headwater.management.pipelines.schema_rules import parent_paths
from headwater.schemas import InvalidPath, PropertyNotFound, Schema, property_at
from headwater.transforms.functions import LANGUAGES, MAX_SOURCE_LENGTH
from headwater.transforms.mapping import CompiledMapping, InvalidMapping


def check_draft_filter(draft: Draft) -> None:
    """Check that the filter fits the input schema, mark its properties as used, and store it in its canonical form."""
    if draft.filter is None:
        return
    if draft.in_schema is None:
        raise BadRequest("filter needs inSchema", field="filter")
    try:
        checked = check_filter(draft.filter, draft.in_schema, role=draft.connection.role, target=draft.target)
    except InvalidFilter as error:
        raise BadRequest(error.message, field=_inside("filter", error.field)) from error
    draft.filter = checked.normal
    draft.used_in.update(checked.paths)


def check_transformation(draft: Draft, languages: Collection[str]) -> None:
    """Check that there is either a mapping or a function, of properties that the schemas have. `languages` are
    supported here."""
    transformation = draft.definition.transformation
    if transformation is None:
        return
    mapping, function = transformation.mapping, transformation.function
    if (mapping is None) == (function is None):
        raise BadRequest("transformation must have either a mapping or a function", field="transformation")
    if draft.in_schema is None:
        raise BadRequest("a transformation needs inSchema", field="inSchema")
    if draft.out_schema is None:
        raise BadRequest("a transformation needs outSchema", field="outSchema")
    if mapping is not None:
        if not mapping:
            raise BadRequest("transformation.mapping must not be empty", field="transformation.mapping")
        check_expressions(mapping.values(), "transformation.mapping")
        try:
            used_in: Collection[str] = CompiledMapping(mapping, draft.in_schema, draft.out_schema).in_paths
        except InvalidMapping as error:
            raise BadRequest(error.message, field=_inside("transformation.mapping", error.field)) from error
        used_out: Collection[str] = mapping
    else:
        assert function is not None
        used_in, used_out = _check_function(function, draft, languages)
    if not used_in and not draft.kind.reads_events:
        raise BadRequest("transformation must use at least one property of inSchema", field="transformation")
    draft.used_in.update(used_in)
    draft.used_out.update(used_out)


def _inside(member: str, field: str | None) -> str:
    return member if field is None else f"{member}.{field}"


def _check_function(
    function: FunctionDefinition, draft: Draft, languages: Collection[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    where = "transformation.function"
    if not function.source:
        raise BadRequest(f"{where}.source is required", field=f"{where}.source")
    if len(function.source) > MAX_SOURCE_LENGTH:
        raise BadRequest(f"{where}.source is longer than {MAX_SOURCE_LENGTH} characters", field=f"{where}.source")
    if "\0" in function.source:
        raise BadRequest(f"{where}.source contains the NUL character", field=f"{where}.source")
    if function.language not in LANGUAGES:
        raise BadRequest(f"{where}.language must be {' or '.join(LANGUAGES)}", field=f"{where}.language")
    if function.language not in languages:
        raise Unprocessable(
            "UnsupportedLanguage", f"functions in {function.language} cannot run here", field=f"{where}.language"
        )
    if not function.in_paths and not draft.kind.reads_events:
        raise BadRequest(f"{where}.inPaths must not be empty", field=f"{where}.inPaths")
    if not function.out_paths:
        raise BadRequest(f"{where}.outPaths must not be empty", field=f"{where}.outPaths")
    _check_paths(function.in_paths, draft.in_schema, f"{where}.inPaths")
    _check_paths(function.out_paths, draft.out_schema, f"{where}.outPaths")
    return function.in_paths, function.out_paths


def _check_paths(paths: tuple[str, ...], schema: Schema | None, member: str) -> None:
    seen: set[str] = set()
    for index, path in enumerate(paths):
        field = f"{member}[{index}]"
        try:
            if schema is not None:
                # Functions receive whole arrays and maps, so no path leads into one.
                property_at(schema, path)
        except (InvalidPath, PropertyNotFound) as error:
            raise BadRequest(f"{field}: {path[:100]!r} {error.rule}", field=field) from error
        if path in seen:
            raise BadRequest(f"{field} is repeated: {path[:100]}", field=field)
        seen.add(path)
    for path in paths:
        parent = next((one for one in parent_paths(path) if one in seen), None)
        if parent is not None:
            raise BadRequest(f"{member} has both {parent} and {path[:100]}, which is inside of it", field=member)
