"""Profiles through real Envoy: people who are seen by several sources become profiles, which are read, explained and
split."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pytest

from tests.e2e.source import get, post
from tests.system import HTTP, RunningSystem, wait_until
from tests.tenants import add_tenant

SEEN_WITHIN_SECONDS = 60.0
PROPERTIES = [
    {"name": name, "type": {"kind": "string"}, "readOptional": True} for name in ("email", "phone", "name", "city")
]
SCHEMA = {"kind": "object", "properties": PROPERTIES}
MAPPING = {name: f"traits.{name}" for name in ("email", "phone", "name")}
UNKNOWN = "7d444840-9dc0-4bd1-b245-5ffdce74fad2"


@dataclass(frozen=True)
class Shop:
    """A workspace with sources whose users become profiles."""

    system: RunningSystem
    sources: tuple[int, ...]
    keys: tuple[str, ...]

    def identify(self, source: int, user: str, **traits: Any) -> None:
        """Identify a user of a source, and wait until the identity is in a profile."""
        self.identify_all(source, [{"userId": user, "traits": traits}])
        wait_until(lambda: user in {each["userId"] for each in self.people(source)}, SEEN_WITHIN_SECONDS)

    def identify_all(self, source: int, users: list[dict[str, Any]]) -> None:
        batch = {"batch": [{"type": "identify", **user} for user in users]}
        sent = HTTP.post(f"{self.system.base_url}/v1/batch", json=batch, auth=(self.keys[source], ""))
        assert sent.status_code == 200, sent.text

    def people(self, source: int) -> list[dict[str, Any]]:
        """Return the identities of a source."""
        identities: list[dict[str, Any]] = get(
            self.system, f"/v1/connections/{self.sources[source]}/identities?limit=1000"
        )["identities"]
        return [each for each in identities if "userId" in each]

    def profiles(self, query: str = "limit=1000") -> list[dict[str, Any]]:
        """Return profiles."""
        found: list[dict[str, Any]] = get(self.system, f"/v1/profiles?{query}")["profiles"]
        return found

    def members(self) -> dict[str, set[str]]:
        """Return the users of each profile, as "source:user"."""
        numbers = {id_: number for number, id_ in enumerate(self.sources)}
        return {
            profile["kpid"]: {
                f"{numbers[each['connection']]}:{each.get('userId', '?')}" for each in self.identities(profile["kpid"])
            }
            for profile in self.profiles()
        }

    def identities(self, kpid: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = get(self.system, f"/v1/profiles/{kpid}/identities")["identities"]
        return found

    def find_kpid(self, person: str) -> str:
        """Return the profile of a user, written as "source:user"."""
        (kpid,) = (kpid for kpid, members in self.members().items() if person in members)
        return kpid

    def wait_for(self, *groups: set[str]) -> None:
        """Wait until the profiles have these users."""
        wanted = sorted(map(sorted, groups))
        wait_until(lambda: sorted(map(sorted, self.members().values())) == wanted, SEEN_WITHIN_SECONDS)

    def name(self, person: str) -> dict[str, Any]:
        source, _, user = person.partition(":")
        return {"connection": self.sources[int(source)], "userId": user}

    def resolve(self) -> dict[str, Any]:
        """Resolve all identities, and return the response about the latest resolution."""
        wait_until(lambda: call(self.system, "POST", "/v1/identity-resolution/start").status_code == 200, 60)
        return wait_for_resolution(self.system)


def wait_for_resolution(system: RunningSystem) -> dict[str, Any]:
    """Wait until the latest resolution has ended, and return the response about it."""
    wait_until(lambda: "endTime" in get(system, "/v1/identity-resolution/latest"), SEEN_WITHIN_SECONDS)
    latest: dict[str, Any] = get(system, "/v1/identity-resolution/latest")
    return latest


def call(system: RunningSystem, method: str, path: str, body: Any = None) -> Any:
    return HTTP.request(method, f"{system.base_url}{path}", json=body, headers=system.authorization, timeout=30)


def put(system: RunningSystem, path: str, body: Any) -> None:
    """PUT, again while an operation executes."""
    wait_until(lambda: call(system, "PUT", path, body).status_code == 200, SEEN_WITHIN_SECONDS)


def open_shop(
    system: RunningSystem, name: str, *, sources: int = 2, identifiers: tuple[str, ...] = ("email", "phone")
) -> Shop:
    """Create a workspace with a profile schema, identifiers, and sources that identify users."""
    tenant = add_tenant(system, name)
    put(tenant, "/v1/profiles/schema", {"schema": SCHEMA})
    wait_until(lambda: "endTime" in get(tenant, "/v1/profiles/schema/latest-alter"), SEEN_WITHIN_SECONDS)
    if identifiers:
        put(tenant, "/v1/identity-resolution/settings", {"identifiers": list(identifiers)})
        wait_for_resolution(tenant)
    ids = tuple(_add_source(tenant, MAPPING) for _ in range(sources))
    keys = tuple(get(tenant, f"/v1/connections/{id_}/event-write-keys")["keys"][0] for id_ in ids)
    return Shop(tenant, ids, keys)


def _add_source(tenant: RunningSystem, mapping: dict[str, str]) -> int:
    id_: int = post(tenant, "/v1/connections", {"name": "S", "role": "Source", "connector": "http"})["id"]
    _add_pipeline(tenant, id_, mapping)
    body = {"connection": id_, "target": "Event", "name": "Events", "enabled": True}
    post(tenant, "/v1/pipelines", body)
    return id_


def _add_pipeline(tenant: RunningSystem, connection: int, mapping: dict[str, str]) -> None:
    properties = [each for each in PROPERTIES if each["name"] in mapping]
    body = {
        "connection": connection,
        "target": "User",
        "name": "People",
        "enabled": True,
        "outSchema": {"kind": "object", "properties": properties},
        "transformation": {"mapping": mapping},
    }
    post(tenant, "/v1/pipelines", body)


@pytest.fixture(scope="module", params=["system", "postgresql_system"])
def server(request: pytest.FixtureRequest) -> RunningSystem:
    """Run the tests on both databases."""
    running: RunningSystem = request.getfixturevalue(request.param)
    return running


@pytest.fixture(scope="module")
def shop(server: RunningSystem) -> Iterator[Shop]:
    """Create a workspace for tests that read."""
    shop = open_shop(server, "Reading")
    shop.identify(0, "ada", email="ada@x", name="Ada")
    shop.identify(1, "42", email="ada@x", phone="5")
    shop.identify(0, "bob", email="bob@x", name="Bob")
    shop.identify(1, "43", phone="5")
    shop.wait_for({"0:ada", "1:42", "1:43"}, {"0:bob"})
    yield shop


# The documented examples


EXAMPLES: list[tuple[list[tuple[str, dict[str, str]]], list[set[str]]]] = [
    ([("0:1", {"email": "a", "name": "A"}), ("1:9", {"email": "a", "name": "B"})], [{"0:1", "1:9"}]),
    ([("0:1", {"email": "a", "phone": "5"}), ("1:9", {"email": "b", "phone": "5"})], [{"0:1"}, {"1:9"}]),
    ([("0:1", {"phone": "5"}), ("1:9", {"email": "b", "phone": "5"})], [{"0:1", "1:9"}]),
    (
        [("0:1", {"email": "a"}), ("1:9", {"email": "b", "phone": "5"}), ("2:z", {"phone": "5"})],
        [{"0:1"}, {"1:9", "2:z"}],
    ),
    (
        [("0:1", {"email": "a", "phone": "5", "other": "b"}), ("1:9", {"email": "b"}), ("2:z", {"phone": "5"})],
        [{"0:1", "1:9", "2:z"}],
    ),
]
"""Users in their order, as "source:user" with traits, and the users of each profile. The values of an example get its
number, so that all are in one workspace. The trait `other` is the email in another pipeline of the source."""


def test_the_documented_examples(server: RunningSystem) -> None:
    shop = open_shop(server, "Examples", sources=3)
    _add_pipeline(shop.system, shop.sources[0], {"email": "traits.other"})
    expected: list[set[str]] = []
    for number, (people, groups) in enumerate(EXAMPLES):
        for person, traits in people:
            source, _, user = person.partition(":")
            own = {name: value if name == "name" else f"{value}-{number}" for name, value in traits.items()}
            shop.identify(int(source), f"{user}-{number}", **own)
        expected += [{f"{person}-{number}" for person in group} for group in groups]
    shop.wait_for(*expected)
    shown = get(shop.system, f"/v1/profiles/{shop.find_kpid('0:1-0')}/attributes")
    assert shown["attributes"] == {"email": "a-0", "name": "B"}
    before = shop.members()
    assert shop.resolve().keys() == {"startTime", "endTime"}
    assert shop.members() == before


def test_the_primary_source_takes_precedence(server: RunningSystem) -> None:
    shop = open_shop(server, "Primary")
    put(shop.system, "/v1/profiles/schema", {"schema": SCHEMA, "primarySources": {"name": shop.sources[0]}})
    shop.identify(0, "1", email="a", name="A")
    shop.identify(1, "9", email="a", name="B")
    shop.identify(0, "2", email="c")
    shop.identify(1, "8", email="c", name="B")
    shop.wait_for({"0:1", "1:9"}, {"0:2", "1:8"})
    wait_until(
        lambda: (
            {each["attributes"]["email"]: each["attributes"].get("name") for each in shop.profiles()}
            == {"a": "A", "c": "B"}
        ),
        SEEN_WITHIN_SECONDS,
    )


def test_without_identifiers_each_user_is_a_person(server: RunningSystem) -> None:
    shop = open_shop(server, "Alone", identifiers=())
    shop.identify(0, "1", email="a")
    shop.identify(1, "1", email="a")
    shop.wait_for({"0:1"}, {"1:1"})


# Reading


def test_a_profile_has_attributes_identities_and_events(shop: Shop) -> None:
    kpid = shop.find_kpid("0:ada")
    path = f"/v1/profiles/{kpid}"
    attributes = {"email": "ada@x", "name": "Ada", "phone": "5"}
    assert get(shop.system, f"{path}/attributes") == {"kpid": kpid, "attributes": attributes}
    found = get(shop.system, f"{path}/identities")
    assert [each["userId"] for each in found["identities"]] == ["43", "42", "ada"]
    assert found["total"] == 3
    wait_until(lambda: len(get(shop.system, f"{path}/events")["events"]) == 3, SEEN_WITHIN_SECONDS)
    events = get(shop.system, f"{path}/events?properties=userId,kpid&limit=2")["events"]
    assert events == [{"kpid": kpid, "userId": "43"}, {"kpid": kpid, "userId": "42"}]


def test_lists_select_properties_filter_and_order(shop: Shop) -> None:
    condition = {"property": "email", "operator": "is", "values": ["bob@x"]}
    filter_ = quote(json.dumps({"logical": "and", "conditions": [condition]}))
    page = get(shop.system, f"/v1/profiles?properties=name&filter={filter_}")
    assert [each["attributes"] for each in page["profiles"]] == [{"name": "Bob"}]
    assert (page["total"], [each["name"] for each in page["schema"]["properties"]]) == (1, ["name"])
    for order, names in (("order=name", ["Ada", "Bob"]), ("order=name&orderDesc=true", ["Bob", "Ada"])):
        assert [each["attributes"]["name"] for each in shop.profiles(order)] == names


def test_the_links_of_a_profile_are_explained(shop: Shop) -> None:
    path = f"/v1/profiles/{shop.find_kpid('0:ada')}/explanation"
    links = get(shop.system, path)["links"]
    assert [(each["rule"], each["identifier"], each["value"]) for each in links] == [
        ("Identifier", "email", "ada@x"),
        ("Identifier", "phone", "5"),
    ]
    assert {each["from"]["userId"] for each in links} | {each["to"]["userId"] for each in links} == {"ada", "42", "43"}
    first, last = (f"{shop.sources[source]}:userId:{user}" for source, user in ((0, "ada"), (1, "43")))
    chain = get(shop.system, f"{path}?from={first}&to={last}")["links"]
    assert [each["value"] for each in chain] == ["ada@x", "5"]


# Splits


def test_a_split_survives_events_and_resolutions_until_it_is_undone(server: RunningSystem) -> None:
    shop = open_shop(server, "Splits")
    shop.identify(0, "1", email="a")
    shop.identify(1, "9", email="a")
    shop.wait_for({"0:1", "1:9"})
    (kpid,) = shop.members()
    split = post(shop.system, f"/v1/profiles/{kpid}/split", {"identities": [shop.name("1:9")]})["kpids"]
    assert split[0] == kpid
    assert shop.members() == {split[0]: {"0:1"}, split[1]: {"1:9"}}
    shop.identify(1, "9", email="a", phone="5")
    shop.identify(0, "1", email="a", phone="5")
    shop.identify(1, "8", email="a")
    shop.resolve()
    members = shop.members()
    assert "1:9" not in members[kpid]
    assert "1:9" in members[split[1]]
    explained = get(shop.system, f"/v1/profiles/{kpid}/explanation")["refusals"]
    assert "Separated" in {each["reason"] for each in explained}
    refusals = get(shop.system, "/v1/identity-resolution/refusals")["refusals"]
    assert {each["reason"] for each in refusals} == {"Separated"}
    (separation,) = get(shop.system, "/v1/profiles/separations")["separations"]
    assert separation["kpid"] == kpid
    named = [[each["userId"] for each in side["identities"]] for side in separation["sides"]]
    assert sorted(named) == [["1"], ["9"]]
    with ThreadPoolExecutor(4) as threads:
        path = f"/v1/profiles/separations/{separation['id']}"
        statuses = threads.map(lambda _: call(shop.system, "DELETE", path).status_code, range(4))
    assert sorted(statuses) == [200, 404, 404, 404]
    assert shop.members() == {kpid: {"0:1", "1:9", "1:8"}}
    assert get(shop.system, "/v1/profiles/separations")["separations"] == []
    for old in split:
        assert get(shop.system, f"/v1/profiles/{old}/attributes")["kpid"] == kpid
    changes = get(shop.system, f"/v1/profiles/{split[1]}/history")
    assert (changes["kpid"], [each["kind"] for each in changes["changes"]]) == (kpid, ["Merge", "Split"])
    assert {each["kpid"] for each in changes["changes"]} == {split[1]}


def test_the_founder_can_be_split_off(server: RunningSystem) -> None:
    shop = open_shop(server, "Founders")
    shop.identify(0, "1", email="a")
    shop.identify(1, "9", email="a")
    shop.wait_for({"0:1", "1:9"})
    (kpid,) = shop.members()
    rest, founder = post(shop.system, f"/v1/profiles/{kpid}/split", {"identities": [shop.name("0:1")]})["kpids"]
    assert founder == kpid
    assert shop.members() == {kpid: {"0:1"}, rest: {"1:9"}}


# Errors


UNKNOWN_PROPERTY = '{"logical":"and","conditions":[{"property":"x","operator":"exists"}]}'


def split_off(*users: str) -> dict[str, Any]:
    """Return the body of a split of users of the first source."""
    return {"identities": [{"connection": "{source}", "userId": user} for user in users]}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "?properties=unknown", None, 422, "PropertyNotExist"),
        ("GET", "?order=unknown", None, 422, "OrderNotExist"),
        ("GET", f"?filter={UNKNOWN_PROPERTY}", None, 422, "PropertyNotExist"),
        ("GET", "?filter={", None, 400, "BadRequest"),
        ("GET", "?limit=1001", None, 400, "BadRequest"),
        ("GET", "?unknown=1", None, 400, "BadRequest"),
        ("GET", "/x/attributes", None, 400, "BadRequest"),
        ("GET", f"/{UNKNOWN}/attributes", None, 404, "NotFound"),
        ("GET", f"/{UNKNOWN}/history", None, 404, "NotFound"),
        ("GET", f"/{UNKNOWN}/explanation", None, 404, "NotFound"),
        ("GET", "/{kpid}/explanation?from=1:userId:ada", None, 400, "BadRequest"),
        ("GET", "/{kpid}/explanation?from=ada&to=1:userId:42", None, 400, "BadRequest"),
        ("GET", "/{kpid}/explanation?from={source}:userId:x&to={source}:userId:ada", None, 422, "IdentityNotExist"),
        ("GET", "/{kpid}/events?limit=0", None, 400, "BadRequest"),
        ("GET", "/{kpid}/events?properties=x", None, 400, "BadRequest"),
        ("POST", "/{kpid}/split", {}, 400, "BadRequest"),
        ("POST", "/{kpid}/split", {"identities": [{"connection": "{source}"}]}, 400, "BadRequest"),
        ("POST", "/{kpid}/split", split_off("x"), 422, "IdentityNotExist"),
        ("POST", "/{kpid}/split", split_off("ada", "ada"), 400, "BadRequest"),
        ("POST", "/{bob}/split", split_off("bob"), 422, "NoIdentityRemains"),
        ("POST", f"/{UNKNOWN}/split", split_off("x"), 404, "NotFound"),
        ("DELETE", "/separations/1234567", None, 404, "NotFound"),
        ("DELETE", "/separations/0", None, 400, "BadRequest"),
    ],
    ids=str,
)  # fmt: skip
def test_errors(shop: Shop, method: str, path: str, body: Any, status: int, code: str) -> None:
    known = {"{kpid}": shop.find_kpid("0:ada"), "{bob}": shop.find_kpid("0:bob"), "{source}": str(shop.sources[0])}
    text = json.dumps(body)
    for written, meant in known.items():
        path, text = path.replace(written, meant), text.replace(written, meant)
    failed = call(shop.system, method, f"/v1/profiles{path}", json.loads(text))
    assert (failed.status_code, failed.json()["error"]["code"]) == (status, code), failed.text


def test_a_second_workspace_sees_nothing_of_the_first(shop: Shop) -> None:
    stranger = add_tenant(shop.system, "Stranger")
    kpid = shop.find_kpid("0:ada")
    for path, member in (
        ("/v1/profiles", "profiles"),
        (f"/v1/profiles/{kpid}/events", "events"),
        (f"/v1/profiles/{kpid}/identities", "identities"),
        ("/v1/profiles/separations", "separations"),
        ("/v1/identity-resolution/refusals", "refusals"),
    ):
        assert get(stranger, path)[member] == [], path
    for method, path, body in (
        ("GET", f"/v1/profiles/{kpid}/attributes", None),
        ("GET", f"/v1/profiles/{kpid}/history", None),
        ("GET", f"/v1/profiles/{kpid}/explanation", None),
        ("POST", f"/v1/profiles/{kpid}/split", {"identities": [shop.name("0:ada")]}),
    ):
        failed = call(stranger, method, path, body)
        assert (failed.status_code, failed.json()["error"]["code"]) == (404, "NotFound"), path
    assert get(stranger, "/v1/identity-resolution/latest") == {}


# Many


def test_thousands_of_profiles_have_pages(server: RunningSystem) -> None:
    shop = open_shop(server, "Many", sources=1)
    count = 2_500
    people = [
        {"userId": f"u{number}", "traits": {"email": f"{number:05}@x", "name": f"N{number % 10}"}}
        for number in range(count)
    ]
    for start in range(0, count, 500):
        shop.identify_all(0, people[start : start + 500])
    wait_until(lambda: get(shop.system, "/v1/profiles?limit=1")["total"] == count, SEEN_WITHIN_SECONDS)
    for query in ("", "order=email&", "order=name&orderDesc=true&"):
        found: list[str] = []
        token = ""
        while True:
            page = get(shop.system, f"/v1/profiles?{query}limit=1000&properties=email&pageToken={token}")
            found += [each["attributes"]["email"] for each in page["profiles"]]
            token = page["nextPageToken"]
            if not token:
                break
        assert sorted(found) == [f"{number:05}@x" for number in range(count)]
        if query.startswith("order=email"):
            assert found == sorted(found)
    condition = {"property": "name", "operator": "is", "values": ["N3"]}
    filter_ = quote(json.dumps({"logical": "and", "conditions": [condition]}))
    page = get(shop.system, f"/v1/profiles?filter={filter_}&limit=1000")
    assert len(page["profiles"]) == page["total"] == count // 10
