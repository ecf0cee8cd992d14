"""Profiles over gRPC and over REST: lists, attributes, events, identities, history, explanations and splits."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest

from headwater.api.messages.explanations import SMALL_MEMBERS
from headwater.api.messages.profiles import kpid_text, read_kpid
from headwater.api.services import explanations
from headwater.catalog import Connection, Identifier
from headwater.rest.v1 import profiles_pb2 as rest_pb
from headwater.state.operations import PROFILE_KINDS, Operation, SplitIdentity
from headwater.state.profiles import IdentityName, Separation
from headwater.state.profiles.rows import ProfileRows
from headwater.v1 import filters_pb2, identities_pb2
from headwater.v1 import identity_resolution_pb2 as resolution_pb
from headwater.v1 import profiles_pb2 as pb
from tests.api.conftest import Api
from tests.api.people import add_people, find_kpid, set_up
from tests.harness import add_source, add_workspace

SERVICE = "ProfileService"
UNKNOWN = "7d444840-9dc0-4bd1-b245-5ffdce74fad2"
PEOPLE: list[tuple[str, dict[str, Any]]] = [
    ("ada", {"email": "ada@x", "name": "Ada", "age": "36", "tags": ["math"]}),
    ("bob", {"email": "bob@x", "name": "Bob", "age": "9007199254740993", "address": {"city": "Rome"}}),
    ("cleo", {"email": "cleo@x"}),
    ("ada2", {"email": "ada@x", "age": "37", "tags": ["music"]}),
]


@pytest.fixture
async def people(api: Api, source: Connection) -> Connection:
    """Add four users of one source, who are three people."""
    await set_up(api.harness)
    await add_people(api.harness, source, PEOPLE)
    return source


async def rest(api: Api, method: str, request: Any) -> Any:
    """Return the JSON of a response with raw JSON."""
    answered = await api.call(f"rest.{SERVICE}/{method}", request)
    assert answered.content_type == "application/json", answered
    return json.loads(answered.data)


def reference(connection: Connection, user_id: str) -> identities_pb2.IdentityName:
    return identities_pb2.IdentityName(connection=connection.id, user_id=user_id)


# Lists


async def test_profiles_are_listed_by_their_last_change(api: Api, people: Connection) -> None:
    listed = await rest(api, "ListProfiles", rest_pb.ListProfilesRequest())
    assert [each["attributes"] for each in listed["profiles"]] == [
        {"address": {"city": "Rome"}, "age": "9007199254740993", "email": "bob@x", "name": "Bob"},
        {"email": "cleo@x"},
        {"age": "37", "email": "ada@x", "name": "Ada", "tags": ["math", "music"]},
    ]
    assert (listed["total"], listed["nextPageToken"]) == (3, "")
    assert [each["name"] for each in listed["schema"]["properties"]][:2] == ["email", "phone"]
    assert listed["profiles"][0]["updatedAt"] == "2026-11-22T12:00:11.500Z"
    assert listed["profiles"][0]["kpid"] == await find_kpid(api.harness, people, "bob")


async def test_both_packages_list_the_same(api: Api, people: Connection) -> None:
    query: dict[str, Any] = {"properties": ["age", "address.city"], "order": "age", "order_desc": True, "limit": 2}
    typed = await api.call(f"{SERVICE}/ListProfiles", pb.ListProfilesRequest(**query))
    listed = await rest(api, "ListProfiles", rest_pb.ListProfilesRequest(**query))
    assert [each.attributes_json for each in typed.profiles] == [
        '{"address":{"city":"Rome"},"age":"9007199254740993"}',
        '{"age":"37"}',
    ]
    assert [each.kpid for each in typed.profiles] == [each["kpid"] for each in listed["profiles"]]
    assert [each.updated_at.ToJsonString() for each in typed.profiles] == [
        each["updatedAt"] for each in listed["profiles"]
    ]
    assert [each.name for each in typed.schema.properties] == ["age", "address"]
    assert [each["name"] for each in listed["schema"]["properties"]] == ["age", "address"]
    assert typed.total == listed["total"] == 3
    assert typed.next_page_token
    assert listed["nextPageToken"]


@pytest.mark.parametrize(
    ("filter_", "found"),
    [
        ([("email", "is", ["ada@x"])], ["ada@x"]),
        ([("age", "is greater than", ["36"])], ["bob@x", "ada@x"]),
        ([("address.city", "exists", [])], ["bob@x"]),
        ([("age", "does not exist", [])], ["cleo@x"]),
        ([("tags", "contains", ["music"])], ["ada@x"]),
        ([("name", "starts with", ["A"]), ("age", "is", ["1"])], []),
    ],
    ids=str,
)
async def test_a_filter_selects_profiles(
    api: Api, people: Connection, filter_: list[tuple[str, str, list[str]]], found: list[str]
) -> None:
    document: Any = {
        "logical": "and",
        "conditions": [
            {"property": path, "operator": operator, "values": values} for path, operator, values in filter_
        ],
    }
    listed = await rest(api, "ListProfiles", rest_pb.ListProfilesRequest(filter=json.dumps(document)))
    assert [each["attributes"]["email"] for each in listed["profiles"]] == found
    assert listed["total"] == len(found)
    request = pb.ListProfilesRequest(filter=filters_pb2.Filter(**document))
    typed = await api.call(f"{SERVICE}/ListProfiles", request)
    assert [json.loads(each.attributes_json)["email"] for each in typed.profiles] == found


@pytest.mark.parametrize("query", [{}, {"order": "email"}, {"order": "age", "order_desc": True}, {"order": "name"}])
async def test_pages_list_every_profile_once(api: Api, people: Connection, query: dict[str, Any]) -> None:
    whole = await api.call(f"{SERVICE}/ListProfiles", pb.ListProfilesRequest(**query))
    found: list[str] = []
    token = ""
    for _ in range(3):
        request = pb.ListProfilesRequest(**query, limit=1, page_token=token)
        page = await api.call(f"{SERVICE}/ListProfiles", request)
        found += [each.kpid for each in page.profiles]
        token = page.next_page_token
    assert (found, token) == ([each.kpid for each in whole.profiles], "")
    skipped = await api.call(f"{SERVICE}/ListProfiles", pb.ListProfilesRequest(**query, first=2))
    assert [each.kpid for each in skipped.profiles] == found[2:]


INVALID_QUERIES: list[tuple[Any, str, str, str]] = [
    ({"properties": ["unknown"]}, "FAILED_PRECONDITION", "PropertyNotExist", "properties"),
    ({"order": "unknown"}, "FAILED_PRECONDITION", "OrderNotExist", "order"),
    ({"order": "tags"}, "FAILED_PRECONDITION", "OrderTypeNotSortable", "order"),
    ({"first": -1}, "INVALID_ARGUMENT", "BadRequest", "first"),
    ({"limit": 0}, "INVALID_ARGUMENT", "BadRequest", "limit"),
    ({"limit": 1001}, "INVALID_ARGUMENT", "BadRequest", "limit"),
    ({"page_token": "x"}, "INVALID_ARGUMENT", "BadRequest", "pageToken"),
    ({"filter": "x"}, "INVALID_ARGUMENT", "BadRequest", "filter"),
]


async def test_invalid_queries_are_rejected(api: Api, people: Connection) -> None:
    for query, status, reason, field in INVALID_QUERIES:
        failed = await api.call(f"rest.{SERVICE}/ListProfiles", rest_pb.ListProfilesRequest(**query))
        assert (failed.status, failed.reason, failed.metadata) == (status, reason, (("field", field),)), query


async def test_profiles_without_a_schema_have_no_attributes(api: Api, source: Connection) -> None:
    await add_people(api.harness, source, PEOPLE)
    listed = await rest(api, "ListProfiles", rest_pb.ListProfilesRequest())
    assert [each["attributes"] for each in listed["profiles"]] == [{}] * 4
    assert listed["schema"] == {"kind": "object", "properties": []}
    typed = await api.call(f"{SERVICE}/ListProfiles", pb.ListProfilesRequest())
    assert (typed.schema.kind, len(typed.schema.properties), typed.total) == ("object", 0, 4)


# One profile


async def test_the_attributes_of_a_profile(api: Api, people: Connection) -> None:
    kpid = await find_kpid(api.harness, people, "bob")
    shown = await rest(api, "GetProfileAttributes", rest_pb.GetProfileAttributesRequest(kpid=kpid.upper()))
    attributes = {"address": {"city": "Rome"}, "age": "9007199254740993", "email": "bob@x", "name": "Bob"}
    assert shown == {"kpid": kpid, "attributes": attributes}
    typed = await api.call(f"{SERVICE}/GetProfileAttributes", pb.GetProfileAttributesRequest(kpid=kpid))
    assert (typed.kpid, json.loads(typed.attributes_json)) == (kpid, attributes)


async def test_the_id_of_a_merged_profile_returns_the_survivor(api: Api, people: Connection) -> None:
    harness = api.harness
    old, survivor = await find_kpid(harness, people, "cleo"), await find_kpid(harness, people, "bob")
    await add_people(harness, people, [("cleo b", {"phone": "1"})])
    third = await find_kpid(harness, people, "cleo b")
    other = await add_source(harness.catalog, harness.workspace)
    await add_people(harness, other, [("bridge", {"email": "bob@x", "phone": "1"})])
    assert await find_kpid(harness, people, "cleo b") == survivor
    for kpid in (survivor, third):
        shown = await rest(api, "GetProfileAttributes", rest_pb.GetProfileAttributesRequest(kpid=kpid))
        assert (shown["kpid"], shown["attributes"]["name"]) == (survivor, "Bob")
        listed = await api.call(f"{SERVICE}/ListProfileIdentities", pb.ListProfileIdentitiesRequest(kpid=kpid))
        assert [each.user_id for each in listed.identities] == ["bridge", "cleo b", "bob"]
        changes = await api.call(f"{SERVICE}/ListProfileChanges", pb.ListProfileChangesRequest(kpid=kpid))
        assert changes.kpid == survivor
        assert [(each.kind, each.kpid) for each in changes.changes] == [("Merge", third)]
        assert changes.changes[0].HasField("time")
    assert (await find_kpid(harness, people, "cleo")) == old


async def test_an_unknown_profile(api: Api, people: Connection) -> None:
    for kpid, status in ((UNKNOWN, "NOT_FOUND"), ("x", "INVALID_ARGUMENT")):
        calls: list[tuple[str, Any]] = [
            ("GetProfileAttributes", pb.GetProfileAttributesRequest(kpid=kpid)),
            ("ListProfileChanges", pb.ListProfileChangesRequest(kpid=kpid)),
            ("GetProfileExplanation", pb.GetProfileExplanationRequest(kpid=kpid)),
            ("SplitProfile", pb.SplitProfileRequest(kpid=kpid, identities=[reference(people, "bob")])),
        ]
        for method, request in calls:
            failed = await api.call(f"{SERVICE}/{method}", request)
            assert (failed.status, failed.metadata) == (status, (("field", "kpid"),)), method
    for method, type_ in (("ListProfileEvents", "Events"), ("ListProfileIdentities", "Identities")):
        empty = await api.call(f"{SERVICE}/{method}", getattr(pb, f"ListProfile{type_}Request")(kpid=UNKNOWN))
        assert list(getattr(empty, type_.lower())) == []
        failed = await api.call(f"{SERVICE}/{method}", getattr(pb, f"ListProfile{type_}Request")(kpid="x"))
        assert failed.status == "INVALID_ARGUMENT"
    assert await rest(api, "ListProfileEvents", rest_pb.ListProfileEventsRequest(kpid=UNKNOWN)) == {"events": []}


async def test_identities_have_pages(api: Api, people: Connection) -> None:
    kpid = await find_kpid(api.harness, people, "ada")
    token, found = "", []
    for _ in range(2):
        request = pb.ListProfileIdentitiesRequest(kpid=kpid, limit=1, page_token=token)
        page = await api.call(f"{SERVICE}/ListProfileIdentities", request)
        found += [(each.user_id, list(each.anonymous_ids), each.connection) for each in page.identities]
        assert page.total == 2
        token = page.next_page_token
    assert found == [("ada2", ["device of ada2"], people.id), ("ada", ["device of ada"], people.id)]
    assert token == ""


async def test_the_events_of_a_profile_are_those_of_its_identities(api: Api, people: Connection) -> None:
    harness = api.harness
    sent = [
        {"userId": "ada", "messageId": "1"},
        {"userId": "bob", "messageId": "2"},
        {"anonymousId": "device of ada2", "messageId": "3"},
        {"userId": "ada2", "anonymousId": "device of bob", "messageId": "4"},
        {"anonymousId": "device of cleo", "messageId": "5"},
    ]
    events = [
        {"type": "track", "event": "Bought", "timestamp": f"2026-11-22T00:00:0{index}Z", **event}
        for index, event in enumerate(sent)
    ]
    await harness.send(people, json.dumps({"batch": events}).encode())
    await harness.process_log()
    kpid = await find_kpid(harness, people, "ada")
    typed = await api.call(f"{SERVICE}/ListProfileEvents", pb.ListProfileEventsRequest(kpid=kpid))
    assert [(each.message_id, each.kpid) for each in typed.events] == [("4", kpid), ("3", kpid), ("1", kpid)]
    request = rest_pb.ListProfileEventsRequest(kpid=kpid, properties=["messageId", "kpid,event"], limit=2)
    assert (await rest(api, "ListProfileEvents", request))["events"] == [
        {"kpid": kpid, "messageId": "4", "event": "Bought"},
        {"kpid": kpid, "messageId": "3", "event": "Bought"},
    ]
    for wrong in ({"limit": 0}, {"limit": 1001}, {"properties": ["unknown"]}):
        failed = await api.call(
            f"{SERVICE}/ListProfileEvents",
            pb.ListProfileEventsRequest(kpid=kpid, **wrong),
        )
        assert failed.status == "INVALID_ARGUMENT"


# Explanations


async def explain(api: Api, kpid: str, **names: str) -> Any:
    query: dict[str, Any] = {f"{name}_identity": text for name, text in names.items()}
    return await api.call(
        f"rest.{SERVICE}/GetProfileExplanation", rest_pb.GetProfileExplanationRequest(kpid=kpid, **query)
    )


def links(explanation: pb.GetProfileExplanationResponse) -> list[tuple[str, str, str, str, str]]:
    return [
        (each.from_identity.user_id, each.to_identity.user_id, each.rule, each.identifier, each.value)
        for each in explanation.links
    ]


async def test_a_large_profile_is_explained_as_a_small_one(api: Api, source: Connection) -> None:
    await set_up(api.harness)
    large: list[tuple[str, dict[str, Any]]] = [(f"u{number}", {"email": "1"}) for number in range(SMALL_MEMBERS + 1)]
    await add_people(api.harness, source, large)
    kpid = await find_kpid(api.harness, source, "u0")
    found: list[Any] = []
    token = ""
    for _ in range(3):
        request = pb.GetProfileExplanationRequest(kpid=kpid, limit=99, page_token=token)
        page = await api.call(f"{SERVICE}/GetProfileExplanation", request)
        found += links(page)
        token = page.next_page_token
    assert [first for first, *_ in found] == [f"u{number}" for number in range(1, SMALL_MEMBERS + 1)]
    assert token == ""


async def test_a_giant_profile_is_not_explained(api: Api, people: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explanations, "MAX_EXPLAINED_IDENTITIES", 1)
    failed = await explain(api, await find_kpid(api.harness, people, "ada"))
    assert (failed.status, failed.reason) == ("FAILED_PRECONDITION", "TooExpensive")


@pytest.fixture
async def chain(api: Api, source: Connection) -> Connection:
    """Add four users who are one person: a and b by email, c and b by phone, d and c by email."""
    await set_up(api.harness)
    chained = [
        ("a", {"email": "1"}),
        ("b", {"email": "1", "phone": "5"}),
        ("c", {"phone": "5"}),
        ("d", {"phone": "5"}),
    ]
    await add_people(api.harness, source, chained)
    return source


async def test_the_links_hold_a_profile_together(api: Api, chain: Connection) -> None:
    kpid = await find_kpid(api.harness, chain, "a")
    explained = await explain(api, kpid)
    assert explained.kpid == kpid
    assert links(explained) == [
        ("b", "a", "Identifier", "email", "1"),
        ("c", "b", "Identifier", "phone", "5"),
        ("d", "b", "Identifier", "phone", "5"),
    ]
    (pipeline,) = (pipeline.id for pipeline in chain.pipelines if pipeline.target == "User")
    assert explained.links[0].from_identity.connection == chain.id
    assert explained.links[0].from_identity.pipeline == pipeline
    assert list(explained.refusals) == []
    typed = await api.call(f"{SERVICE}/GetProfileExplanation", pb.GetProfileExplanationRequest(kpid=kpid))
    assert typed == explained


async def test_links_have_pages(api: Api, chain: Connection) -> None:
    kpid = await find_kpid(api.harness, chain, "a")
    found: list[Any] = []
    token = ""
    for _ in range(3):
        request = pb.GetProfileExplanationRequest(kpid=kpid, limit=1, page_token=token)
        page = await api.call(f"{SERVICE}/GetProfileExplanation", request)
        found += links(page)
        token = page.next_page_token
    assert (found, token) == (links(await explain(api, kpid)), "")


async def test_a_chain_connects_two_identities(api: Api, chain: Connection) -> None:
    kpid = await find_kpid(api.harness, chain, "a")
    ends = {"from": f"{chain.id}:userId:a", "to": f"{chain.id}:userId:d"}
    explained = await explain(api, kpid, **ends)
    assert [{first, second} for first, second, *_ in links(explained)] == [{"a", "b"}, {"b", "d"}]
    query: Any = {"from_identity": reference(chain, "a"), "to_identity": reference(chain, "d")}
    typed = await api.call(f"{SERVICE}/GetProfileExplanation", pb.GetProfileExplanationRequest(kpid=kpid, **query))
    assert typed == explained
    assert links(await explain(api, kpid, **{**ends, "to": ends["from"]})) == []


async def test_two_pipelines_see_the_same_user(api: Api) -> None:
    harness = api.harness
    await set_up(harness)
    source = await add_source(harness.catalog, harness.workspace, users=(True, True))
    first, second = (pipeline.id for pipeline in source.pipelines if pipeline.target == "User")
    await add_people(harness, source, [("u", {"email": "1"})])
    await add_people(harness, source, [("u", {"email": "2"})], pipeline=first)
    explained = await explain(api, await find_kpid(harness, source, "u"))
    assert links(explained) == [("u", "u", "SameUser", "", "")]
    assert not explained.links[0].HasField("identifier")
    assert {explained.links[0].from_identity.pipeline, explained.links[0].to_identity.pipeline} == {first, second}


INVALID_CHAINS: list[tuple[Any, str, str, str]] = [
    ({"from": "1:userId:a"}, "INVALID_ARGUMENT", "BadRequest", "to"),
    ({"to": "1:userId:a"}, "INVALID_ARGUMENT", "BadRequest", "from"),
    ({"from": "a", "to": "1:userId:a"}, "INVALID_ARGUMENT", "BadRequest", "from"),
    ({"from": "{}:userId:a", "to": "{}:userId:z"}, "FAILED_PRECONDITION", "IdentityNotExist", "to"),
    ({"from": "{}:anonymousId:a", "to": "{}:userId:a"}, "FAILED_PRECONDITION", "IdentityNotExist", "from"),
    ({"from": "7:userId:a", "to": "{}:userId:a"}, "FAILED_PRECONDITION", "IdentityNotExist", "from"),
]


async def test_a_chain_is_between_identities_of_the_profile(api: Api, chain: Connection) -> None:
    kpid = await find_kpid(api.harness, chain, "a")
    for names, status, reason, field in INVALID_CHAINS:
        written = {name: text.format(chain.id) for name, text in names.items()}
        failed = await explain(api, kpid, **written)
        assert (failed.status, failed.reason, failed.metadata) == (status, reason, (("field", field),)), names


async def test_refused_evidence_is_listed(api: Api, source: Connection) -> None:
    harness = api.harness
    guards = Identifier(path="email", max_identities=2, blocked_values=("none",))
    await set_up(harness, identifiers=[guards, Identifier(path="phone", max_values=1)])
    shared: list[tuple[str, dict[str, Any]]] = [(f"u{number}", {"email": "shared"}) for number in range(3)]
    await add_people(harness, source, [*shared, ("blocked", {"email": "none"})])
    listed = await api.call("IdentityResolutionService/ListRefusals", resolution_pb.ListRefusalsRequest())
    assert {(each.reason, each.identifier, each.value, each.identities) for each in listed.refusals} == {
        ("TooManyIdentities", "email", "shared", 3),
        ("BlockedValue", "email", "none", 0),
    }
    assert all(each.HasField("time") and not each.HasField("identity") for each in listed.refusals)
    assert {each.reason: each.HasField("identities") for each in listed.refusals}["BlockedValue"] is False
    explained = await explain(api, await find_kpid(harness, source, "u0"))
    assert [(each.reason, each.value, each.identities) for each in explained.refusals] == [
        ("TooManyIdentities", "shared", 3)
    ]
    assert list(explained.links) == []
    explained = await explain(api, await find_kpid(harness, source, "blocked"))
    [blocked] = explained.refusals
    assert (blocked.reason, blocked.identifier, blocked.value) == ("BlockedValue", "email", "none")
    assert blocked.time == next(each.time for each in listed.refusals if each.value == "none")
    assert not blocked.HasField("identities") and not blocked.HasField("identity")


async def test_refusals_have_pages(api: Api, source: Connection) -> None:
    await set_up(api.harness, identifiers=[Identifier(path="email", max_identities=1)])
    await add_people(api.harness, source, [(f"u{number}", {"email": str(number // 2)}) for number in range(10)])
    found: list[str] = []
    token = ""
    for _ in range(3):
        request = resolution_pb.ListRefusalsRequest(limit=2, page_token=token)
        page = await api.call("IdentityResolutionService/ListRefusals", request)
        found += [each.value for each in page.refusals]
        token = page.next_page_token
    assert (sorted(found), token) == (["0", "1", "2", "3", "4"], "")


# Splits


@asynccontextmanager
async def worker(api: Api, result: Any = None, status: Any = "Completed") -> AsyncIterator[list[Operation]]:
    """Execute the next operation with this result, and collect it."""
    executed: list[Operation] = []

    async def execute() -> None:
        operations = api.harness.operations
        while (operation := await operations.claim("worker", kinds=PROFILE_KINDS)) is None:
            await asyncio.sleep(0.01)
        executed.append(operation)
        await operations.finish(operation.id, "worker", status, "it broke", result=json.dumps(result))

    task = asyncio.create_task(execute())
    yield executed
    if executed:
        await task
    else:
        task.cancel()


async def test_a_split_is_executed_by_the_worker(api: Api, chain: Connection) -> None:
    kpid, other = await find_kpid(api.harness, chain, "a"), str(uuid4())
    names = [reference(chain, "c"), reference(chain, "b")]
    async with worker(api, {"kpids": [kpid, other], "separation": 7}) as executed:
        split = await api.call(f"{SERVICE}/SplitProfile", pb.SplitProfileRequest(kpid=kpid, identities=names))
    assert list(split.kpids) == [kpid, other]
    (parameters,) = (each.parameters for each in executed)
    assert parameters.profile == kpid  # type: ignore[union-attr]
    assert parameters.identities == (  # type: ignore[union-attr]
        SplitIdentity(connection=chain.id, identity_id="c"),
        SplitIdentity(connection=chain.id, identity_id="b"),
    )


async def test_a_failed_split_is_unavailable(api: Api, chain: Connection) -> None:
    request = pb.SplitProfileRequest(kpid=await find_kpid(api.harness, chain, "a"), identities=[reference(chain, "c")])
    async with worker(api, status="Failed"):
        failed = await api.call(f"{SERVICE}/SplitProfile", request)
    assert failed.status == "UNAVAILABLE"
    assert failed.message.endswith("it broke")


async def test_a_split_fails_with_the_reason_if_another_one_was_before(api: Api, chain: Connection) -> None:
    """Between the check of a call and its operation, the profile may change."""
    kpid = await find_kpid(api.harness, chain, "a")
    request = pb.SplitProfileRequest(kpid=kpid, identities=[reference(chain, "c")])
    call = asyncio.create_task(api.call(f"{SERVICE}/SplitProfile", request))
    while (operation := await api.harness.operations.claim("worker", kinds=PROFILE_KINDS)) is None:
        await asyncio.sleep(0.01)
    async with api.harness.state.transaction() as transaction:
        await transaction.run(lambda database: database.exec_driver_sql("DELETE FROM members WHERE identity_id = 'c'"))
    await api.harness.operations.finish(operation.id, "worker", "Failed", "the profile has no identity 'c'")
    failed = await call
    assert (failed.status, failed.reason) == ("FAILED_PRECONDITION", "IdentityNotExist")


INVALID_SPLITS: list[tuple[Any, str, str, str]] = [
    ([], "INVALID_ARGUMENT", "BadRequest", "identities"),
    (["a"] * 1001, "INVALID_ARGUMENT", "BadRequest", "identities"),
    (["a", "b", "a"], "INVALID_ARGUMENT", "BadRequest", "identities[2]"),
    ([""], "INVALID_ARGUMENT", "BadRequest", "identities[0]"),
    (["a", "z"], "FAILED_PRECONDITION", "IdentityNotExist", "identities[1]"),
    (["a", "b", "c", "d"], "FAILED_PRECONDITION", "NoIdentityRemains", "identities"),
]


async def test_impossible_splits_are_rejected(api: Api, chain: Connection) -> None:
    kpid = await find_kpid(api.harness, chain, "a")
    for ids, status, reason, field in INVALID_SPLITS:
        names = [reference(chain, id_) for id_ in ids]
        failed = await api.call(f"{SERVICE}/SplitProfile", pb.SplitProfileRequest(kpid=kpid, identities=names))
        assert (failed.status, failed.reason, failed.metadata) == (status, reason, (("field", field),)), ids
    assert await api.harness.operations.page(limit=10) == []


async def separate(api: Api, workspace: int, source: Connection) -> int:
    """Store a separation of a workspace, as the worker does, and return its id."""
    sides = ((IdentityName(source.id, "a", False),), (IdentityName(source.id, "b", True),))
    separation = Separation(0, workspace, 5_000_000, sides, read_kpid(UNKNOWN))
    async with api.harness.state.transaction() as transaction:
        return await transaction.run(lambda database: ProfileRows(database).add_separation(separation))


async def test_separations_are_listed_and_deleted(api: Api, source: Connection) -> None:
    ids = [await separate(api, api.harness.workspace, source) for _ in range(3)]
    found: list[int] = []
    token = ""
    for _ in range(3):
        request = pb.ListSeparationsRequest(limit=1, page_token=token)
        page = await api.call(f"{SERVICE}/ListSeparations", request)
        found += [each.id for each in page.separations]
        token = page.next_page_token
    assert (found, token) == (ids[::-1], "")
    (shown,) = page.separations
    assert [[(each.user_id, each.anonymous_id) for each in side.identities] for side in shown.sides] == [
        [("a", "")],
        [("", "b")],
    ]
    assert shown.kpid == kpid_text(read_kpid(UNKNOWN))
    async with worker(api) as executed:
        await api.call(f"{SERVICE}/DeleteSeparation", pb.DeleteSeparationRequest(id=ids[0]))
    assert executed[0].parameters.separation == ids[0]  # type: ignore[union-attr]
    async with worker(api, result=False):
        failed = await api.call(f"{SERVICE}/DeleteSeparation", pb.DeleteSeparationRequest(id=ids[1]))
    assert (failed.status, failed.metadata) == ("NOT_FOUND", (("field", "id"),))
    for id_, status in ((ids[-1] + 1, "NOT_FOUND"), (0, "INVALID_ARGUMENT"), (-1, "INVALID_ARGUMENT")):
        failed = await api.call(f"{SERVICE}/DeleteSeparation", pb.DeleteSeparationRequest(id=id_))
        assert (failed.status, failed.metadata) == (status, (("field", "id"),))


# Resolutions


async def test_a_resolution_is_started_once(api: Api) -> None:
    latest, start = (
        "IdentityResolutionService/GetLatestIdentityResolution",
        resolution_pb.StartIdentityResolutionRequest,
    )
    empty = await api.call(latest, resolution_pb.GetLatestIdentityResolutionRequest())
    assert empty == resolution_pb.GetLatestIdentityResolutionResponse()
    await api.call("IdentityResolutionService/StartIdentityResolution", start())
    failed = await api.call("IdentityResolutionService/StartIdentityResolution", start())
    assert (failed.status, failed.reason) == ("FAILED_PRECONDITION", "OperationAlreadyExecuting")
    running = await api.call(latest, resolution_pb.GetLatestIdentityResolutionRequest())
    assert running.HasField("start_time")
    assert not running.HasField("end_time")
    async with worker(api):
        while not (ended := await api.call(latest, resolution_pb.GetLatestIdentityResolutionRequest())).HasField(
            "end_time"
        ):
            await asyncio.sleep(0.01)
    assert not ended.HasField("error")
    api.harness.clock.advance(1)
    await api.call("IdentityResolutionService/StartIdentityResolution", start())
    async with worker(api, status="Failed"):
        while not (ended := await api.call(latest, resolution_pb.GetLatestIdentityResolutionRequest())).HasField(
            "end_time"
        ):
            await asyncio.sleep(0.01)
    assert ended.error == "it broke"


async def test_a_split_waits_for_no_resolution(api: Api, chain: Connection) -> None:
    start = resolution_pb.StartIdentityResolutionRequest()
    await api.call("IdentityResolutionService/StartIdentityResolution", start)
    request = pb.SplitProfileRequest(kpid=await find_kpid(api.harness, chain, "a"), identities=[reference(chain, "c")])
    failed = await api.call(f"{SERVICE}/SplitProfile", request)
    assert (failed.status, failed.reason) == ("FAILED_PRECONDITION", "OperationAlreadyExecuting")


# Tenants


# Finding by the ids of the sources


async def find(api: Api, **named: Any) -> list[str]:
    """Return the ids of the profiles that both packages find."""
    typed = await api.call(f"{SERVICE}/FindProfiles", pb.FindProfilesRequest(**named))
    found = (await rest(api, "FindProfiles", rest_pb.FindProfilesRequest(**named)))["profiles"]
    assert [
        (each.kpid, json.loads(each.attributes_json), each.updated_at.ToJsonString()) for each in typed.profiles
    ] == [(each["kpid"], each["attributes"], each["updatedAt"]) for each in found]
    return [each["kpid"] for each in found]


async def test_a_profile_is_found_by_the_ids_of_its_identities(api: Api, people: Connection) -> None:
    ada, bob = [await find_kpid(api.harness, people, name) for name in ("ada", "bob")]
    await add_people(api.harness, people, [("visitor", {"phone": "1"})], anonymous=True)
    visitor = await find_kpid(api.harness, people, "visitor")
    other = await add_source(api.harness.catalog, api.harness.workspace, users=(True,))
    await add_people(api.harness, other, [("bob", {"email": "bob@other"})])
    second = await find_kpid(api.harness, other, "bob")
    assert await find(api, user_id="ada") == await find(api, user_id="ada2", connection=people.id) == [ada]
    assert await find(api, user_id="bob") == [second, bob]
    assert await find(api, user_id="bob", connection=people.id) == [bob]
    assert await find(api, anonymous_id="visitor") == [visitor]
    for unknown in ({"user_id": "visitor"}, {"anonymous_id": "ada"}, {"user_id": "ada", "connection": other.id}):
        assert await find(api, **unknown) == []


@pytest.mark.parametrize(
    ("named", "reason", "field"),
    [
        ({}, "BadRequest", None),
        ({"user_id": "a", "anonymous_id": "b"}, "BadRequest", None),
        ({"user_id": ""}, "BadRequest", "userId"),
        ({"anonymous_id": "a" * 4_097}, "BadRequest", "anonymousId"),
        ({"user_id": "a", "connection": 7}, "NotFound", "connection"),
        ({"user_id": "a", "connection": 0}, "BadRequest", "connection"),
    ],
)
async def test_a_person_must_be_named_by_one_id(
    api: Api, named: dict[str, Any], reason: str, field: str | None
) -> None:
    failed = await api.call(f"{SERVICE}/FindProfiles", pb.FindProfilesRequest(**named))
    assert (failed.reason, dict(failed.metadata).get("field")) == (reason, field)


async def test_another_workspace_sees_nothing(api: Api) -> None:
    harness = api.harness
    other = await add_workspace(harness.catalog)
    await set_up(harness, other.id)
    source = await add_source(harness.catalog, other.id)
    await add_people(harness, source, [("a", {"email": "1"}), ("b", {"email": "1"})])
    separation = await separate(api, other.id, source)
    kpid = await find_kpid(harness, source, "a")
    names = [reference(source, "a")]
    lists = [
        (f"{SERVICE}/ListProfiles", pb.ListProfilesRequest(), "profiles"),
        (f"{SERVICE}/ListProfileEvents", pb.ListProfileEventsRequest(kpid=kpid), "events"),
        (f"{SERVICE}/ListProfileIdentities", pb.ListProfileIdentitiesRequest(kpid=kpid), "identities"),
        (f"{SERVICE}/ListSeparations", pb.ListSeparationsRequest(), "separations"),
        (f"{SERVICE}/FindProfiles", pb.FindProfilesRequest(user_id="a"), "profiles"),
        ("IdentityResolutionService/ListRefusals", resolution_pb.ListRefusalsRequest(), "refusals"),
    ]
    for method, request, member in lists:
        assert list(getattr(await api.call(method, request), member)) == [], method
    hidden: list[tuple[str, Any]] = [
        ("FindProfiles", pb.FindProfilesRequest(user_id="a", connection=source.id)),
        ("GetProfileAttributes", pb.GetProfileAttributesRequest(kpid=kpid)),
        ("ListProfileChanges", pb.ListProfileChangesRequest(kpid=kpid)),
        ("GetProfileExplanation", pb.GetProfileExplanationRequest(kpid=kpid)),
        ("SplitProfile", pb.SplitProfileRequest(kpid=kpid, identities=names)),
        ("DeleteSeparation", pb.DeleteSeparationRequest(id=separation)),
    ]
    for method, request in hidden:
        assert (await api.call(f"{SERVICE}/{method}", request)).status == "NOT_FOUND", method
    assert await harness.operations.page(limit=10) == []
    own = await api.call(
        "IdentityResolutionService/StartIdentityResolution", resolution_pb.StartIdentityResolutionRequest()
    )
    assert own == resolution_pb.StartIdentityResolutionResponse()
    assert [each.workspace for each in await harness.operations.page(limit=10)] == [harness.workspace]
