"""Rules for single members: whether a member is allowed, whether it is required, and its valid values."""

from typing import Final, get_args

from headwater.base.errors import BadRequest, Unprocessable
from headwater.connectors.connector import Connector
from headwater.management.pipelines.draft import MEMBERS, Draft
from headwater.runs.compression import Compression
from headwater.runs.placeholders import check_placeholders, has_placeholders
from headwater.schemas import (
    DateTimeType,
    DateType,
    IntType,
    InvalidPath,
    IpType,
    JsonType,
    Property,
    PropertyNotFound,
    Schema,
    StringType,
    UuidType,
    is_property_name,
    property_at,
)

_MAX_CHARACTERS: Final = {
    "query": 1_000,
    "path": 1_024,
    "sheet": 31,
    "order_by": 1_024,
    "user_id_column": 1_024,
    "updated_at_column": 1_024,
    "updated_at_format": 64,
    "table_name": 1_024,
    "table_key": 1_024,
}
"""Maximum lengths in code points."""
_MAX_EVENT_TYPE_CHARACTERS: Final = 100

_COMPRESSIONS: Final[tuple[str, ...]] = get_args(Compression)
_EXPORT_MODES: Final = ("CreateOnly", "UpdateOnly", "CreateOrUpdate")
_SHEET_FORBIDDEN: Final = frozenset("*/:?[\\]")

_IDENTIFYING: Final = (StringType, IntType, UuidType)
_SORTABLE: Final = (StringType, IntType, UuidType, IpType)


def check_event_type(draft: Draft) -> None:
    """Check that exactly the pipelines that send events have an event type."""
    if "eventType" not in draft.kind.members:
        if draft.event_type:
            raise _not_allowed("eventType", draft)
        return
    if not draft.event_type:
        raise BadRequest(f"eventType is required for pipelines that {draft.kind.does}", field="eventType")
    if len(draft.event_type) > _MAX_EVENT_TYPE_CHARACTERS or "\0" in draft.event_type:
        raise BadRequest(
            f"eventType must have 1 to {_MAX_EVENT_TYPE_CHARACTERS} characters and no NUL", field="eventType"
        )


def check_allowed(draft: Draft, *fields: str) -> None:
    """Check that this kind of pipeline may have the members. Raises BadRequest."""
    for field in fields:
        if draft.is_given(field) and MEMBERS[field] not in draft.kind.members:
            raise _not_allowed(MEMBERS[field], draft)


def check_required(draft: Draft, *fields: str) -> None:
    """Check that the members that this kind requires are given. Raises BadRequest."""
    for field in fields:
        if not draft.is_given(field) and draft.kind.members.get(MEMBERS[field]) == "required":
            raise BadRequest(f"{MEMBERS[field]} is required for pipelines that {draft.kind.does}", field=MEMBERS[field])


def check_lengths(draft: Draft) -> None:
    """Check that no text is too long or contains NUL. Raises BadRequest."""
    for field, max_characters in _MAX_CHARACTERS.items():
        text = getattr(draft.definition, field)
        if len(text) > max_characters:
            raise BadRequest(f"{MEMBERS[field]} is longer than {max_characters} characters", field=MEMBERS[field])
        if "\0" in text:
            raise BadRequest(f"{MEMBERS[field]} contains the NUL character", field=MEMBERS[field])


def find_format(draft: Draft, connectors: dict[str, Connector]) -> Connector | None:
    """Return the connector of the file format. Raises Unprocessable with FormatNotExist, and BadRequest for another
    type."""
    code = draft.definition.format
    if not code:
        return None
    found = connectors.get(code)
    if found is None:
        raise Unprocessable("FormatNotExist", f"format {code[:60]!r} does not exist", field="format")
    if found.type != "File":
        raise BadRequest(f"format {code} is not the format of a file", field="format")
    if found.capabilities(draft.connection.role) is None:
        raise BadRequest(f"format {code} is not for {draft.connection.role.lower()} connections", field="format")
    return found


def check_path(draft: Draft) -> None:
    """Check a path. A path to read is literal; a path to write may contain the time of the run."""
    path = draft.definition.path
    if draft.kind.writes_profiles and has_placeholders(path):
        raise BadRequest("path cannot have placeholders: it is read", field="path")
    check_placeholders(path)


def check_sheet(draft: Draft) -> None:
    """Check that a sheet is given for formats with sheets, and only for those."""
    sheet = draft.definition.sheet
    has_sheets = draft.format is not None and draft.format.has_sheets
    if has_sheets and not sheet:
        raise BadRequest("sheet is required for this format", field="sheet")
    if sheet and not has_sheets:
        raise BadRequest("sheet is not allowed: the format has no sheets", field="sheet")
    if sheet.startswith("'") or sheet.endswith("'") or _SHEET_FORBIDDEN & set(sheet):
        raise BadRequest("sheet cannot begin or end with ' and cannot contain * / : ? [ \\ ]", field="sheet")


def check_choices(draft: Draft) -> None:
    """Check that values are among the documented ones. Raises BadRequest."""
    if draft.definition.export_mode and draft.definition.export_mode not in _EXPORT_MODES:
        raise BadRequest(f"exportMode must be one of {', '.join(_EXPORT_MODES)}", field="exportMode")
    if draft.definition.export_mode in ("CreateOnly", "UpdateOnly") and draft.connector.engine.is_write_only:
        raise BadRequest(
            f"exportMode must be CreateOrUpdate: users of {draft.connector.label} cannot be read", field="exportMode"
        )
    if draft.definition.compression not in _COMPRESSIONS:
        raise BadRequest('compression must be "", "Zip", "Gzip" or "Snappy"', field="compression")


def check_columns(draft: Draft) -> None:
    """Check the columns that identify a user and that hold the time of the last change."""
    definition, schema = draft.definition, draft.in_schema
    if definition.user_id_column:
        column = _column(schema, "user_id_column", definition.user_id_column)
        if not isinstance(column.type, (*_IDENTIFYING, JsonType)):
            raise BadRequest("userIDColumn must be of kind string, int, uuid or json", field="userIDColumn")
        if column.read_optional:
            raise BadRequest("userIDColumn cannot be readOptional", field="userIDColumn")
        draft.used_in.add(definition.user_id_column)
    needs_format = False
    if definition.updated_at_column:
        column = _column(schema, "updated_at_column", definition.updated_at_column)
        if not isinstance(column.type, DateTimeType | DateType | StringType | JsonType):
            raise BadRequest("updatedAtColumn must be of kind datetime, date, string or json", field="updatedAtColumn")
        needs_format = isinstance(column.type, StringType | JsonType)
        draft.used_in.add(definition.updated_at_column)
    given = definition.updated_at_format
    if needs_format and not given:
        raise BadRequest("updatedAtFormat is required: updatedAtColumn is text", field="updatedAtFormat")
    if given and not needs_format:
        raise BadRequest(
            "updatedAtFormat is only for an updatedAtColumn of kind string or json", field="updatedAtFormat"
        )
    known = ("ISO8601", "Excel") if draft.format is not None else ("ISO8601",)
    if given and given not in known and "%" not in given:
        raise BadRequest(
            f"updatedAtFormat must be {' or '.join(known)}, or a strftime pattern with %", field="updatedAtFormat"
        )
    if definition.incremental and not definition.updated_at_column and "updatedAtColumn" in draft.kind.members:
        raise BadRequest("incremental needs updatedAtColumn", field="incremental")


def check_order(draft: Draft) -> None:
    """Check the property by which the profiles of a file are ordered."""
    if draft.definition.order_by:
        ordered = _at(draft.in_schema, "order_by", draft.definition.order_by)
        if not isinstance(ordered.type, _SORTABLE):
            raise BadRequest("orderBy must be of kind string, int, uuid or ip", field="orderBy")


def check_matching(draft: Draft) -> None:
    """Check the two properties whose equality makes a profile and an application's user the same person."""
    matching = draft.definition.matching
    if matching is None:
        return
    inside = _at(draft.in_schema, "matching", matching.input, ".in")
    outside = _at(draft.out_schema, "matching", matching.output, ".out")
    for end, property_ in (("in", inside), ("out", outside)):
        if not isinstance(property_.type, _IDENTIFYING):
            raise BadRequest(f"matching.{end} must be of kind string, int or uuid", field=f"matching.{end}")
    if {inside.type.kind, outside.type.kind} == {"int", "uuid"}:
        raise BadRequest("matching cannot compare an int with a uuid", field="matching")
    for path in draft.used_out:
        if path == matching.output or matching.output.startswith(f"{path}."):
            raise BadRequest(
                f"transformation cannot give {path}: matching.out identifies the user", field="transformation"
            )
    draft.used_in.add(matching.input)
    draft.used_out.add(matching.output)


def check_table(draft: Draft) -> None:
    """Check the column that identifies the row of a profile."""
    key = draft.definition.table_key
    if key:
        column = _column(draft.out_schema, "table_key", key)
        if not isinstance(column.type, _IDENTIFYING):
            raise BadRequest("tableKey must be of kind string, int or uuid", field="tableKey")


def _column(schema: Schema | None, field: str, name: str) -> Property:
    if not is_property_name(name):
        raise BadRequest(f"{MEMBERS[field]} must be the name of a property", field=MEMBERS[field])
    return _at(schema, field, name)


def _at(schema: Schema | None, field: str, path: str, end: str = "") -> Property:
    member = MEMBERS[field] + end
    if schema is None:
        raise BadRequest(f"{member} needs a schema", field=member)
    try:
        return property_at(schema, path)
    except (InvalidPath, PropertyNotFound) as error:
        raise BadRequest(f"{member}: {path[:100]!r} {error.rule}", field=member) from error


def _not_allowed(member: str, draft: Draft) -> BadRequest:
    return BadRequest(f"{member} is not allowed for pipelines that {draft.kind.does}", field=member)
