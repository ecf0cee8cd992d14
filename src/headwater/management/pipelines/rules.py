"""The rules of pipelines, in the documented order: the first broken rule is returned."""

from collections.abc import Collection, Mapping
from typing import Final

import msgspec

from headwater.base.errors import BadRequest
from headwater.catalog import encode_definition
from headwater.connectors.connector import Connector
from headwater.management.names import check_name
from headwater.management.pipelines import members
from headwater.management.pipelines.draft import MEMBERS, Draft
from headwater.management.pipelines.kinds import (
    EXPORT_TO_APPLICATION,
    EXPORT_TO_DATABASE,
    EXPORT_TO_FILE,
    IMPORT_FROM_DATABASE,
    INCOMING_EVENT_SCHEMA,
    SEND_EVENTS,
)
from headwater.management.pipelines.schema_rules import Side, check_all_used, check_side
from headwater.management.pipelines.transformation import check_draft_filter, check_transformation
from headwater.schemas import Schema, check_size, serialise

MAX_DEFINITION_BYTES: Final = 1 << 20
"""Maximum size of the stored JSON of one pipeline: filter, schemas, transformation and other members together."""


def check(draft: Draft, connectors: Mapping[str, Connector], languages: Collection[str]) -> None:
    """Validate all rules that need no remote call, and normalise the draft's definition for storage."""
    members.check_event_type(draft)
    members.check_allowed(draft, "in_schema", "out_schema", "format")
    check_size(draft.in_schema, "inSchema")
    check_size(draft.out_schema, "outSchema")
    if draft.kind.reads_events:
        draft.in_schema = INCOMING_EVENT_SCHEMA
    members.check_required(draft, "format")
    draft.format = members.find_format(draft, dict(connectors))
    check_name(draft.name)
    members.check_allowed(draft, "filter")
    members.check_lengths(draft)
    members.check_required(draft, "in_schema")
    check_draft_filter(draft)
    members.check_allowed(draft, "transformation")
    members.check_required(draft, "out_schema", "transformation")
    check_transformation(draft, languages)
    members.check_allowed(draft, "path", "table_name", "sheet", "export_mode", "matching", "compression")
    members.check_required(draft, "path", "table_name", "export_mode", "matching")
    members.check_path(draft)
    members.check_sheet(draft)
    members.check_choices(draft)
    members.check_matching(draft)
    members.check_allowed(draft, "user_id_column", "updated_at_column", "updated_at_format", "order_by", "incremental")
    members.check_required(draft, "user_id_column", "order_by")
    members.check_columns(draft)
    members.check_order(draft)
    # Before the attributes of schemas: without the right key, they would be reported instead of tableKey.
    members.check_allowed(draft, "table_key")
    members.check_required(draft, "table_key")
    members.check_table(draft)
    _check_schemas(draft)
    members.check_allowed(draft, "format_settings", "query", "update_on_duplicates")
    members.check_required(draft, "query")
    _check_table_is_written(draft)
    if draft.out_schema is not None and draft.definition.transformation is None:
        raise BadRequest("outSchema is not allowed without a transformation", field="outSchema")
    _check_used(draft)
    _check_format_settings(draft)
    draft.definition = msgspec.structs.replace(
        draft.definition,
        filter=None if draft.filter is None else msgspec.json.encode(draft.filter).decode(),
        in_schema=None if draft.kind.reads_events else _text(draft.in_schema),
        out_schema=_text(draft.out_schema),
    )
    _check_definition_size(draft)


def _text(schema: Schema | None) -> str | None:
    return None if schema is None else serialise(schema).decode()


def _check_definition_size(draft: Draft) -> None:
    size = len(encode_definition(draft.definition))
    if size <= MAX_DEFINITION_BYTES:
        return
    sizes = {member: len(msgspec.json.encode(getattr(draft.definition, field))) for field, member in MEMBERS.items()}
    largest = max(sizes, key=lambda member: sizes[member])
    raise BadRequest(
        f"the definition of the pipeline must have at most {MAX_DEFINITION_BYTES} bytes of JSON, and has {size}, "
        f"of which {sizes[largest]} are {largest}",
        field=largest,
    )


def _check_schemas(draft: Draft) -> None:
    kind, definition = draft.kind, draft.definition
    if draft.in_schema is not None and not kind.reads_events:
        side: Side = "source"
        if kind.reads_profiles:
            side = "profile"
        elif kind is IMPORT_FROM_DATABASE:
            side = "database source"
        check_side(draft.in_schema, side, "inSchema")
    if draft.out_schema is None:
        return
    if kind.writes_profiles:
        check_side(draft.out_schema, "profile", "outSchema")
    elif kind is EXPORT_TO_APPLICATION:
        matching_out = definition.matching.output if definition.matching else ""
        check_side(draft.out_schema, "application", "outSchema", matching_out=matching_out)
    elif kind is SEND_EVENTS:
        check_side(draft.out_schema, "events", "outSchema")
    elif kind is EXPORT_TO_DATABASE:
        check_side(draft.out_schema, "database", "outSchema", table_key=definition.table_key)


def _check_table_is_written(draft: Draft) -> None:
    key = draft.definition.table_key
    if not key:
        return
    if key not in draft.used_out:
        raise BadRequest("tableKey must be given a value by the transformation", field="tableKey")
    if len(draft.used_out) < 2:
        raise BadRequest("the transformation must give a value to another column than tableKey", field="transformation")


def _check_used(draft: Draft) -> None:
    if draft.in_schema is not None and not draft.kind.reads_events and draft.kind is not EXPORT_TO_FILE:
        check_all_used(draft.in_schema, draft.used_in, "inSchema", "input")
    if draft.out_schema is not None:
        check_all_used(draft.out_schema, draft.used_out, "outSchema", "output")


def _check_format_settings(draft: Draft) -> None:
    if draft.format is None:
        return
    capabilities = draft.format.capabilities(draft.connection.role)
    declared = None if capabilities is None else capabilities.settings
    given = draft.definition.format_settings
    if declared is None:
        if given:
            raise BadRequest("formatSettings are not allowed: the format has none", field="formatSettings")
        return
    if given is None and declared.REQUIRED:
        raise BadRequest("formatSettings are required for this format", field="formatSettings")
    settings = declared.read({} if given is None else given, "formatSettings")
    draft.definition = msgspec.structs.replace(draft.definition, format_settings=settings.document())
