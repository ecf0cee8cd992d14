"""Pipelines as messages: with the members of their kind, and created again from a message."""

from datetime import UTC, datetime
from typing import Any, Final

import pytest
from google.protobuf import json_format, struct_pb2
from hypothesis import given, settings

from headwater.api.messages.pipelines import pipeline_message, read_create, read_update
from headwater.base.errors import BadRequest
from headwater.catalog import Connection, Definition, Pipeline
from headwater.connectors.registry import CONNECTORS
from headwater.schemas import EVENT_SCHEMA
from headwater.v1 import pipelines_pb2 as pb
from headwater.v1 import schemas_pb2, transformations_pb2
from tests.management.pipelines.drafts import passes
from tests.management.pipelines.examples import ATTRIBUTES, EXAMPLES, creation
from tests.management.pipelines.strategies import pipelines

SHOWN: Final = """
SA  filter incremental transformation inSchema outSchema running scheduleStart schedulePeriod
SD  query userIDColumn updatedAtColumn updatedAtFormat incremental transformation inSchema outSchema running
    scheduleStart schedulePeriod
SF  format path sheet compression filter userIDColumn updatedAtColumn updatedAtFormat incremental transformation
    inSchema outSchema running scheduleStart schedulePeriod
SU  filter transformation inSchema outSchema
SE  filter
DA  filter matching exportMode updateOnDuplicates transformation inSchema outSchema running scheduleStart schedulePeriod
DD  filter tableName tableKey transformation inSchema outSchema running scheduleStart schedulePeriod
DF  format path sheet compression orderBy filter inSchema running scheduleStart schedulePeriod
DV  eventType filter transformation inSchema outSchema
"""
"""The documented members, except that a pipeline that collects events has no inSchema."""
COMMON: Final = {"id", "name", "connector", "connectorType", "connection", "connectionRole", "target", "enabled"}
NULLABLE: Final = {
    "filter", "sheet", "updatedAtColumn", "updatedAtFormat", "scheduleStart", "schedulePeriod", "transformation",
    "outSchema",
}  # fmt: skip
"""Null, and so absent, where there is nothing to show."""
MEMBERS_SHOWN: Final[dict[str, set[str]]] = {}
for _word in SHOWN.split():
    if _word in EXAMPLES:
        _kind = MEMBERS_SHOWN.setdefault(_word, set())
    else:
        _kind.add(_word)

kinds = pytest.mark.parametrize("kind", EXAMPLES)
HUGE: Final = struct_pb2.Struct(fields={"separator": struct_pb2.Value(number_value=float("inf"))})


def message(kind: str, members: dict[str, Any], **values: Any) -> pb.Pipeline:
    """Return the message of a pipeline of the kind with these members, added to the minimum."""
    example = EXAMPLES[kind]
    draft = passes(kind, members)
    pipeline = Pipeline(
        id=7,
        workspace=1,
        connection=1,
        name="P",
        target=example.target,
        enabled=False,
        created_at=datetime(2026, 11, 22, tzinfo=UTC),
        event_type=draft.event_type,
        definition=draft.definition,
        **values,
    )
    connection = Connection(
        id=1,
        workspace=1,
        name="C",
        connector=example.connector,
        role=example.role,
        strategy=None,
        sending_mode=None,
        created_at=pipeline.created_at,
        pipelines=(pipeline,),
    )
    return pipeline_message(pipeline, connection, CONNECTORS)


@kinds
def test_the_members_of_each_kind(kind: str) -> None:
    document = json_format.MessageToDict(message(kind, {}, schedule_start=5), always_print_fields_with_no_presence=True)
    there = {member for member in document if member not in COMMON}
    assert document.keys() >= COMMON
    assert there - MEMBERS_SHOWN[kind] == set()
    assert MEMBERS_SHOWN[kind] - there <= NULLABLE
    example = EXAMPLES[kind]
    assert {name: document[name] for name in COMMON} == {
        "id": 7,
        "name": "P",
        "connector": example.connector,
        "connectorType": CONNECTORS[example.connector].type,
        "connection": 1,
        "connectionRole": example.role,
        "target": example.target,
        "enabled": False,
    }


@kinds
def test_optional_members_are_shown_when_present(kind: str) -> None:
    for member, given_ in EXAMPLES[kind].optional.items():
        document = json_format.MessageToDict(message(kind, given_, schedule_start=5))
        assert member in document
        assert document.keys() - COMMON <= MEMBERS_SHOWN[kind]
        assert "formatSettings" not in document


@kinds
def test_a_schedule_is_shown_while_there_is_one(kind: str) -> None:
    start = 0 if "schedulePeriod" in MEMBERS_SHOWN[kind] else None
    without = message(kind, {}, schedule_start=start)
    assert not without.HasField("schedule_start") and not without.HasField("schedule_period")
    shown = message(kind, {}, schedule_start=start, schedule_period="24h")
    assert shown.HasField("schedule_start") is shown.HasField("schedule_period") is (start is not None)
    assert (shown.schedule_start, shown.schedule_period) == (0, "24h" if start is not None else "")
    assert without.HasField("running") is (start is not None)


@pytest.mark.parametrize("kind", ["SU", "DV"])
def test_the_input_of_pipelines_that_read_events_is_the_event_without_its_profile(kind: str) -> None:
    shown = [property_.name for property_ in message(kind, {}).in_schema.properties]
    assert shown == [property_.name for property_ in EVENT_SCHEMA if property_.name != "kpid"]


def make_request(shown: pb.Pipeline, kind: str, members: dict[str, Any]) -> pb.CreatePipelineRequest:
    """Make a request from the message of a pipeline, with the members that no message shows."""
    document = json_format.MessageToDict(shown)
    for member in ("id", "connector", "connectorType", "connectionRole", "running", "scheduleStart", "schedulePeriod"):
        document.pop(member, None)
    if kind in ("SU", "DV"):
        del document["inSchema"]
    settings_ = members.get("formatSettings")
    if settings_ is not None:
        document["formatSettings"] = settings_
    return json_format.ParseDict(document, pb.CreatePipelineRequest())


@settings(max_examples=60, deadline=None)
@given(pipelines())
def test_a_shown_pipeline_can_be_created_again(pipeline: tuple[str, dict[str, Any]]) -> None:
    kind, members = pipeline
    wanted = passes(kind, members)
    request = make_request(message(kind, members), kind, members)
    again = read_create(request)
    original = creation(kind, 1, members)
    assert (again.connection, again.target, again.name) == (1, original.target, "P")
    assert (again.event_type, again.in_schema) == (original.event_type, original.in_schema)
    assert again.out_schema == original.out_schema
    least: dict[str, Any] = dict.fromkeys(EXAMPLES[kind].least)
    attributes = {
        "eventType": again.event_type or None,
        "filter": again.filter,
        "inSchema": again.in_schema,
        "outSchema": again.out_schema,
        **_members(again.definition),
    }
    assert passes(kind, {**least, **attributes}).definition == wanted.definition
    changed = read_update(json_format.ParseDict(_updating(request), pb.UpdatePipelineRequest()))
    assert (changed.definition, changed.filter) == (again.definition, again.filter)
    assert (changed.in_schema, changed.out_schema) == (again.in_schema, again.out_schema)


def _updating(request: pb.CreatePipelineRequest) -> dict[str, Any]:
    document = json_format.MessageToDict(request)
    return {name: value for name, value in document.items() if name not in ("connection", "target", "eventType")}


def _members(definition: Definition) -> dict[str, Any]:
    own = ("eventType", "filter", "inSchema", "outSchema")
    return {member: getattr(definition, name) or None for member, name in ATTRIBUTES.items() if member not in own}


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"in_schema": schemas_pb2.DataType(kind="string")}, "inSchema.kind"),
        ({"in_schema": schemas_pb2.DataType(kind="object")}, "inSchema.properties"),
        ({"out_schema": schemas_pb2.DataType(kind="thing")}, "outSchema.kind"),
        (
            {
                "out_schema": schemas_pb2.DataType(
                    kind="object", properties=[schemas_pb2.Property(name="a", type=schemas_pb2.DataType(kind="int"))]
                )
            },
            "outSchema.properties[0].type.bitSize",
        ),
        (
            {"transformation": transformations_pb2.Transformation(mapping=HUGE)},
            "transformation.mapping.separator",
        ),
    ],
)
def test_an_invalid_schema_or_expression_is_rejected(values: dict[str, Any], field: str) -> None:
    with pytest.raises(BadRequest) as created:
        read_create(pb.CreatePipelineRequest(name="P", **values))
    with pytest.raises(BadRequest) as updated:
        read_update(pb.UpdatePipelineRequest(name="P", **values))
    assert (created.value.field, updated.value.field) == (field, field)


def test_numbers_that_json_does_not_have_reach_the_rules() -> None:
    made = read_create(pb.CreatePipelineRequest(format_settings=HUGE))
    assert made.definition.format_settings == {"separator": float("inf")}


@pytest.mark.parametrize(
    "request_",
    [
        pb.CreatePipelineRequest(),
        pb.CreatePipelineRequest(
            event_type="", query="", incremental=False, update_on_duplicates=False, matching=pb.Matching()
        ),
    ],
    ids=["absent", "empty"],
)
def test_absent_and_empty_members_are_equal(request_: pb.CreatePipelineRequest) -> None:
    made = read_create(request_)
    assert made.definition == Definition()
    assert (made.filter, made.in_schema, made.out_schema, made.event_type) == (None, None, None, "")
