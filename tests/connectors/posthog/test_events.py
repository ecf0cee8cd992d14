"""PostHog's events: the contract, the requests of the page, identities, limits, and bodies of responses."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from headwater.base.errors import Unavailable, Unprocessable
from headwater.connectors.contract import (
    Attempt,
    ConnectorContext,
    EncodedEvent,
    EventRejected,
    EventSink,
    FailureScope,
    HttpRequest,
    HttpResponse,
    Outcome,
    OutgoingEvent,
)
from headwater.connectors.posthog.api import QUOTA_WAIT_SECONDS, check
from headwater.connectors.posthog.events import PostHogSink
from headwater.connectors.posthog.schemas import EVENT_TYPES
from headwater.connectors.posthog.settings import PostHogSettings
from headwater.schemas import Json
from tests.connectors.conformance.context import NOW, ScriptedHttp, make_context
from tests.connectors.conformance.event_sink import FIRST, EventSinkConformance, make_event
from tests.connectors.test_pages import blocks, page
from tests.connectors.vendors.posthog import KEY, PostHogServer

SETTINGS = PostHogSettings.read({"apiKey": KEY, "cloud": {"projectRegion": "EU"}})
TIME = datetime(2026, 5, 4, 11, 59, 59, 500_000, tzinfo=UTC)
SESSION = "019a0ccb-408c-728a-9df9-1ef51b742b36"
OK = HttpResponse(status=200, body=b'{"status":"Ok"}')


def event(type_: str = "track", number: int = 1, *, properties: dict[str, Any] | None = None, **changes: Any) -> Any:
    """Return an event; members that no field has are values of the event type, or of the stored document."""
    values: dict[str, Any] = {"event": "Order Completed"} if type_ == "track" else {}
    values |= {"group_type": "company"} if type_ == "group" else {}
    values |= {name: changes.pop(name) for name in ("event", "group_type", "session_id", "groups") if name in changes}
    if properties is not None:
        values["properties"] = {name: Json(json.dumps(value)) for name, value in properties.items()}
    document = {name: changes.pop(name) for name in ("context", "groupId", "previousId", "name") if name in changes}
    given = {"user_id": f"user-{number}", "anonymous_id": f"a-{number}", "timestamp": TIME} | changes
    return make_event(number, event_type=type_, document=msgspec.json.encode(document), values=values, **given)


def encoded(*events: OutgoingEvent) -> list[dict[str, Any]]:
    """Return the events as they are sent, which PostHog's server accepts."""
    sink = PostHogSink(SETTINGS, make_context())
    request = sink.request([sink.encode(each) for each in events], FIRST)
    server = PostHogServer()
    server.respond(request)
    assert server.violations == []
    sent: list[dict[str, Any]] = json.loads(request.body)["batch"]
    return sent


class TestContract(EventSinkConformance):
    SECRETS = (KEY,)
    STATUS_ONLY = False

    def make(self, context: ConnectorContext) -> EventSink:
        return PostHogSink(SETTINGS, context)

    def event(self, number: int) -> OutgoingEvent:
        made: OutgoingEvent = event(number=number)
        return made

    def success(self, events: Sequence[EncodedEvent]) -> HttpResponse:
        return OK

    def unacceptable(self) -> Sequence[OutgoingEvent]:
        return [
            event(user_id="", anonymous_id=""),
            event(user_id="null", anonymous_id="undefined"),
            event(user_id="0", anonymous_id="'None'"),
            event(user_id="x" * 201),
            event(event=""),
            event(event="$pageview"),
            event(event="x" * 201),
            event(session_id="b0e14b4a-5b0c-4a4e-8a65-0d6f3c5b6d7e"),
            event("group"),
            event("group", groupId="null"),
            event("group", groupId="x" * 401),
            event("alias"),
            event("alias", previousId="undefined"),
            event("alias", previousId="user-1"),
            event("alias", previousId="x" * 201),
            event("other"),
        ]


def test_values_at_the_limits_are_accepted() -> None:
    encoded(event(user_id="é" * 200, event="n" * 200, session_id=SESSION), event("group", 2, groupId="é" * 400))


def test_the_request_is_that_of_the_page() -> None:
    context = {"ip": "192.0.2.7", "page": {"url": "https://shop.example/done"}}
    first = event(user_id="ada", properties={"orderId": "o-1", "total": 9.5}, context=context)
    second = event("identify", 2, user_id="ada", anonymous_id="a-1", properties={"email": "ada@example.com"})
    sink = PostHogSink(SETTINGS, make_context())
    request = sink.request([sink.encode(first), sink.encode(second)], FIRST)
    assert json.loads(request.body) == json.loads(blocks("posthog")["batch"])
    assert f"`{request.url}`" in page("posthog")


def test_the_event_types_and_mappings_are_those_of_the_page() -> None:
    for type_ in EVENT_TYPES:
        assert f"| `{type_.id}` | `{type_.filter}` |" in page("posthog") and type_.schema is not None
        for each in type_.schema.properties:
            assert f"| `{each.name}` | " in page("posthog")
            assert not each.prefilled or f"`{each.prefilled}`" in page("posthog")


def test_events_have_the_names_and_members_of_posthog() -> None:
    context = {"ip": "192.0.2.7", "page": {"url": "https://a.example/", "referrer": "https://b.example/", "title": "A"}}
    place = {"$current_url": "https://a.example/", "$referrer": "https://b.example/", "$title": "A"}
    place |= {"$host": "a.example", "$referring_domain": "b.example"}
    traits = {"plan": "pro"}
    identify, group, alias, view, screen, track = encoded(
        event("identify", 1, properties=traits),
        event("group", 2, groupId="acme", properties=traits),
        event("alias", 3, previousId="old"),
        event("page", 4, properties={"title": "mine"}, context=context),
        event("screen", 5, name="Cart"),
        event("track", 6, properties={"$ip": "198.51.100.1", "a": [1, {"b": None}]}, session_id=SESSION),
    )
    unknown = {"$geoip_disable": True}
    assert (identify["event"], identify["distinct_id"]) == ("$identify", "user-1")
    assert identify["properties"] == {"$set": traits, "$anon_distinct_id": "a-1"} | unknown
    assert group["event"] == "$groupidentify"
    assert group["properties"] == {"$group_type": "company", "$group_key": "acme", "$group_set": traits} | unknown
    assert (alias["event"], alias["distinct_id"]) == ("$create_alias", "user-3")
    assert alias["properties"] == {"alias": "old"} | unknown
    assert view["event"] == "$pageview"
    assert view["properties"] == {"title": "mine", "$ip": "192.0.2.7"} | place
    assert (screen["event"], screen["properties"]) == ("$screen", {"$screen_name": "Cart"} | unknown)
    assert track["properties"] == {"$ip": "198.51.100.1", "a": [1, {"b": None}], "$session_id": SESSION}
    assert track["uuid"] == "00000000-0000-0000-0000-000000000006"


def test_anonymous_events_make_no_profile_and_mark_no_id_as_identified() -> None:
    track, identify, placeholder = encoded(
        event(user_id=""),
        event("identify", 2, user_id="", properties={"plan": "pro"}),
        event("identify", 3, anonymous_id="undefined"),
    )
    assert track["distinct_id"] == "a-1" and track["properties"]["$process_person_profile"] is False
    assert (identify["event"], identify["distinct_id"]) == ("$set", "a-2")
    assert "$process_person_profile" not in identify["properties"]
    assert "$anon_distinct_id" not in placeholder["properties"]


def test_old_events_are_sent_in_requests_of_their_own() -> None:
    sink = PostHogSink(SETTINGS, make_context())
    ages = [timedelta(hours=47), timedelta(hours=49)]
    live, old = (sink.encode(event(timestamp=NOW - age)) for age in ages)
    assert live.route != old.route
    flags = [json.loads(sink.request([each], FIRST).body)["historical_migration"] for each in (live, old)]
    assert flags == [False, True]


def test_events_that_become_old_while_they_wait_are_historical() -> None:
    """The flag is that of the attempt: all events of the request are older than 48 hours."""
    sink = PostHogSink(SETTINGS, make_context())
    older, newer = (sink.encode(event(timestamp=NOW - timedelta(hours=hours))) for hours in (47, 46))
    assert older.route == newer.route
    for hours, expected in ((0.5, False), (1.5, False), (2.5, True)):
        attempt = Attempt(key="0" * 32, number=2, at=NOW + timedelta(hours=hours))
        assert json.loads(sink.request([older, newer], attempt).body)["historical_migration"] is expected


def test_the_context_has_the_names_of_posthogs_libraries() -> None:
    context = {
        "app": {"name": "Shop", "version": "3.1", "build": "77", "namespace": "com.shop"},
        "browser": {"name": "Chrome", "version": "126.0"},
        "campaign": {"name": "summer", "source": "google", "medium": "cpc", "term": "mug", "content": "a"},
        "device": {"manufacturer": "Apple", "model": "Mac"},
        "ip": "192.0.2.7",
        "library": {"name": "analytics.js", "version": "2"},
        "locale": "en-GB",
        "network": {"carrier": "O2"},
        "os": {"name": "macOS", "version": "14"},
        "page": {"url": "https://me:pw@a.example:8080/x", "path": "/x", "referrer": "https://[", "title": "X"},
        "screen": {"width": 1440, "height": 900, "density": "2.00"},
        "timezone": "Europe/London",
        "userAgent": "Mozilla/5.0",
    }
    expected = {
        "$app_build": "77",
        "$app_name": "Shop",
        "$app_namespace": "com.shop",
        "$app_version": "3.1",
        "$browser": "Chrome",
        "$browser_version": "126.0",
        "$current_url": "https://me:pw@a.example:8080/x",
        "$device_manufacturer": "Apple",
        "$device_model": "Mac",
        "$host": "a.example:8080",
        "$ip": "192.0.2.7",
        "$lib": "analytics.js",
        "$lib_version": "2",
        "$locale": "en-GB",
        "$network_carrier": "O2",
        "$os": "Mac OS X",
        "$os_version": "14",
        "$pathname": "/x",
        "$raw_user_agent": "Mozilla/5.0",
        "$referrer": "https://[",
        "$screen_height": 900,
        "$screen_width": 1440,
        "$timezone": "Europe/London",
        "$title": "X",
        "utm_campaign": "summer",
        "utm_content": "a",
        "utm_medium": "cpc",
        "utm_source": "google",
        "utm_term": "mug",
    }
    assert [each["properties"] for each in encoded(event(context=context))] == [expected]
    [identify] = encoded(event("identify", context=context, properties={}))
    assert set(identify["properties"]) == {"$set", "$anon_distinct_id", "$ip"}
    [own] = encoded(event(context=context, properties={"$os": "BeOS", "utm_source": None}))
    assert own["properties"] == expected | {"$os": "BeOS", "utm_source": None}
    assert all(f"`{name}`" in page("posthog") for name in expected)


def test_events_can_have_groups() -> None:
    [made] = encoded(event(groups={"company": "acme"}))
    assert made["properties"]["$groups"] == {"company": "acme"}


def test_an_event_that_was_queued_twice_is_in_a_request_once() -> None:
    assert len(encoded(event(number=1), event(number=2), event(number=1))) == 2


def test_a_self_hosted_server_gets_the_requests() -> None:
    settings = PostHogSettings.read({"apiKey": KEY, "selfHosted": {"url": "https://ph.example.com/"}})
    sink = PostHogSink(settings, make_context())
    assert sink.request([sink.encode(event())], FIRST).url == "https://ph.example.com/batch/"


@pytest.mark.parametrize("body", [b'{"status":1}', b'{"status":"Ok","quota_limited":[]}', b'{"status":"Ok","new":1}'])
async def test_documented_bodies_deliver(body: bytes) -> None:
    result = await respond(HttpResponse(status=200, body=body))
    assert [each.outcome for each in result.items] == [Outcome.DELIVERED] * 2


async def test_a_used_up_quota_pauses_the_destination() -> None:
    result = await respond(HttpResponse(status=200, body=b'{"status":"Ok","quota_limited":["events"]}'))
    assert result.failure is not None
    assert (result.failure.scope, result.failure.reason) == (FailureScope.DESTINATION, "QuotaExceeded")
    assert result.failure.retry_after_seconds == QUOTA_WAIT_SECONDS and "quota" in result.failure.message


async def test_a_refusal_names_no_event() -> None:
    result = await respond(HttpResponse(status=400, body=b"maximum event size exceeded"))
    assert result.failure is not None and result.failure.scope is FailureScope.BATCH
    assert result.failure.message == "maximum event size exceeded"


async def respond(response: HttpResponse) -> Any:
    sink = PostHogSink(SETTINGS, make_context(ScriptedHttp(lambda _: response)))
    events = [sink.encode(event(number=number)) for number in (1, 2)]
    return await sink.send(sink.request(events, FIRST), events)


def flags(status: int, body: bytes = b'{"flags":{}}') -> Callable[[HttpRequest], HttpResponse]:
    return lambda _: HttpResponse(status=status, body=body)


@pytest.mark.parametrize("status", [200, 402])
async def test_a_known_key_is_accepted(status: int) -> None:
    assert await check(SETTINGS, make_context(ScriptedHttp(flags(status)))) == SETTINGS


@pytest.mark.parametrize(
    ("status", "body", "field"),
    [
        (401, b"The provided API key is invalid", "settings.apiKey"),
        (404, b"not found", "settings.selfHosted.url"),
        (200, b"<html>welcome</html>", "settings.selfHosted.url"),
        (200, b"[]", "settings.selfHosted.url"),
    ],
)
async def test_wrong_settings_are_refused(status: int, body: bytes, field: str) -> None:
    settings = PostHogSettings.read({"apiKey": KEY, "selfHosted": {"url": "https://ph.example.com"}})
    with pytest.raises(Unprocessable) as refused:
        await check(settings, make_context(ScriptedHttp(flags(status, body))))
    assert (refused.value.code, refused.value.field) == ("InvalidSettings", field)


async def test_a_key_of_the_other_region_is_refused_with_the_region() -> None:
    with pytest.raises(Unprocessable, match="PostHog in the region EU") as refused:
        await check(SETTINGS, make_context(ScriptedHttp(flags(401, b"The provided API key is invalid"))))
    assert refused.value.field == "settings.apiKey"


async def test_a_server_that_fails_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        await check(SETTINGS, make_context(ScriptedHttp(flags(503))))


def test_reasons_are_those_of_the_page() -> None:
    for each in TestContract().unacceptable():
        with pytest.raises(EventRejected) as rejected:
            PostHogSink(SETTINGS, make_context()).encode(each)
        assert f"`{rejected.value.reason}`" in page("posthog") or rejected.value.reason == "UnknownEventType"
