"""Trials of pipelines on stored events: TryPipeline. Real stores, computations and sandboxes."""

import asyncio
import json
from typing import Any

import pytest
from google.protobuf import json_format

from headwater.catalog import Connection
from headwater.observe import trying
from headwater.processing.deliveries import EXCLUDED
from headwater.v1 import connections_pb2
from headwater.v1 import pipelines_pb2 as pb
from tests.api.conftest import RESTRICTED, UNRESTRICTED, Api, CallError
from tests.api.test_pipelines import IDENTIFIES
from tests.harness import add_source, add_workspace

EMAIL = {
    "kind": "object",
    "properties": [{"name": "email", "type": {"kind": "string", "maxLength": 20}, "readOptional": True}],
}
COPY = {"mapping": {"email": "traits.email"}}
EVENTS: list[dict[str, Any]] = [
    {"type": "identify", "userId": "ada", "traits": {"email": "ada@example.com"}},
    {"type": "track", "userId": "ada", "event": "Bought", "properties": {"total": 9.50}},
    {"type": "identify", "userId": "bob", "traits": {"email": "b" * 30}},
    {"type": "alias", "userId": "bob", "previousId": "rob"},
    {"type": "group", "groupId": "acme", "userId": "ada"},
    {"type": "track", "anonymousId": "a", "event": "Seen"},
]
"""Events with the message ids m0 to m5."""


PLAIN = "send_event_with_no_schema"
"""An event type of the dummy."""
ADDRESS = {
    "kind": "object",
    "properties": [{"name": "street1", "type": {"kind": "string"}}, {"name": "street2", "type": {"kind": "string"}}],
}
IDENTITY = {
    "kind": "object",
    "properties": [
        {"name": "email", "type": {"kind": "string"}, "createRequired": True},
        {"name": "traits", "type": {"kind": "object", "properties": [{"name": "address", "type": ADDRESS}]}},
    ],
}
"""The schema of its event type "send_identity"."""
IDENTIFY = {"mapping": {"email": "traits.email", "traits.address.street1": "'x'", "traits.address.street2": "'y'"}}
VALUES = {"email": "ada@example.com", "traits": {"address": {"street1": "x", "street2": "y"}}}


def function(source: str, language: str = "JavaScript", **members: Any) -> dict[str, Any]:
    given = {"language": language, "source": source, "inPaths": ["traits", "event"], "outPaths": ["email"]}
    return {"function": given | members}


@pytest.fixture
async def stored(api: Api, source: Connection) -> Connection:
    """Store `EVENTS` in a source."""
    return await store(api, source, EVENTS)


async def store(api: Api, source: Connection, events: list[dict[str, Any]]) -> Connection:
    batch = [{"messageId": f"m{number}", **event} for number, event in enumerate(events)]
    for event in batch:
        await api.harness.send(source, json.dumps({"batch": [event]}).encode())
        api.harness.clock.advance(1)
    await api.harness.process_log()
    return source


def request(connection: int, target: str = "User", **members: Any) -> pb.TryPipelineRequest:
    """Return a request from the JSON members of a draft, and `limit` and `pipeline`."""
    outer: dict[str, Any] = {name: members.pop(name) for name in ("limit", "pipeline") if name in members}
    draft = {"connection": connection, "target": target, **members}
    return json_format.ParseDict({"draft": draft, **outer}, pb.TryPipelineRequest())


async def trial(api: Api, *arguments: Any, **members: Any) -> Any:
    return await api.call("PipelineService/TryPipeline", request(*arguments, **members))


def outcomes(response: Any) -> dict[str, tuple[str, str]]:
    """Return the outcome and the step of each event by message id."""
    assert not isinstance(response, CallError), response
    counted = {"Passed": response.passed, "Filtered": response.filtered, "Failed": response.failed}
    found = [event.result.outcome for event in response.events]
    assert counted == {outcome: found.count(outcome) for outcome in counted}
    return {event.message_id: (event.result.outcome, event.result.step) for event in response.events}


PASSED = ("Passed", "Finalize")
FILTERED = ("Filtered", "Filter")
MAPPED = {
    "m0": PASSED,
    "m1": PASSED,
    "m2": ("Failed", "OutputValidation"),
    "m3": PASSED,
    "m4": PASSED,
    "m5": PASSED,
}


@pytest.mark.parametrize(
    ("target", "draft", "expected"),
    [
        ("Event", {}, dict.fromkeys(MAPPED, PASSED)),
        ("Event", {"filter": json_format.MessageToDict(IDENTIFIES)}, {"m0": PASSED, "m2": PASSED}),
        ("User", {}, dict.fromkeys(MAPPED, PASSED)),
        ("User", {"outSchema": EMAIL, "transformation": COPY}, MAPPED),
        (
            "User",
            {
                "outSchema": EMAIL,
                "transformation": function(
                    "function transform(e) { if (e.event === 'Seen') throw new Error('no'); return e.traits; }"
                ),
            },
            MAPPED | {"m5": ("Failed", "Transformation")},
        ),
        (
            "User",
            {
                "outSchema": EMAIL,
                "transformation": function(
                    "def transform(e):\n    if e.get('event') == 'Seen':\n        raise ValueError('no')\n"
                    "    return {k: v for k, v in e['traits'].items()}\n",
                    "Python",
                ),
            },
            MAPPED | {"m5": ("Failed", "Transformation")},
        ),
    ],
)
async def test_each_event_has_an_outcome(
    api: Api, stored: Connection, target: str, draft: dict[str, Any], expected: dict[str, Any]
) -> None:
    response = await trial(api, stored.id, target, **draft)
    everything = dict.fromkeys(MAPPED, FILTERED) | expected
    assert outcomes(response) == everything
    assert [event.message_id for event in response.events] == ["m5", "m4", "m3", "m2", "m1", "m0"]
    assert (response.different, response.HasField("stopped_by")) == (0, False)


async def test_an_event_is_shown_with_its_output(api: Api, stored: Connection) -> None:
    response = await trial(api, stored.id, outSchema=EMAIL, transformation=COPY)
    by_id = {event.message_id: event for event in response.events}
    first = by_id["m0"]
    assert (first.connection, first.type, first.HasField("event")) == (stored.id, "identify", False)
    assert first.received_at.ToMicroseconds() < by_id["m1"].received_at.ToMicroseconds()
    assert json.loads(first.result.output_json) == {"email": "ada@example.com"}
    assert (by_id["m1"].event, by_id["m1"].result.output_json) == ("Bought", "{}")
    assert not by_id["m3"].result.HasField("output_json")  # an alias is not transformed
    assert "email" in by_id["m2"].result.message and not by_id["m2"].result.HasField("output_json")
    assert not any(event.HasField("saved") or event.result.HasField("request") for event in response.events)


async def test_the_condition_that_decided_is_shown(api: Api, stored: Connection) -> None:
    conditions = [
        {"property": "type", "operator": "is", "values": ["track"]},
        {"property": "properties.total", "operator": "is greater than", "values": ["10"]},
    ]
    response = await trial(api, stored.id, filter={"logical": "and", "conditions": conditions})
    shown = {event.message_id: event.result.condition for event in response.events}
    assert {key: (each.condition.property, each.value_json) for key, each in shown.items()} == {
        "m0": ("type", '"identify"'),
        "m1": ("properties.total", "9.5"),
        "m2": ("type", '"identify"'),
        "m3": ("type", '"alias"'),
        "m4": ("type", '"group"'),
        "m5": ("properties.total", ""),
    }
    assert all(each.decided and each.result is False for each in shown.values())


async def test_an_event_about_nobody_has_no_effect_on_users(api: Api, source: Connection) -> None:
    await store(api, source, [{"type": "group", "groupId": "acme", "anonymousId": "a"}])
    users = await trial(api, source.id)
    assert outcomes(users) == {"m0": PASSED}


async def test_a_change_is_compared_with_the_saved_pipeline(api: Api, stored: Connection) -> None:
    created = pb.CreatePipelineRequest()
    json_format.ParseDict(
        {"connection": stored.id, "target": "User", "name": "P", "outSchema": EMAIL, "transformation": COPY}, created
    )
    pipeline = (await api.call("PipelineService/CreatePipeline", created)).id
    before = await everything(api)
    same = await trial(api, stored.id, pipeline=pipeline, outSchema=EMAIL, transformation=COPY)
    assert (outcomes(same), same.different) == (MAPPED, 0)
    changed = {"mapping": {"email": "substring(traits.email, 1, 15)"}}
    response = await trial(api, stored.id, pipeline=pipeline, outSchema=EMAIL, transformation=changed)
    assert outcomes(response) == MAPPED | {"m2": PASSED}
    assert response.different == 1
    different = {event.message_id: event.saved for event in response.events if event.HasField("saved")}
    assert {key: (saved.outcome, saved.step) for key, saved in different.items()} == {
        "m2": ("Failed", "OutputValidation")
    }
    assert await everything(api) == before


async def everything(api: Api) -> Any:
    """Return the state that a trial may not change."""
    harness = api.harness
    connections = harness.catalog.connections(harness.workspace)
    return connections, await harness.documents(), await harness.state.lanes(), len(await harness.log_entries())


async def connect(api: Api, *sources: int, **settings: Any) -> int:
    """Create a dummy destination that is linked to sources."""
    created = connections_pb2.CreateConnectionRequest(
        name="Dummy", role="Destination", connector="dummy", linked_connections=sources, sending_mode="Server"
    )
    created.settings.update(settings)
    return int((await api.call("ConnectionService/CreateConnection", created)).id)


async def test_the_request_of_a_destination_is_shown(api: Api, stored: Connection) -> None:
    other = await add_source(api.harness.catalog, api.harness.workspace)
    await store(api, other, [{"type": "track", "userId": "eve", "event": "Elsewhere"}])
    destination = await connect(api, stored.id, urlForDispatchingEvents="https://example.com/in?key=secret")
    response = await trial(
        api,
        destination,
        "Event",
        eventType=PLAIN,
        filter={"logical": "and", "conditions": [{"property": "type", "operator": "is", "values": ["track"]}]},
    )
    assert outcomes(response) == dict.fromkeys(MAPPED, FILTERED) | {"m1": PASSED, "m5": PASSED}
    [shown] = [event.result.request for event in response.events if event.message_id == "m1"]
    head, _, body = shown.partition("\n\n")
    assert head.startswith("POST https://example.com/in")
    [sent] = json.loads(body)["events"]
    assert (sent["type"], sent["event"]["event"]) == (PLAIN, "Bought")


@pytest.mark.parametrize(
    "transformation",
    [
        IDENTIFY,
        function(
            "function transform(e) { return {...e.traits, traits: {address: {street1: 'x', street2: 'y'}}}; }",
            outPaths=["email", "traits"],
        ),
    ],
)
async def test_a_destination_requires_what_its_event_type_requires(
    api: Api, stored: Connection, transformation: dict[str, Any]
) -> None:
    destination = await connect(api, stored.id, urlForDispatchingEvents="https://example.com/")
    members = {"eventType": "send_identity", "outSchema": IDENTITY, "transformation": transformation}
    response = await trial(api, destination, "Event", **members)
    identified = {"m0": PASSED, "m2": PASSED}
    assert outcomes(response) == dict.fromkeys(MAPPED, ("Failed", "OutputValidation")) | identified
    [result] = [event.result for event in response.events if event.message_id == "m0"]
    [sent] = json.loads(result.request.partition("\n\n")[2])["events"]
    assert json.loads(result.output_json) == sent["values"] == VALUES


async def test_a_changed_request_differs(api: Api, stored: Connection) -> None:
    destination = await connect(api, stored.id, urlForDispatchingEvents="https://example.com/")
    members: dict[str, Any] = {"eventType": "send_identity", "outSchema": IDENTITY, "transformation": IDENTIFY}
    created = json_format.ParseDict(
        {"connection": destination, "target": "Event", "name": "P", **members}, pb.CreatePipelineRequest()
    )
    pipeline = (await api.call("PipelineService/CreatePipeline", created)).id
    members["transformation"] = {"mapping": IDENTIFY["mapping"] | {"email": "upper(traits.email)"}}
    response = await trial(api, destination, "Event", pipeline=pipeline, **members)
    assert response.different == 6  # the reasons of the failures name the expressions
    [event] = [event for event in response.events if event.message_id == "m0"]
    assert "ADA@" in event.result.request and "ada@" in event.saved.output_json
    assert event.result.request.partition("\n\n")[0] == event.saved.request.partition("\n\n")[0]


async def test_a_destination_that_cannot_send_fails(api: Api, stored: Connection) -> None:
    destination = await connect(api, stored.id)
    response = await trial(api, destination, "Event", eventType=PLAIN)
    assert set(outcomes(response).values()) == {("Failed", "Finalize")}
    assert {event.result.message for event in response.events} == {"urlForDispatchingEvents is not set"}


async def test_integrations_exclude_a_destination(api: Api, source: Connection) -> None:
    choices: list[dict[str, Any]] = [{}, {"All": False}, {"All": False, "Dummy": True}, {"Dummy": False}]
    await store(api, source, [{"type": "track", "event": "E", "userId": "u", "integrations": each} for each in choices])
    destination = await connect(api, source.id, urlForDispatchingEvents="https://example.com/")
    response = await trial(api, destination, "Event", eventType=PLAIN)
    assert outcomes(response) == {"m0": PASSED, "m1": FILTERED, "m2": PASSED, "m3": FILTERED}
    assert {event.result.message for event in response.events} == {"", EXCLUDED}
    assert set(outcomes(await trial(api, source.id)).values()) == {PASSED}


async def test_a_destination_without_sources_has_no_events(api: Api) -> None:
    destination = await connect(api, urlForDispatchingEvents="https://example.com/")
    response = await trial(api, destination, "Event", eventType=PLAIN)
    assert (outcomes(response), response.HasField("stopped_by")) == ({}, False)


async def test_a_source_without_stored_events_has_none(api: Api) -> None:
    source = await add_source(api.harness.catalog, api.harness.workspace, events=None)
    assert outcomes(await trial(api, source.id)) == {}


@pytest.mark.parametrize(("limit", "count"), [(1, 1), (4, 4), (1000, 6)])
async def test_the_last_events_are_tried(api: Api, stored: Connection, limit: int, count: int) -> None:
    response = await trial(api, stored.id, limit=limit)
    assert [event.message_id for event in response.events] == ["m5", "m4", "m3", "m2", "m1", "m0"][:count]


@pytest.mark.parametrize(
    ("members", "reason", "field"),
    [
        ({"limit": 0}, "BadRequest", "limit"),
        ({"limit": 1001}, "BadRequest", "limit"),
        ({"connection": 0}, "BadRequest", "draft.connection"),
        ({"connection": 5}, "NotFound", "draft.connection"),
        ({"target": ""}, "BadRequest", "draft.target"),
        ({"target": "Group"}, "BadRequest", "draft.target"),
        ({"pipeline": 7}, "NotFound", "pipeline"),
        ({"pipeline": 0}, "BadRequest", "pipeline"),
        ({"name": "x" * 61}, "BadRequest", "draft.name"),
        ({"eventType": "x"}, "BadRequest", "draft.eventType"),
        (
            {"filter": {"logical": "and", "conditions": [{"property": "x", "operator": "exists"}]}},
            "BadRequest",
            "draft.filter.conditions[0].property",
        ),
        ({"outSchema": EMAIL}, "BadRequest", "draft.outSchema"),
        ({"outSchema": EMAIL, "transformation": {"mapping": {"email": "("}}}, "BadRequest", None),
        ({"outSchema": EMAIL, "transformation": function("function (")}, "TransformationFailed", None),
    ],
)
async def test_an_invalid_trial_is_rejected(
    api: Api, stored: Connection, members: dict[str, Any], reason: str, field: str | None
) -> None:
    draft = {"connection": stored.id, "target": "User", **members}
    failed = await trial(api, draft.pop("connection"), draft.pop("target"), **draft)
    assert isinstance(failed, CallError), failed
    assert failed.reason == reason
    if field is not None:
        assert dict(failed.metadata)["field"] == field


async def test_a_request_without_a_draft_is_rejected(api: Api) -> None:
    failed = await api.call("PipelineService/TryPipeline", pb.TryPipelineRequest())
    assert (failed.reason, dict(failed.metadata)["field"]) == ("BadRequest", "draft")


@pytest.mark.parametrize("member", ["connection", "target", "eventType"])
async def test_a_change_keeps_what_cannot_change(api: Api, stored: Connection, member: str) -> None:
    other = await add_source(api.harness.catalog, api.harness.workspace)
    pipeline = stored.pipelines[0]
    changes: dict[str, dict[str, Any]] = {
        "connection": {"connection": other.id},
        "target": {"target": "User" if pipeline.target == "Event" else "Event"},
        "eventType": {"eventType": "x"},
    }
    members: dict[str, Any] = {"connection": stored.id, "target": pipeline.target, **changes[member]}
    failed = await trial(api, members.pop("connection"), members.pop("target"), pipeline=pipeline.id, **members)
    assert (failed.reason, dict(failed.metadata)["field"]) == ("BadRequest", f"draft.{member}")


async def test_another_workspace_has_no_part_in_a_trial(api: Api, stored: Connection) -> None:
    other = await add_workspace(api.harness.catalog, "Other")
    header = ("headwater-workspace", str(other.id))
    tried = request(stored.id)
    failed = await api.call("PipelineService/TryPipeline", tried, header, key=UNRESTRICTED)
    assert (failed.reason, dict(failed.metadata)["field"]) == ("NotFound", "draft.connection")
    source = await add_source(api.harness.catalog, other.id)
    tried = request(source.id, pipeline=stored.pipelines[0].id)
    failed = await api.call("PipelineService/TryPipeline", tried, header, key=UNRESTRICTED)
    assert (failed.reason, dict(failed.metadata)["field"]) == ("NotFound", "pipeline")
    assert outcomes(await api.call("PipelineService/TryPipeline", request(source.id), header, key=UNRESTRICTED)) == {}
    assert isinstance(await api.call("PipelineService/TryPipeline", request(source.id), key=RESTRICTED), CallError)


async def test_a_trial_that_takes_too_long_ends_early(
    api: Api, stored: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trying, "MAX_BATCH_SECONDS", 0.3)
    monkeypatch.setattr(trying, "MAX_FUNCTION_SECONDS", 0.3)
    slow = "function transform(e) { if (e.event === 'Seen') return {}; for (;;); }"
    response = await trial(api, stored.id, outSchema=EMAIL, transformation=function(slow), limit=2)
    # Events that exceed a limit together are tried in halves.
    assert outcomes(response) == {"m5": PASSED, "m4": ("Failed", "Transformation")}
    assert not response.HasField("stopped_by")
    monkeypatch.setattr(trying, "MAX_SECONDS", 0.0)
    response = await trial(api, stored.id, outSchema=EMAIL, transformation=function(slow))
    assert (outcomes(response), response.stopped_by) == ({}, "Time")


@pytest.mark.parametrize(
    ("name", "size", "count"), [("MAX_DOCUMENTS_BYTES", 1, 1), ("MAX_RESULTS_BYTES", 70, 3), ("MAX_SLICE_BYTES", 1, 6)]
)
async def test_the_size_of_a_trial_is_limited(
    api: Api, stored: Connection, monkeypatch: pytest.MonkeyPatch, name: str, size: int, count: int
) -> None:
    monkeypatch.setattr(trying, name, size)
    mapping = {"mapping": {"email": "'a value with 20 cha'"}}
    response = await trial(api, stored.id, outSchema=EMAIL, transformation=mapping)
    assert (len(response.events), response.stopped_by) == (count, "" if count == 6 else "Size")


async def test_too_many_trials_of_a_workspace_are_rejected(api: Api, stored: Connection) -> None:
    slow = function("function transform(e) { for (let i = 0; i < 3e6; i++); return {}; }")
    calls = [trial(api, stored.id, outSchema=EMAIL, transformation=slow) for _ in range(trying.MAX_WAITING_TRIALS + 4)]
    found = await asyncio.gather(*calls)
    reasons = [each.reason for each in found if isinstance(each, CallError)]
    assert reasons and set(reasons) == {"TooManyRequests"}
    assert len(found) - len(reasons) >= trying.MAX_WAITING_TRIALS
