"""The vendors' specifications: each accepts a request of the documentation, and finds what is wrong with others."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlencode

import jsonschema_rs
import pytest

from headwater.connectors.contract import HttpRequest
from tests.connectors.specifications.schemas import close, coerce
from tests.connectors.specifications.specification import load
from tests.connectors.vendors.amplitude import AmplitudeServer
from tests.connectors.vendors.brevo import BrevoServer
from tests.connectors.vendors.customerio import CustomerIoServer
from tests.connectors.vendors.hubspot import HubSpotServer
from tests.connectors.vendors.klaviyo import KlaviyoServer
from tests.connectors.vendors.mailchimp import MailchimpServer
from tests.connectors.vendors.mailerlite import MailerLiteServer
from tests.connectors.vendors.meta_conversions import MetaConversionsServer
from tests.connectors.vendors.server import VendorServer
from tests.connectors.vendors.slack import SlackServer
from tests.connectors.vendors.stripe import StripeServer

SERVERS: Final[tuple[type[VendorServer], ...]] = (
    AmplitudeServer,
    BrevoServer,
    CustomerIoServer,
    HubSpotServer,
    KlaviyoServer,
    MailchimpServer,
    MailerLiteServer,
    MetaConversionsServer,
    SlackServer,
    StripeServer,
)

_METRIC: Final = {"data": {"type": "metric", "attributes": {"name": "Order Completed"}}}
_PROFILE: Final = {"data": {"type": "profile", "attributes": {"email": "ada@example.com"}}}
_EVENT: Final = {"properties": {"total": 9.5}, "time": "2026-05-04T12:00:00Z", "unique_id": "m1"}
_KLAVIYO_EVENT: Final = {"data": {"type": "event", "attributes": {**_EVENT, "metric": _METRIC, "profile": _PROFILE}}}
_KLAVIYO_BULK: Final = {
    "data": {
        "type": "event-bulk-create-job",
        "attributes": {
            "events-bulk-create": {
                "data": [
                    {
                        "type": "event-bulk-create",
                        "attributes": {
                            "profile": _PROFILE,
                            "events": {"data": [{"type": "event", "attributes": {**_EVENT, "metric": _METRIC}}]},
                        },
                    }
                ]
            }
        },
    }
}
_KLAVIYO_PROFILE: Final = {
    "data": {
        "type": "profile",
        "id": "01GD",
        "attributes": {"email": "ada@example.com", "location": {"city": None}, "properties": {"plan": "pro"}},
    }
}
_HUBSPOT_EVENT: Final = {"eventName": "pe1_x", "email": "a@b.com", "occurredAt": "2026-05-04T12:00:00Z"}
_HUBSPOT_SEARCH: Final = {
    "filterGroups": [{"filters": [{"propertyName": "hs_object_id", "operator": "GT", "value": "0"}]}],
    "sorts": [{"propertyName": "hs_object_id", "direction": "ASCENDING"}],
    "properties": ["email"],
    "limit": 100,
}
_HUBSPOT_CONTACTS: Final = {
    "inputs": [{"id": "a@b.com", "idProperty": "email", "properties": {"email": "a@b.com"}, "objectWriteTraceId": "0"}]
}
_BREVO_EVENT: Final = {
    "event_name": "order_completed",
    "event_date": "2026-05-04T12:00:00Z",
    "identifiers": {"email_id": "ada@example.com"},
    "event_properties": {"total": 9.5, "gift": True},
}
_BREVO_CONTACT: Final = {"email": "ada@example.com", "attributes": {"SCORE": 1.5}, "updateEnabled": True}
_CUSTOMER_IO: Final = {
    "batch": [
        {
            "type": "person",
            "identifiers": {"anonymous_id": "a-1"},
            "action": "page",
            "id": "01KQSDR20C0000000000000001",
            "name": "Home",
            "timestamp": 1_777_895_999,
            "attributes": {"path": "/"},
        },
        {
            "type": "person",
            "identifiers": {"id": "ada"},
            "action": "identify",
            "timestamp": 1_777_895_999,
            "attributes": {"plan": "pro"},
        },
    ]
}
_MAILCHIMP: Final = {
    "members": [{"email_address": "ada@example.com", "status": "subscribed", "merge_fields": {"FNAME": "Ada"}}],
    "update_existing": False,
}
_MAILERLITE: Final = {"requests": [{"method": "PUT", "path": "api/subscribers/1", "body": {"fields": {"name": "Ada"}}}]}
_META: Final = {
    "data": [
        {
            "event_name": "Purchase",
            "event_time": 1_777_895_999,
            "event_id": "m1",
            "action_source": "other",
            "user_data": {"em": ["0" * 64], "client_user_agent": "Mozilla/5.0"},
            "custom_data": {"value": 9.5, "contents": [{"id": "s1", "quantity": 2}], "colour": "red"},
        }
    ]
}
_AMPLITUDE: Final = {
    "api_key": "k",
    "events": [{"user_id": "u-1", "event_type": "Bought", "time": 1, "price": 2, "event_properties": {"n": 1}}],
    "options": {"min_id_length": 1},
}
_SLACK: Final = {
    "text": "Bought",
    "unfurl_links": False,
    "blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": "*Bought*"}}, {"type": "divider"}],
}

VALID: Final[dict[str, tuple[str, str, Any]]] = {
    "klaviyo event": ("POST", "/api/events", _KLAVIYO_EVENT),
    "klaviyo events": ("POST", "/api/event-bulk-create-jobs", _KLAVIYO_BULK),
    "klaviyo upsert": ("POST", "/api/profile-import", _KLAVIYO_PROFILE),
    "klaviyo update": ("PATCH", "/api/profiles/01GD", _KLAVIYO_PROFILE),
    "klaviyo profiles": ("GET", "/api/profiles?sort=updated", None),
    "hubspot events": ("POST", "/events/2026-09/send/batch", {"inputs": [{**_HUBSPOT_EVENT, "properties": {}}]}),
    "hubspot search": ("POST", "/crm/objects/2026-09/contacts/search", _HUBSPOT_SEARCH),
    "hubspot upsert": ("POST", "/crm/objects/2026-09/contacts/batch/upsert", _HUBSPOT_CONTACTS),
    "hubspot tokens": ("POST", "/oauth/2026-09/token", {"grant_type": "refresh_token", "refresh_token": "r"}),
    "hubspot definitions": ("GET", "/events/2026-09/event-definitions?limit=100&includeProperties=true", None),
    "stripe create": ("POST", "/v1/customers", {"email": "a@b.com", "address[city]": "Oslo", "metadata[k]": "v"}),
    "stripe update": ("POST", "/v1/customers/cus_1", {"address": "", "preferred_locales[0]": "nb"}),
    "stripe list": ("GET", "/v1/customers?limit=100&starting_after=cus_1", None),
    "brevo event": ("POST", "/v3/events", _BREVO_EVENT),
    "brevo events": ("POST", "/v3/events/batch", {"events": [_BREVO_EVENT]}),
    "brevo contact": ("POST", "/v3/contacts", _BREVO_CONTACT),
    "brevo contacts": ("GET", "/v3/contacts?limit=1000&sort=asc", None),
    "brevo update": ("PUT", "/v3/contacts/7?identifierType=contact_id", {"attributes": {"FIRSTNAME": ""}}),
    "customerio": ("POST", "/api/v2/batch", _CUSTOMER_IO),
    "mailchimp batch": ("POST", "/3.0/lists/l1", _MAILCHIMP),
    "mailchimp update": ("PATCH", "/3.0/lists/l1/members/m1", {"merge_fields": {"FNAME": "Ada"}}),
    "mailchimp members": ("GET", "/3.0/lists/l1/members?count=1000&fields=members.id,total_items", None),
    "mailerlite batch": ("POST", "/api/batch", _MAILERLITE),
    "mailerlite create": ("POST", "/api/subscribers", {"email": "a@b.com", "status": "active"}),
    "mailerlite list": ("GET", "/api/subscribers?limit=100", None),
    "meta_conversions": ("POST", "/v25.0/123/events", _META),
    "amplitude": ("POST", "/batch", _AMPLITUDE),
    "slack": ("POST", "/services/T0/B0/X0", _SLACK),
}


def encode(name: str, body: Any) -> bytes:
    if body is None:
        return b""
    is_form = name.startswith("stripe") or name == "hubspot tokens"
    return urlencode(body).encode() if is_form else json.dumps(body).encode()


def find_errors(name: str, method: str, target: str, body: Any) -> list[str]:
    path, _, query = target.partition("?")
    parameters = {key: [value] for key, _, value in (each.partition("=") for each in query.split("&") if each)}
    specification = load(name.partition(" ")[0])
    return list(specification.find_errors(method, path, parameters, encode(name, body)))


def changed(body: Any, path: Sequence[str | int], value: Any) -> Any:
    """Return a copy of a body in which a value is another; `...` removes it."""
    copy = json.loads(json.dumps(body))
    target = copy
    for key in path[:-1]:
        target = target[key]
    if value is ...:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    return copy


@pytest.mark.parametrize("name", VALID)
def test_a_documented_request_is_as_specified(name: str) -> None:
    assert find_errors(name, *VALID[name]) == []


_BULK_EVENT: Final = ("data", "attributes", "events-bulk-create", "data", 0, "attributes", "events", "data", 0)


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        ("klaviyo event", ("data", "attributes", "metric"), ...),
        ("klaviyo event", ("data", "attributes", "value"), "9.5"),
        ("klaviyo event", ("data", "attributes", "time"), "yesterday"),
        ("klaviyo event", ("data", "type"), "events"),
        ("klaviyo events", (*_BULK_EVENT, "attributes", "uuid"), "m1"),
        ("klaviyo events", (*_BULK_EVENT, "attributes", "properties"), ...),
        ("klaviyo upsert", ("data", "attributes", "phone"), "+4790000000"),
        ("klaviyo update", ("data", "id"), ...),
        ("klaviyo update", ("data", "attributes", "location", "town"), "Oslo"),
        ("hubspot events", ("inputs", 0, "eventName"), ...),
        ("hubspot events", ("inputs", 0, "properties", "total"), 9.5),
        ("hubspot events", ("inputs", 0, "event_name"), "pe1_x"),
        ("hubspot search", ("filterGroups", 0, "filters", 0, "operator"), "GREATER"),
        ("hubspot upsert", ("inputs", 0, "traceId"), "0"),
        ("hubspot tokens", ("grant_type",), "password"),
        ("hubspot tokens", ("client",), "c"),
        ("stripe create", ("mail",), "a@b.com"),
        ("stripe create", ("address[town]",), "Oslo"),
        ("stripe create", ("balance",), "many"),
        ("stripe update", ("preferred_locales",), "nb"),
        ("brevo event", ("event_name",), ...),
        ("brevo event", ("identifiers", "email"), "ada@example.com"),
        ("brevo events", ("events", 0, "identifiers", "contact_id"), "7"),
        ("brevo contact", ("emailBlocklisted",), True),
        ("brevo contact", ("attributes", "SCORE"), {"value": 1}),
        ("brevo update", ("listIds",), ["7"]),
        ("customerio", ("batch", 0, "action"), "viewed"),
        ("customerio", ("batch", 0, "timestamp"), "2026-05-04T12:00:00Z"),
        ("customerio", ("batch", 1, "_timestamp"), 1_777_895_999),
        ("customerio", ("batch", 1, "identifiers"), {"user_id": "ada"}),
        ("mailchimp batch", ("members", 0, "status"), "active"),
        ("mailchimp batch", ("members", 0, "email"), "ada@example.com"),
        ("mailchimp batch", ("members",), ...),
        ("mailchimp update", ("vip",), "yes"),
        ("mailerlite create", ("email",), "ada"),
        ("mailerlite create", ("name",), "Ada"),
        ("mailerlite batch", ("requests", 0, "body", "fields"), ["Ada"]),
        ("mailerlite batch", ("requests", 0, "path"), "api/contacts/1"),
        ("meta_conversions", ("data", 0, "event_time"), "2026-05-04T12:00:00Z"),
        ("meta_conversions", ("data", 0, "action_source"), "web"),
        ("meta_conversions", ("data", 0, "user_data", "email"), ["0" * 64]),
        ("meta_conversions", ("data", 0, "user_data", "client_user_agent"), ["Mozilla/5.0"]),
        ("meta_conversions", ("data", 0, "custom_data", "contents", 0, "sku"), "s1"),
        ("meta_conversions", ("data", 0, "custom_data", "value"), "9.5"),
        ("meta_conversions", ("data", 0, "user_data"), ...),
        ("meta_conversions", ("events",), []),
        ("amplitude", ("events", 0, "price"), "2"),
        ("amplitude", ("events", 0, "event_type"), ...),
        ("amplitude", ("events", 0, "userId"), "u-1"),
        ("amplitude", ("key",), "k"),
        ("slack", ("blocks", 0, "text", "text"), "x" * 3_001),
        ("slack", ("blocks", 0, "text", "emphasis"), True),
        ("slack", ("blocks", 1, "type"), "line"),
        ("slack", ("unfurl_links",), "no"),
        ("slack", ("channel",), "#general"),
    ],
)
def test_a_wrong_request_is_found(name: str, path: tuple[str | int, ...], value: Any) -> None:
    method, target, body = VALID[name]
    assert find_errors(name, method, target, changed(body, path, value))


@pytest.mark.parametrize(
    ("name", "method", "target"),
    [
        ("klaviyo", "GET", "/api/persons"),
        ("hubspot", "POST", "/crm/objects/2026-09/contacts"),
        ("hubspot", "POST", "/events/custom/2026-09/send/batch"),
        ("hubspot", "GET", "/events/2026-09/event-definitions?limit=all"),
        ("stripe", "GET", "/v1/customers?limit=all"),
        ("stripe", "GET", "/v1/customers?page=2"),
        ("brevo", "GET", "/v3/contacts?sort=up"),
        ("brevo", "GET", "/v3/contacts/7?identifierType=id"),
        ("customerio", "GET", "/api/v1/regions"),
        ("mailchimp", "GET", "/3.0/lists/l1/members?count=all"),
        ("mailerlite", "GET", "/api/subscribers?offset=7"),
        ("amplitude", "GET", "/batch"),
        ("meta_conversions", "POST", "/123/events"),
        ("slack", "GET", "/services/T0/B0/X0"),
    ],
)
def test_a_wrong_path_or_parameter_is_found(name: str, method: str, target: str) -> None:
    assert find_errors(name, method, target, None)


@pytest.mark.parametrize("server", SERVERS, ids=lambda server: server.__name__)
def test_a_violation_of_the_specification_is_one_of_the_server(server: type[VendorServer]) -> None:
    vendor = server()
    vendor.respond(HttpRequest(method="GET", url=f"{vendor.ORIGINS[0]}/no/such/operation"))
    assert any("not as specified" in violation for violation in vendor.violations)


async def test_a_request_that_arrives_is_validated() -> None:
    vendor = AmplitudeServer(now=lambda: 0.0)
    body = json.dumps(changed(_AMPLITUDE, ("events", 0, "carrier"), 1)).encode()
    async with vendor.running():
        reader, writer = await asyncio.open_connection("127.0.0.1", vendor.port)
        writer.write(b"POST /batch HTTP/1.1\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
        assert await reader.readline()
        writer.close()
    assert any("not as specified: events/0/carrier" in violation for violation in vendor.violations)


def test_every_specification_is_of_a_server() -> None:
    assert {server.SPECIFICATION for server in SERVERS} == {name.partition(" ")[0] for name in VALID}


_CLOSED: Final = close(
    {
        "properties": {
            "any": {},
            "kept": {"type": "object"},
            "one": {
                "oneOf": [{"required": ["a"], "properties": {"a": {}}}, {"required": ["b"], "properties": {"b": {}}}]
            },
            "all": {"allOf": [{"properties": {"a": {}}}, {"properties": {"b": {"type": "string", "nullable": True}}}]},
        }
    }
)


@pytest.mark.parametrize(
    ("value", "is_valid"),
    [
        ({"any": {"x": 1}, "kept": {"x": 1}}, True),
        ({"other": 1}, False),
        ({"one": {"a": 1}}, True),
        ({"one": {"a": 1, "b": 1}}, False),
        ({"one": {"a": 1, "c": 1}}, False),
        ({"all": {"a": 1, "b": None}}, True),
        ({"all": {"a": 1, "b": "", "c": 1}}, False),
    ],
)
def test_schemas_are_closed(value: Any, is_valid: bool) -> None:
    assert jsonschema_rs.Draft202012Validator(_CLOSED).is_valid(value) is is_valid


@pytest.mark.parametrize(
    ("text", "schema", "value"),
    [
        ("7", {"type": "integer"}, 7),
        ("-7", {"anyOf": [{"type": "number"}, {"type": "null"}]}, -7),
        ("7", {"type": "string"}, "7"),
        ("x", {"type": "integer"}, "x"),
        ("true", {"type": "boolean"}, True),
        ({"0": "1"}, {"type": "array", "items": {"type": "integer"}}, [1]),
        ({"a": "1"}, {"type": "object", "additionalProperties": {"type": "integer"}}, {"a": 1}),
        ({"a": "1"}, {"$ref": "#/$defs/o", "$defs": {"o": {"properties": {"a": {"type": "integer"}}}}}, {"a": 1}),
    ],
)
def test_texts_have_the_types_of_a_schema(text: Any, schema: dict[str, Any], value: Any) -> None:
    assert coerce(text, schema, schema) == value
