"""The connectors as the documentation lists them: one row for each."""

import subprocess
import sys
from importlib import import_module

import pytest

from headwater.connectors.connector import Driver, Terms
from headwater.connectors.registry import CONNECTORS

U, E, UE = ("User",), ("Event",), ("User", "Event")

#          code               type             source  its settings  destination  its settings  sending modes
DOCUMENTED = [
    ("amplitude", "Application", None, False, E, True, ("Server",)),
    ("android", "SDK", UE, False, None, False, ()),
    ("braze", "Application", None, False, UE, True, ("Server",)),
    ("brevo", "Application", U, True, UE, True, ("Server",)),
    ("clickhouse", "Database", U, True, U, True, ()),
    ("client", "SDK", UE, False, None, False, ()),
    ("csv", "File", U, True, U, True, ()),
    ("customerio", "Application", None, False, UE, True, ("Server",)),
    ("dotnet", "SDK", UE, False, None, False, ()),
    ("duckdb", "Database", U, True, U, True, ()),
    ("dummy", "Application", U, True, UE, True, ("Server",)),
    ("excel", "File", U, True, U, False, ()),
    ("filesystem", "FileStorage", U, True, U, True, ()),
    ("go", "SDK", UE, False, None, False, ()),
    ("google-analytics", "Application", None, False, E, True, ("Server",)),
    ("http", "SDK", UE, False, None, False, ()),
    ("http-get", "FileStorage", U, True, None, False, ()),
    ("http-post", "FileStorage", None, False, U, True, ()),
    ("http-webhook", "Application", None, False, E, True, ("Server",)),
    ("hubspot", "Application", U, True, UE, True, ("Server",)),
    ("ios", "SDK", UE, False, None, False, ()),
    ("java", "SDK", UE, False, None, False, ()),
    ("javascript", "SDK", UE, False, None, False, ()),
    ("json", "File", U, True, U, True, ()),
    ("kafka", "MessageBroker", None, False, None, False, ()),
    ("klaviyo", "Application", U, True, UE, True, ("Server",)),
    ("mailchimp", "Application", U, True, U, True, ()),
    ("mailerlite", "Application", U, True, U, True, ()),
    ("meta-conversions", "Application", None, False, E, True, ("Server",)),
    ("mixpanel", "Application", None, False, UE, True, ("Server",)),
    ("mysql", "Database", U, True, U, True, ()),
    ("nodejs", "SDK", UE, False, None, False, ()),
    ("parquet", "File", U, False, U, False, ()),
    ("postgresql", "Database", U, True, U, True, ()),
    ("posthog", "Application", None, False, E, True, ("Server",)),
    ("python", "SDK", UE, False, None, False, ()),
    ("rabbitmq", "MessageBroker", None, False, None, False, ()),
    ("rudderstack", "Webhook", UE, False, None, False, ()),
    ("s3", "FileStorage", U, True, U, True, ()),
    ("segment", "Webhook", UE, False, None, False, ()),
    ("segment-api", "Application", None, False, E, True, ("Server",)),
    ("salesforce", "Application", U, True, U, True, ()),
    ("sftp", "FileStorage", U, True, U, True, ()),
    ("slack", "Application", None, False, E, True, ("Server",)),
    ("snowflake", "Database", U, True, U, True, ()),
    ("sqlite", "Database", U, True, U, True, ()),
    ("stripe", "Application", U, True, U, True, ()),
    ("webhook", "Webhook", UE, False, None, False, ()),
]  # fmt: skip

ON_A_DEVICE = {"android", "ios", "javascript"}
DATABASES = {row[0] for row in DOCUMENTED if row[1] == "Database"}
EVENT_SOURCES = {row[0] for row in DOCUMENTED if row[1] in ("SDK", "Webhook")}


def test_the_codes_are_sorted_and_complete() -> None:
    assert list(CONNECTORS) == sorted(CONNECTORS)
    samples = {code for code, connector in CONNECTORS.items() if connector.is_sample}
    assert samples == {"sample-oauth-app"}
    assert set(CONNECTORS) - samples == {row[0] for row in DOCUMENTED}


@pytest.mark.parametrize("row", DOCUMENTED, ids=lambda row: row[0])
def test_type_roles_targets_settings_and_sending_modes(row: tuple[object, ...]) -> None:
    code, type_, source, source_settings, destination, destination_settings, sending_modes = row
    connector = CONNECTORS[str(code)]
    assert (connector.code, connector.type) == (code, type_)
    assert (connector.source and connector.source.targets) == source
    assert (connector.destination and connector.destination.targets) == destination
    assert (connector.source is not None and connector.source.settings is not None) is source_settings
    assert (connector.destination is not None and connector.destination.settings is not None) is destination_settings
    assert (() if connector.destination is None else connector.destination.sending_modes) == sending_modes
    assert connector.source is None or connector.source.sending_modes == ()


FILE_STORAGES = {"filesystem", "http-get", "http-post", "s3", "sftp"}
VENDORS = {
    "amplitude",
    "braze",
    "brevo",
    "customerio",
    "google-analytics",
    "hubspot",
    "klaviyo",
    "mailchimp",
    "mailerlite",
    "meta-conversions",
    "mixpanel",
    "posthog",
    "salesforce",
    "slack",
    "stripe",
}


def test_connectors_with_an_engine_and_sources_of_events_are_available() -> None:
    available = {code for code, connector in CONNECTORS.items() if connector.available}
    others = {"csv", "dummy", "excel", "http-webhook", "json", "parquet", "sample-oauth-app", "segment-api"} | VENDORS
    assert available == EVENT_SOURCES | FILE_STORAGES | DATABASES | others


@pytest.mark.parametrize("code", CONNECTORS)
def test_only_sdks_on_devices_have_strategies_and_fall_back_to_the_request_ip(code: str) -> None:
    assert CONNECTORS[code].strategies is (code in ON_A_DEVICE)
    assert CONNECTORS[code].falls_back_to_request_ip is (code in ON_A_DEVICE)


@pytest.mark.parametrize("code", CONNECTORS)
def test_only_the_client_api_has_public_keys(code: str) -> None:
    assert CONNECTORS[code].public_key is (code == "client")


def test_settings_may_be_left_out_for_the_dummy_only() -> None:
    for code, connector in CONNECTORS.items():
        for role in (connector.source, connector.destination):
            if role is not None and role.settings is not None:
                assert role.settings.REQUIRED is (code != "dummy")


def test_applications_have_terms_of_their_own() -> None:
    terms = {code: connector.terms for code, connector in CONNECTORS.items() if connector.type == "Application"}
    assert terms["hubspot"] == Terms("Contact", "Contacts", "HubSpot ID")
    assert terms["mailchimp"] == Terms("Contact", "Contacts")
    assert terms["mailerlite"] == Terms("Subscriber", "Subscribers", "Subscriber ID")
    assert terms["stripe"] == Terms("Customer", "Customers")
    assert terms["dummy"] == Terms("Customer", "Customers", "Dummy Unique ID")
    assert None not in terms.values()
    assert all(connector.terms is None for code, connector in CONNECTORS.items() if code not in terms)


def test_file_formats_have_extensions_and_one_has_sheets() -> None:
    formats = {code: connector for code, connector in CONNECTORS.items() if connector.file_extension}
    assert {code: connector.file_extension for code, connector in formats.items()} == {
        "csv": "csv",
        "excel": "xlsx",
        "json": "json",
        "parquet": "parquet",
    }
    assert [code for code, connector in CONNECTORS.items() if connector.has_sheets] == ["excel"]


def test_databases_have_a_query_to_start_from() -> None:
    for connector in CONNECTORS.values():
        query = connector.source.sample_query if connector.source else ""
        assert bool(query) is (connector.type == "Database")
        assert connector.type != "Database" or ("${limit}" in query and "${updated_at}" in query)


@pytest.mark.parametrize("code", CONNECTORS)
def test_every_connector_has_texts_for_users(code: str) -> None:
    connector = CONNECTORS[code]
    assert connector.label and connector.categories
    for role in (connector.source, connector.destination):
        assert role is None or role.summary.endswith(".")


def test_labels_that_are_not_the_obvious_capitalisation() -> None:
    labels = {
        "dotnet": ".NET",
        "ios": "iOS",
        "nodejs": "Node.js",
        "hubspot": "HubSpot",
        "mailerlite": "MailerLite",
        "rudderstack": "RudderStack",
        "meta-conversions": "Meta Conversions",
        "posthog": "PostHog",
        "http-webhook": "HTTP Webhook",
        "segment-api": "Segment API",
    }
    assert {code: CONNECTORS[code].label for code in labels} == labels


@pytest.mark.process
def test_the_catalogue_is_quick_to_import() -> None:
    """Every process imports it, and few send requests."""
    code = (
        "import sys, headwater.connectors.registry, headwater.connectors.environment; print('aiohttp' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


@pytest.mark.parametrize("code", CONNECTORS)
def test_an_application_that_is_available_has_an_engine_for_its_targets(code: str) -> None:
    connector = CONNECTORS[code]
    if not connector.available or connector.type != "Application":
        return
    engine, source, destination = connector.engine, connector.source, connector.destination
    assert (engine.user_source is not None) is (source is not None and "User" in source.targets)
    assert (engine.user_sink is not None) is (destination is not None and "User" in destination.targets)
    assert (engine.event_sink is not None) is (destination is not None and "Event" in destination.targets)


def test_a_driver_that_is_not_installed_is_named() -> None:
    missing = Driver("no_such_module.part", "extra")
    assert (missing.is_installed, missing.install_command) == (False, "pip install 'headwater[extra]'")
    assert Driver("json", "extra").is_installed
    with_driver = {code for code, connector in CONNECTORS.items() if connector.driver is not None}
    assert {"clickhouse", "duckdb", "snowflake"} <= with_driver


@pytest.mark.parametrize("code", sorted(DATABASES))
def test_the_modules_of_databases_have_what_the_catalogue_names(code: str) -> None:
    connector = CONNECTORS[code]
    assert connector.engine.query_source is not None and connector.engine.table_sink is not None
    if connector.is_installed:
        module = import_module(f"headwater.connectors.databases.{code}")
        assert {f"{connector.label}Source", f"{connector.label}Sink", "check"} <= set(vars(module))
