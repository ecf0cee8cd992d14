"""Vendors through the whole system: a connection whose settings the vendor checks, events with the mapping that is
suggested, an export of profiles, and an import of users.

One system serves all vendors, each with the server of its rules. A vendor needs an entry in `VENDORS`.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from tests.connectors.vendors import (
    amplitude,
    braze,
    brevo,
    customerio,
    google_analytics,
    hubspot,
    klaviyo,
    mailchimp,
    mailerlite,
    meta_conversions,
    mixpanel,
    posthog,
    salesforce,
    slack,
    stripe,
)
from tests.connectors.vendors.server import VendorServer
from tests.e2e.source import get, post
from tests.e2e.test_profiles import SCHEMA, Shop, call, open_shop, put, wait_for_resolution
from tests.system import RunningSystem, start, wait_until

SECONDS: Final = 60.0
NAMES: Final = ("ada", "bob", "cid")


@dataclass(frozen=True)
class Users:
    """How users of a vendor are exported and imported.

    `exported` maps properties of the vendor to those of profiles, of which one is `name`, or to constants. `imported`
    maps `email` and `city`, which has that name again; None if the vendor cannot be read. `matching` is the vendor's
    property that gets the e-mail address.
    """

    matching: str
    exported: dict[str, str]
    imported: dict[str, str] | None = None


@dataclass(frozen=True)
class Vendor:
    """A vendor's server, settings that it accepts, and the event type of the test; empty without events.

    `oauth_code` is the code of a user who grants access, and `environment` has the OAuth client; empty without OAuth.
    `connector` is the code of the connector if it has another entry too, which has the same server. `settings` are None
    for a connection that has an account instead.
    """

    make_server: Callable[[], VendorServer]
    settings: dict[str, Any] | None
    event_type: str = ""
    users: Users | None = None
    refuses_credentials: bool = True
    oauth_code: str = ""
    environment: dict[str, Any] = field(default_factory=dict)
    connector: str = ""


VENDORS: Final = {
    "amplitude": Vendor(
        amplitude.AmplitudeServer, {"apiKey": amplitude.KEY, "serverZone": "US"}, event_type="identify"
    ),
    "braze": Vendor(
        braze.BrazeServer,
        {"restEndpoint": braze.ENDPOINT, "apiKey": braze.API_KEY},
        event_type="attributes",
        users=Users("email", {"first_name": "name"}),
    ),
    "customerio": Vendor(
        customerio.CustomerIoServer,
        {"siteID": customerio.SITE_ID, "apiKey": customerio.API_KEY, "region": "US"},
        event_type="identify",
        users=Users("email", {"timezone": "name"}),
    ),
    "brevo": Vendor(
        brevo.BrevoServer,
        {"apiKey": brevo.KEY},
        event_type="create_user_event",
        users=Users("email", {"FIRSTNAME": "name"}, {"email": "email", "city": "FIRSTNAME"}),
    ),
    "google-analytics": Vendor(
        google_analytics.GoogleAnalyticsServer,
        {
            "measurementID": google_analytics.MEASUREMENT_ID,
            "apiSecret": google_analytics.SECRET,
            "collectionEndpoint": "EU",
        },
        event_type="login",
        refuses_credentials=False,
    ),
    "hubspot": Vendor(
        hubspot.HubSpotServer,
        {"accessToken": hubspot.TOKEN},
        event_type=hubspot.ORDER_COMPLETED,
        users=Users("email", {"firstname": "name"}, {"email": "email", "city": "firstname"}),
    ),
    "hubspot-oauth": Vendor(
        hubspot.HubSpotServer,
        None,
        event_type=hubspot.ORDER_COMPLETED,
        users=Users("email", {"firstname": "name"}, {"email": "email", "city": "firstname"}),
        refuses_credentials=False,
        oauth_code=hubspot.CODE,
        environment={
            "HEADWATER_OAUTH_HUBSPOT_CLIENT_ID": hubspot.CLIENT_ID,
            "HEADWATER_OAUTH_HUBSPOT_CLIENT_SECRET": hubspot.CLIENT_SECRET,
        },
        connector="hubspot",
    ),
    "klaviyo": Vendor(
        klaviyo.KlaviyoServer,
        {"privateAPIKey": klaviyo.KEY},
        event_type="create_user_event",
        users=Users("email", {"first_name": "name"}, {"email": "email", "city": "first_name"}),
    ),
    "meta-conversions": Vendor(
        meta_conversions.MetaConversionsServer,
        {"datasetID": meta_conversions.DATASET, "accessToken": meta_conversions.TOKEN},
        event_type="CompleteRegistration",
    ),
    "mailchimp": Vendor(
        mailchimp.MailchimpServer,
        {"apiKey": mailchimp.KEY, "audience": mailchimp.LIST},
        users=Users(
            "email_address",
            {"merge_fields.FNAME": "name", "status_if_new": "'subscribed'"},
            {"email": "email_address", "city": "merge_fields.FNAME"},
        ),
    ),
    "mailerlite": Vendor(
        mailerlite.MailerLiteServer,
        {"apiKey": mailerlite.KEY},
        users=Users("email", {"fields.name": "name"}, {"email": "email", "city": "fields.name"}),
    ),
    "mixpanel": Vendor(
        mixpanel.MixpanelServer,
        {"projectID": "3012345", "projectToken": mixpanel.TOKEN, "dataResidency": "US"},
        event_type="identify",
        users=Users("distinct_id", {"name": "name"}),
    ),
    "posthog": Vendor(
        posthog.PostHogServer, {"apiKey": posthog.KEY, "cloud": {"projectRegion": "EU"}}, event_type="identify"
    ),
    "slack": Vendor(slack.SlackServer, {"webhookURL": slack.URL}, event_type="send_message"),
    "stripe": Vendor(
        stripe.StripeServer,
        {"apiKey": stripe.KEY},
        users=Users("email", {"name": "name"}, {"email": "email", "city": "name"}),
    ),
    "salesforce": Vendor(
        salesforce.SalesforceServer,
        {"object": "Contact", "externalIDField": "Email"},
        users=Users("Email", {"LastName": "name"}, {"email": "Email", "city": "LastName"}),
        oauth_code=salesforce.CODE,
        environment={
            "HEADWATER_OAUTH_SALESFORCE_CLIENT_ID": salesforce.CLIENT_ID,
            "HEADWATER_OAUTH_SALESFORCE_CLIENT_SECRET": salesforce.CLIENT_SECRET,
        },
    ),
}


@contextmanager
def serving(servers: list[VendorServer]) -> Iterator[None]:
    """Run the servers in a thread."""
    loop, started = asyncio.new_event_loop(), threading.Event()
    ended = asyncio.Event()

    async def serve() -> None:
        async with AsyncExitStack() as stack:
            for server in servers:
                await stack.enter_async_context(server.running())
            started.set()
            await ended.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    assert started.wait(SECONDS)
    try:
        yield
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(SECONDS)
        loop.close()


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, VendorServer]]:
    made = {make: make() for make in {vendor.make_server for vendor in VENDORS.values()}}
    with serving(list(made.values())):
        yield {code: made[vendor.make_server] for code, vendor in VENDORS.items()}


@pytest.fixture(scope="module")
def vendor_system(
    servers: dict[str, VendorServer], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningSystem]:
    """Start one system that sends everything for the vendors to their servers."""
    origins = {vendor: server for each in servers.values() for vendor, server in each.origins.items()}
    system = start(
        tmp_path_factory.mktemp("vendors") / "data",
        HEADWATER_CONNECTOR_ORIGINS=",".join(f"{vendor}={server}" for vendor, server in origins.items()),
        HEADWATER_ALLOW_PRIVATE_DESTINATIONS="127.0.0.0/8",
        **{name: value for vendor in VENDORS.values() for name, value in vendor.environment.items()},
    )
    try:
        yield system
    finally:
        assert system.stop() == 0, system.errors
    assert "Traceback" not in system.errors


@pytest.mark.timeout(180)
@pytest.mark.parametrize("code", VENDORS)
def test_a_vendor_gets_events_and_users_and_gives_users(
    vendor_system: RunningSystem, servers: dict[str, VendorServer], code: str
) -> None:
    vendor, server = VENDORS[code], servers[code]
    shop = open_shop(vendor_system, code.title(), sources=1, identifiers=())
    put(shop.system, "/v1/identity-resolution/settings", {"identifiers": ["email"], "runOnBatchImport": True})
    wait_for_resolution(shop.system)
    destination = connect(shop, code, server)
    before = len(server.accepted)
    if isinstance(server, hubspot.HubSpotServer):
        server.end_access()
    if vendor.event_type:
        add_events(shop.system, destination, vendor.event_type)
    users = [{"userId": name, "traits": {"email": f"{name}@example.com", "name": name.title()}} for name in NAMES]
    shop.identify_all(0, users)
    if vendor.event_type:
        wait_until(lambda: len(server.accepted) >= before + len(NAMES), SECONDS)
    if vendor.users is not None:
        wait_until(lambda: int(get(shop.system, "/v1/profiles")["total"]) == len(NAMES), SECONDS)
        export(shop.system, destination, vendor.users)
    if vendor.users is not None and vendor.users.imported is not None:
        import_users(shop.system, code, vendor, vendor.users.imported)
        names = [name.title() for name in NAMES]
        wait_until(lambda: sorted(each["attributes"].get("city", "") for each in shop.profiles()) == names, SECONDS)
    assert server.violations == []


@pytest.mark.timeout(240)
def test_two_exports_share_the_rate_of_an_account(
    vendor_system: RunningSystem, servers: dict[str, VendorServer]
) -> None:
    """Export twice in 60 requests at the same time. HubSpot allows 100 in ten seconds."""
    server = servers["hubspot"]
    shop = open_shop(vendor_system, "Rates", sources=1, identifiers=("email",))
    names = [f"user{number}" for number in range(6_000)]
    for first in range(0, len(names), 500):
        some = names[first : first + 500]
        shop.identify_all(
            0, [{"userId": name, "traits": {"email": f"{name}@example.com", "name": name}} for name in some]
        )
    wait_until(lambda: len(names) == int(get(shop.system, "/v1/profiles")["total"]), SECONDS)
    users = VENDORS["hubspot"].users
    assert users is not None
    destination = connect(shop, "hubspot", server)
    pipelines = [add_export(shop.system, destination, users) for _ in range(2)]
    server.is_unlimited = True  # the test counts, without the requests that read schemas
    server.requests.clear()
    runs = [start_run(shop.system, each) for each in pipelines]
    for run in [wait_for_run(shop.system, each) for each in runs]:
        assert (run["status"], run["passed"][-1]) == ("Succeeded", len(names)), run
    server.is_unlimited = False
    at = [request.at for request in server.requests if request.path.startswith("/crm/objects/")]
    assert len(at) >= 120
    assert max(sum(first <= each < first + 10 for each in at) for first in at) <= 100
    assert server.violations == []


def connect(shop: Shop, code: str, server: VendorServer, sources: tuple[int, ...] | None = None) -> int:
    """Create a destination, after the vendor has refused its settings once, if it ever does."""
    body: dict[str, Any] = {"name": code, "role": "Destination"} | access(shop.system, code)
    if VENDORS[code].event_type:
        linked = [shop.sources[each] for each in sources] if sources is not None else list(shop.sources)
        body |= {"sendingMode": "Server", "linkedConnections": linked}
    if VENDORS[code].refuses_credentials:
        server.is_revoked = True
        refused = call(shop.system, "POST", "/v1/connections", body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (422, "InvalidSettings")
        server.is_revoked = False
    id_ = int(post(shop.system, "/v1/connections", body)["id"])
    if VENDORS[code].oauth_code and VENDORS[code].settings is not None:
        check_change(shop.system, id_, code)
    return id_


def check_change(system: RunningSystem, connection: int, code: str) -> None:
    """Change the settings: the vendor is asked with the stored access token of the connection."""
    for settings, status in (({"object": "NoSuchObject"}, 422), (VENDORS[code].settings, 200)):
        changed = call(system, "PUT", f"/v1/connections/{connection}", {"name": code, "settings": settings})
        assert changed.status_code == status, changed.text


def access(system: RunningSystem, code: str) -> dict[str, Any]:
    """Return the members of a connection with its connector, its settings, and the access that a user grants."""
    vendor = VENDORS[code]
    members: dict[str, Any] = {"connector": vendor.connector or code}
    if vendor.oauth_code:
        grant = {**members, "redirectURI": "https://example.com/granted", "authCode": vendor.oauth_code}
        members["authToken"] = post(system, "/v1/connections/auth-token", grant)["authToken"]
    return members if vendor.settings is None else {**members, "settings": vendor.settings}


def add_events(system: RunningSystem, destination: int, event_type: str) -> None:
    """Send events of all types, with the suggested mapping."""
    query = f"connection={destination}&target=Event&eventType={event_type}"
    suggested = get(system, f"/v1/pipelines/suggestion?{query}")
    suggested.pop("filter", None)
    post(system, "/v1/pipelines", suggested)


def choose(schema: dict[str, Any], paths: set[str]) -> dict[str, Any]:
    """Return the part of a schema with the properties of the paths."""
    chosen = []
    for each in schema["properties"]:
        inner = {path.partition(".")[2] for path in paths if path.partition(".")[0] == each["name"]}
        if nested := inner - {""}:
            chosen.append({**each, "type": choose(each["type"], nested)})
        elif inner:
            chosen.append(each)
    return {"kind": "object", "properties": chosen}


def export(system: RunningSystem, destination: int, users: Users) -> None:
    pipeline = add_export(system, destination, users)
    run = execute(system, pipeline)
    errors = get(system, f"/v1/pipelines/runs/{run['id']}/errors")
    assert (run["status"], run["passed"][-1], sum(run["failed"])) == ("Succeeded", len(NAMES), 0), errors


def add_export(system: RunningSystem, destination: int, users: Users) -> int:
    """Create a pipeline that exports all profiles, after a preview, and return its id."""
    schema = get(system, f"/v1/connections/{destination}/schemas/user")["schemas"]["destination"]
    pipeline = {
        "connection": destination,
        "target": "User",
        "name": "Export",
        "enabled": True,
        "exportMode": "CreateOrUpdate",
        "matching": {"in": "email", "out": users.matching},
        "inSchema": choose(SCHEMA, {"email", *users.exported.values()}),
        "outSchema": choose(schema, {users.matching, *users.exported}),
        "transformation": {"mapping": users.exported, "function": None},
    }
    check_preview(system, destination, pipeline)
    return int(post(system, "/v1/pipelines", pipeline)["id"])


def check_preview(system: RunningSystem, destination: int, pipeline: dict[str, Any]) -> None:
    """Show the request of the export for a user. The vendor's server would object to a user that is written twice."""
    members = {name: pipeline[name] for name in ("transformation", "outSchema", "matching")}
    body = {"user": {"email": "ada@example.com", "name": "Ada"}, **members}
    shown = post(system, f"/v1/connections/{destination}/preview-export-user", body)["preview"]
    assert shown.startswith(("POST https://", "PATCH https://")) and "Ada" in shown


def import_users(system: RunningSystem, code: str, vendor: Vendor, mapping: dict[str, str]) -> None:
    """Import the users of the vendor, which are the people of the profiles."""
    body = {"name": "Import", "role": "Source"} | access(system, code)
    source = int(post(system, "/v1/connections", body)["id"])
    schema = get(system, f"/v1/connections/{source}/schemas/user")["schemas"]["source"]
    pipeline = {
        "connection": source,
        "target": "User",
        "name": "Import",
        "enabled": True,
        "inSchema": choose(schema, set(mapping.values())),
        "outSchema": choose(SCHEMA, set(mapping)),
        "transformation": {"mapping": mapping, "function": None},
    }
    run = execute(system, int(post(system, "/v1/pipelines", pipeline)["id"]))
    assert (run["status"], run["passed"][-1], sum(run["failed"])) == ("Succeeded", len(NAMES), 0), run


def execute(system: RunningSystem, pipeline: int) -> dict[str, Any]:
    """Run a pipeline to its end."""
    return wait_for_run(system, start_run(system, pipeline))


def start_run(system: RunningSystem, pipeline: int) -> int:
    return int(post(system, f"/v1/pipelines/{pipeline}/runs", {})["id"])


def wait_for_run(system: RunningSystem, run: int) -> dict[str, Any]:
    """Return a run after its end."""
    wait_until(lambda: "endTime" in get(system, f"/v1/pipelines/runs/{run}"), SECONDS)
    found: dict[str, Any] = get(system, f"/v1/pipelines/runs/{run}")
    return found
