"""The documented settings of every connector: a valid example, and each rule broken by changing one value."""

from typing import Any

import pytest

from headwater.connectors.connector import Role
from headwater.connectors.registry import CONNECTORS
from headwater.connectors.settings import describe
from tests.connectors.invalid import invalid_settings

GONE = object()
"""Stands in the place of a value for a member that is left out."""

POSTGRESQL = {
    "host": "db",
    "port": 5432,
    "username": "u",
    "password": "",
    "database": "d",
    "schema": "public",
    "tls": "Preferred",
}
MYSQL = {"host": "db", "port": 3306, "username": "u", "password": "p", "database": "d", "tls": "Verified"}
CLICKHOUSE = {"host": "db", "port": 8123, "username": "", "password": "", "database": "", "tls": "Off"}
SNOWFLAKE = {
    "account": "org-account",
    "username": "u",
    "password": "p",
    "role": "r",
    "database": "d",
    "schema": "s",
    "warehouse": "w",
}
S3 = {"accessKeyID": "A" * 20, "secretAccessKey": "s" * 40, "region": "eu-west-1", "bucket": "abc", "endpoint": ""}
SFTP = {"host": "h", "port": 22, "username": "u", "password": "p", "hostPublicKey": ""}
HTTP = {"host": "h", "port": 443, "headers": [{"key": "Authorization", "value": "x"}]}
CSV = {
    "separator": ";",
    "numberOfColumns": 3,
    "lazyQuotes": True,
    "trimLeadingSpace": False,
    "hasColumnNames": True,
}
GOOGLE = {"measurementID": "G-1", "apiSecret": "s", "collectionEndpoint": "EU"}
AMPLITUDE = {"apiKey": "4f1a", "serverZone": "EU"}
SLACK = "https://hooks.slack.com/services/T0AB1/B0CD2/a1B2c3D4e5F6"
META = {"datasetID": "1234567890", "accessToken": "EAAtoken"}
MIXPANEL = {"projectID": "12", "projectToken": "t", "dataResidency": "IN"}
SECRET = "whsec_" + "A" * 32
WEBHOOK = {"url": "https://receiver.example/events?a=b", "secret": SECRET}
WEBHOOK_OF_BATCHES = {
    **WEBHOOK,
    "previousSecret": "whsec_" + "B" * 86,
    "headers": [{"key": "Authorization", "value": "Bearer x"}, {"key": "x-shop", "value": "eu"}],
    "batchSize": 500,
    "format": "NDJSON",
}
SEGMENT = {"writeKey": "a-write-key", "endpoint": "http://127.0.0.1:8080/v1/batch"}
POSTHOG: dict[str, Any] = {"apiKey": "phc_" + "x" * 43, "cloud": {"projectRegion": "EU"}}

BRAZE = {"restEndpoint": "https://rest.fra-01.braze.eu", "apiKey": "12345678", "aliasLabel": "device id"}
CUSTOMERIO = {"siteID": "s", "apiKey": "k" * 100, "region": "EU"}

RIGHT: list[tuple[str, Role, dict[str, Any]]] = [
    ("amplitude", "Destination", AMPLITUDE),
    ("brevo", "Source", {"apiKey": "k"}),
    ("brevo", "Destination", {"apiKey": "k" * 255}),
    ("braze", "Destination", BRAZE),
    ("customerio", "Destination", CUSTOMERIO),
    ("klaviyo", "Source", {"privateAPIKey": "pk_" + "a" * 34}),
    ("meta-conversions", "Destination", META),
    ("meta-conversions", "Destination", {**META, "testEventCode": "TEST1"}),
    ("salesforce", "Source", {"object": "Lead", "externalIDField": "Id"}),
    ("salesforce", "Destination", {"object": "Shop__Person__c", "externalIDField": "Key__c"}),
    ("hubspot", "Destination", {"accessToken": "pat na1"}),
    ("mailchimp", "Source", {"apiKey": "0123456789-us6", "audience": "list"}),
    ("mailerlite", "Source", {"apiKey": "k" * 4096}),
    ("stripe", "Source", {"apiKey": "sk_test"}),
    ("google-analytics", "Destination", GOOGLE),
    ("mixpanel", "Destination", MIXPANEL),
    ("posthog", "Destination", POSTHOG),
    ("posthog", "Destination", {"apiKey": "phc_" + "x" * 43, "selfHosted": {"url": "https://ph.example.com"}}),
    ("posthog", "Destination", POSTHOG | {"apiKey": "phc_" + "x" * 42}),
    ("posthog", "Destination", POSTHOG | {"apiKey": "phc_" + "x" * 44}),
    ("http-webhook", "Destination", {**WEBHOOK_OF_BATCHES, "headers": [{"key": "x-a", "value": "b"}]}),
    ("http-webhook", "Destination", WEBHOOK_OF_BATCHES),
    ("segment-api", "Destination", SEGMENT),
    ("slack", "Destination", {"webhookURL": SLACK}),
    ("slack", "Destination", {"webhookURL": SLACK.replace("slack", "slack-gov")}),
    ("postgresql", "Source", POSTGRESQL),
    ("postgresql", "Destination", POSTGRESQL),
    ("mysql", "Source", MYSQL),
    ("clickhouse", "Source", CLICKHOUSE),
    ("sqlite", "Source", {"path": "shop/users.db"}),
    ("duckdb", "Destination", {"path": "x" * 1_024}),
    ("snowflake", "Destination", SNOWFLAKE),
    ("filesystem", "Source", {"simulateHighIOLatency": False}),
    ("s3", "Source", S3),
    ("sftp", "Source", SFTP),
    ("sftp", "Destination", {**SFTP, "tempPath": "/tmp"}),
    ("http-get", "Source", HTTP),
    ("http-post", "Destination", {**HTTP, "headers": []}),
    ("csv", "Source", CSV),
    ("csv", "Destination", {"separator": "\t", "useCRLF": True}),
    ("excel", "Source", {"hasColumnNames": True}),
    ("json", "Source", {"properties": [{"key": "id", "value": "t"}, {"key": "email", "value": "f"}]}),
    ("json", "Destination", {"indent": True, "generateASCII": False, "allowSpecialFloats": False}),
]

WRONG_URLS = [
    "",
    "receiver.example",
    "ftp://h/",
    "http://",
    "http://u:p@h/",
    "http://h:x/",
    "http://h/ä",
    "http://h/#a",
]
WRONG_SECRETS = [
    "whsec_",
    "A" * 32,
    "whsec_" + "A" * 31,
    "whsec_" + "A" * 88,
    "whsec_" + "A" * 30 + "-_",
    "whsk_" + "A" * 32,
]
WRONG_KEYS = ["", "a b", "ä", "x:y", "Webhook-Id", "webhook-signature", "webhook-timestamp", "Host", "content-length"]

# connector, role, the members to change, the path of the error
WRONG: list[tuple[str, Role, dict[str, Any], str]] = [
    ("amplitude", "Destination", {"apiKey": "a b"}, "apiKey"),
    ("amplitude", "Destination", {"apiKey": "x" * 256}, "apiKey"),
    ("amplitude", "Destination", {"serverZone": "eu"}, "serverZone"),
    ("brevo", "Source", {"apiKey": ""}, "apiKey"),
    ("brevo", "Source", {"apiKey": "k" * 256}, "apiKey"),
    ("brevo", "Source", {"apiKey": "a b"}, "apiKey"),
    ("brevo", "Source", {"apiKey": "a\nb"}, "apiKey"),
    ("brevo", "Source", {"apiKey": GONE}, "apiKey"),
    ("brevo", "Source", {"apiKey": None}, "apiKey"),
    *(
        ("braze", "Destination", {"restEndpoint": url}, "restEndpoint")
        for url in ("https://rest.iad-01.braze.com/", "http://rest.iad-01.braze.com", "https://rest.iad-01.evil.com")
    ),
    ("braze", "Destination", {"apiKey": "1234567"}, "apiKey"),
    ("customerio", "Destination", {"region": "eu"}, "region"),
    ("customerio", "Destination", {"siteID": "a b"}, "siteID"),
    ("klaviyo", "Source", {"privateAPIKey": "pk_" + "a" * 33}, "privateAPIKey"),
    ("klaviyo", "Source", {"privateAPIKey": "a" * 37}, "privateAPIKey"),
    ("salesforce", "Source", {"object": GONE}, "object"),
    ("salesforce", "Source", {"object": "Contact/../Lead"}, "object"),
    ("salesforce", "Destination", {"object": "Contact", "externalIDField": "Key c"}, "externalIDField"),
    ("klaviyo", "Source", {"privateAPIKey": "pk_" + "-" * 34}, "privateAPIKey"),
    ("meta-conversions", "Destination", {"datasetID": "act_1"}, "datasetID"),
    ("meta-conversions", "Destination", {"accessToken": "a b"}, "accessToken"),
    ("meta-conversions", "Destination", {"testEventCode": ""}, "testEventCode"),
    ("slack", "Destination", {"webhookURL": SLACK.replace("https", "http")}, "webhookURL"),
    ("slack", "Destination", {"webhookURL": SLACK.replace("slack.com", "slack.example")}, "webhookURL"),
    ("slack", "Destination", {"webhookURL": SLACK.replace("/T", "/")}, "webhookURL"),
    ("slack", "Destination", {"webhookURL": SLACK + "?a=b"}, "webhookURL"),
    ("hubspot", "Destination", {"accessToken": "ä"}, "accessToken"),
    ("hubspot", "Destination", {"accessToken": "k" * 256}, "accessToken"),
    ("mailchimp", "Source", {"apiKey": "0123456789"}, "apiKey"),
    ("mailchimp", "Source", {"apiKey": "1234-us6"}, "apiKey"),
    ("mailchimp", "Source", {"audience": ""}, "audience"),
    ("mailchimp", "Source", {"audience": "x" * 101}, "audience"),
    ("mailerlite", "Source", {"apiKey": "k" * 4097}, "apiKey"),
    ("stripe", "Source", {"apiKey": "k" * 201}, "apiKey"),
    ("google-analytics", "Destination", {"measurementID": "G"}, "measurementID"),
    ("google-analytics", "Destination", {"measurementID": "UA-1"}, "measurementID"),
    ("google-analytics", "Destination", {"measurementID": "G-" + "1" * 19}, "measurementID"),
    ("google-analytics", "Destination", {"apiSecret": "x" * 101}, "apiSecret"),
    ("google-analytics", "Destination", {"collectionEndpoint": "US"}, "collectionEndpoint"),
    ("mixpanel", "Destination", {"projectID": 12}, "projectID"),
    ("mixpanel", "Destination", {"projectID": "-1"}, "projectID"),
    ("mixpanel", "Destination", {"projectToken": ""}, "projectToken"),
    ("mixpanel", "Destination", {"dataResidency": "us"}, "dataResidency"),
    ("posthog", "Destination", {"apiKey": "phc_" + "x" * 19}, "apiKey"),
    ("posthog", "Destination", {"apiKey": "phc_" + "x" * 97}, "apiKey"),
    ("posthog", "Destination", {"apiKey": "phx_" + "x" * 43}, "apiKey"),
    ("posthog", "Destination", {"apiKey": "phc_" + "x" * 42 + " "}, "apiKey"),
    ("posthog", "Destination", {"apiKey": "x" * 47}, "apiKey"),
    ("posthog", "Destination", {"cloud": {"projectRegion": "IN"}}, "cloud.projectRegion"),
    ("posthog", "Destination", {"cloud": GONE}, ""),
    ("posthog", "Destination", {"selfHosted": {"url": "https://ph.example.com"}}, ""),
    ("posthog", "Destination", {"cloud": GONE, "selfHosted": {"url": "ph"}}, "selfHosted.url"),
    ("http-webhook", "Destination", {"url": GONE}, "url"),
    *[("http-webhook", "Destination", {"url": url}, "url") for url in WRONG_URLS],
    ("http-webhook", "Destination", {"secret": GONE}, "secret"),
    *[("http-webhook", "Destination", {"secret": secret}, "secret") for secret in WRONG_SECRETS],
    ("http-webhook", "Destination", {"previousSecret": "whsec_"}, "previousSecret"),
    *[
        ("http-webhook", "Destination", {"headers": [{"key": key, "value": "x"}]}, "headers[0].key")
        for key in WRONG_KEYS
    ],
    ("http-webhook", "Destination", {"headers": [{"key": "x-a", "value": "ä"}]}, "headers[0].value"),
    ("http-webhook", "Destination", {"headers": [{"key": "x-a", "value": "b\nc: d"}]}, "headers[0].value"),
    (
        "http-webhook",
        "Destination",
        {"headers": [{"key": "x-a", "value": "b"}, {"key": "X-A", "value": "c"}]},
        "headers[1].key",
    ),
    ("http-webhook", "Destination", {"batchSize": 0}, "batchSize"),
    ("http-webhook", "Destination", {"batchSize": 501}, "batchSize"),
    ("http-webhook", "Destination", {"format": "XML"}, "format"),
    ("segment-api", "Destination", {"writeKey": GONE}, "writeKey"),
    ("segment-api", "Destination", {"writeKey": "key:"}, "writeKey"),
    ("segment-api", "Destination", {"writeKey": "a b c"}, "writeKey"),
    ("segment-api", "Destination", {"writeKey": "abc"}, "writeKey"),
    *[("segment-api", "Destination", {"endpoint": url}, "endpoint") for url in WRONG_URLS],
    ("postgresql", "Source", {"host": ""}, "host"),
    ("postgresql", "Source", {"host": "x" * 254}, "host"),
    ("postgresql", "Source", {"port": 0}, "port"),
    ("postgresql", "Source", {"port": 65_536}, "port"),
    ("postgresql", "Source", {"port": "5432"}, "port"),
    ("postgresql", "Source", {"username": "x" * 64}, "username"),
    ("postgresql", "Source", {"password": "x" * 101}, "password"),
    ("postgresql", "Source", {"database": ""}, "database"),
    ("postgresql", "Source", {"schema": GONE}, "schema"),
    ("postgresql", "Source", {"tls": "verify-full"}, "tls"),
    ("sqlite", "Source", {"path": ""}, "path"),
    ("duckdb", "Destination", {"path": "x" * 1_025}, "path"),
    ("mysql", "Source", {"username": "x" * 17}, "username"),
    ("mysql", "Source", {"password": ""}, "password"),
    ("clickhouse", "Source", {"database": "x" * 65}, "database"),
    ("snowflake", "Destination", {"account": "orgaccount"}, "account"),
    ("snowflake", "Destination", {"password": GONE}, ""),
    ("snowflake", "Destination", {"oidcToken": "t"}, ""),
    ("snowflake", "Destination", {"warehouse": ""}, "warehouse"),
    ("filesystem", "Source", {"simulateHighIOLatency": 1}, "simulateHighIOLatency"),
    ("s3", "Source", {"accessKeyID": "A" * 19}, "accessKeyID"),
    ("s3", "Source", {"secretAccessKey": "s" * 39}, "secretAccessKey"),
    ("s3", "Source", {"region": "Frankfurt"}, "region"),
    ("s3", "Source", {"bucket": "ab"}, "bucket"),
    ("sftp", "Source", {"hostPublicKey": "x" * 5_001}, "hostPublicKey"),
    ("sftp", "Source", {"password": ""}, "password"),
    ("http-get", "Source", {"headers": [{"key": "", "value": "x"}]}, "headers[0].key"),
    ("http-get", "Source", {"headers": [{"key": "a", "value": "x"}, {"key": "b"}]}, "headers[1].value"),
    ("http-get", "Source", {"headers": {}}, "headers"),
    ("csv", "Source", {"separator": ""}, "separator"),
    ("csv", "Source", {"separator": "ab"}, "separator"),
    ("csv", "Source", {"separator": "\n"}, "separator"),
    ("csv", "Source", {"numberOfColumns": 1_001}, "numberOfColumns"),
    ("csv", "Destination", {"useCRLF": "yes"}, "useCRLF"),
    ("json", "Source", {"properties": []}, "properties"),
    ("json", "Source", {"properties": [{"key": "1a", "value": "t"}]}, "properties[0].key"),
    ("json", "Source", {"properties": [{"key": "a", "value": True}]}, "properties[0].value"),
    ("json", "Source", {"properties": [{"key": "a", "value": "t"}] * 2}, "properties[1].key"),
]


def _read(code: str, role: Role, settings: dict[str, Any]) -> dict[str, object]:
    capabilities = CONNECTORS[code].capabilities(role)
    assert capabilities is not None and capabilities.settings is not None
    return capabilities.settings.read(settings).document()


@pytest.mark.parametrize(("code", "role", "settings"), RIGHT)
def test_valid_settings_are_unchanged(code: str, role: Role, settings: dict[str, Any]) -> None:
    assert _read(code, role, {**settings, "unknown": 1}) == settings


@pytest.mark.parametrize(("code", "role", "change", "path"), WRONG)
def test_each_broken_rule_is_reported(code: str, role: Role, change: dict[str, Any], path: str) -> None:
    right = next(settings for each, its_role, settings in RIGHT if (each, its_role) == (code, role))
    wrong = {name: value for name, value in {**right, **change}.items() if value is not GONE}
    with invalid_settings(f"settings.{path}" if path else "settings"):
        _read(code, role, wrong)


def test_every_connector_with_settings_has_a_right_example() -> None:
    with_settings = {code for code, connector in CONNECTORS.items() if _has_settings(code) and code != "dummy"}
    assert {code for code, _, _ in RIGHT} == with_settings


def _has_settings(code: str) -> bool:
    connector = CONNECTORS[code]
    return any(role is not None and role.settings is not None for role in (connector.source, connector.destination))


SECRETS = {"apiKey", "privateAPIKey", "accessToken", "apiSecret", "projectToken", "writeKey", "password", "oidcToken"}
SECRETS |= {"secretAccessKey", "webhookURL", "value", "secret", "previousSecret"}


@pytest.mark.parametrize("code", CONNECTORS)
def test_forms_name_and_explain_every_member(code: str) -> None:
    for capabilities in (CONNECTORS[code].source, CONNECTORS[code].destination):
        if capabilities is None or capabilities.settings is None:
            continue
        fields = describe(capabilities.settings)
        assert len({field.name for field in fields}) == len(fields)
        for field in (*fields, *(inner for outer in fields for inner in outer.fields)):
            assert field.label[0].isupper() and "_" not in field.label
            assert field.secret is (field.name in SECRETS and field.kind == "Text")
            assert (field.kind == "Choice") is bool(field.options)
