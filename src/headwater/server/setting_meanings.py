"""The default and the meaning of each setting, for `headwater settings`.

A test compares them with the table of README.md, which has links in addition.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Meaning:
    """The texts of a setting: its default in words or as a value, and its meaning."""

    default: str
    text: str


MEANINGS: Final[Mapping[str, Meaning]] = {
    "host": Meaning(
        "127.0.0.1",
        "address to listen on",
    ),
    "port": Meaning(
        "8080",
        "the public port",
    ),
    "tls_cert": Meaning(
        "none: plain HTTP",
        "PEM file with the certificate chain of the encrypted public port",
    ),
    "tls_key": Meaning(
        "none",
        "PEM file with its private key, without a password",
    ),
    "data_dir": Meaning(
        "./data",
        "folder of all data",
    ),
    "run_dir": Meaning(
        "DATA_DIR/run",
        "folder of unix sockets; its content is created again at every start",
    ),
    "database_url": Meaning(
        "sqlite: files in the data directory",
        "postgresql://user:password@host/database, with parameters such as sslmode; one installation per "
        "database. If unset, DATABASE_URL is used",
    ),
    "backends": Meaning(
        "1",
        "number of backend processes behind Envoy, up to 64. The earlier name HEADWATER_WORKERS is read with a warning",
    ),
    "nats_url": Meaning(
        "none: a file in the data directory",
        "nats://user:password@host:4222: the event log in NATS JetStream",
    ),
    "nats_replicas": Meaning(
        "1",
        "number of NATS servers that keep each call",
    ),
    "log_keep": Meaning(
        "24h",
        "time that the event log keeps processed entries",
    ),
    "log_max_bytes": Meaning(
        "10GiB",
        "maximum size of the event log; 503 when it is full of unprocessed entries",
    ),
    "log_max_lag_bytes": Meaning(
        "2GiB",
        "maximum backlog of the worker; 429 above it",
    ),
    "lane_max_bytes": Meaning(
        "256MiB",
        "maximum size of records that wait for the functions of one workspace, compressed",
    ),
    "delivery_max_bytes": Meaning(
        "20GiB",
        "maximum size of all events that wait for destinations, dead letters and logged attempts, compressed."
        " Above it, the oldest ones of the largest destination are deleted and counted",
    ),
    "delivery_hours": Meaning(
        "24",
        "hours in which an event is sent again and again, 1 to 720; then it becomes a dead letter",
    ),
    "runs": Meaning(
        "4",
        "run processes on this machine, 1 to 32; further runs wait",
    ),
    "run_timeout": Meaning(
        "10m",
        "a run without progress fails after this time, 1s to 7d",
    ),
    "api_key": Meaning(
        "generated at the first start",
        "starts with api_, 40 characters or more, 12 of them different; registered for the default workspace."
        " A generated key is in DATA_DIR/api-key",
    ),
    "secret_key": Meaning(
        "generated at the first start",
        "32 characters or more; encrypts the settings of connections and the tokens of OAuth accounts. A "
        "generated key is in DATA_DIR/secret-key",
    ),
    "old_secret_keys": Meaning(
        "none",
        "earlier keys, separated by commas; needed until secrets rotate has run",
    ),
    "max_event_bytes": Meaning(
        "32768",
        "maximum size of an event of the track API and gRPC, decompressed",
    ),
    "max_batch_bytes": Meaning(
        "512000",
        "maximum size of a batch, and of a call of the native API; at most 8388608",
    ),
    "max_client_bytes": Meaning(
        "1048576",
        "maximum size of a call of the client API; at most 8388608",
    ),
    "maxmind_db": Meaning(
        "none",
        "database in MaxMind's format (GeoLite2 City): location of events",
    ),
    "otlp_endpoint": Meaning(
        "none",
        "URL of an OpenTelemetry collector that gets traces, such as http://collector:4318",
    ),
    "otlp_share": Meaning(
        "0.1",
        "share of the traces that are recorded, above 0 to 1",
    ),
    "rate_limit_workspace": Meaning(
        "none",
        "events per second per workspace, optionally with a burst size: 1000:20000",
    ),
    "rate_limit_key": Meaning(
        "none",
        "events per second per key, optionally with a burst size",
    ),
    "rate_limit_management": Meaning(
        "100:1000",
        "management calls per second per API key, with a burst size",
    ),
    "max_connections": Meaning(
        "1000",
        "connections of a workspace",
    ),
    "max_pipelines": Meaning(
        "2000",
        "pipelines of a workspace",
    ),
    "max_keys": Meaning(
        "1000",
        "API keys of a workspace; also the maximum number of keys of every workspace",
    ),
    "max_definition_bytes": Meaning(
        "64MiB",
        "size of all pipeline definitions of a workspace: schemas, filters, mappings, functions",
    ),
    "max_connection_definition_bytes": Meaning(
        "8MiB",
        "size of all pipeline definitions of a connection",
    ),
    "trusted_proxies": Meaning(
        "0",
        "proxies whose X-Forwarded-For is used: their number, or their networks (10.0.0.0/8,2001:db8::/32)",
    ),
    "max_client_connections": Meaning(
        "2000",
        "open client connections, 10 to 30000",
    ),
    "idle_timeout": Meaning(
        "60s",
        "a connection without a call is closed after this time, 1s to 7d",
    ),
    "max_connection_duration": Meaning(
        "1h",
        "a connection is closed after this time and its present call, 1s to 7d",
    ),
    "access_log_sample": Meaning(
        "100",
        "one successful intake call in this number has a line in the access log; 1: all, 0: none",
    ),
    "allow_private_destinations": Meaning(
        "0",
        "private addresses that connectors may connect to: 0 none, 1 all, or networks (10.0.0.0/8,fd00::/8)",
    ),
    "connector_origins": Meaning(
        "none: the vendors themselves",
        "servers that stand for those of vendors, for tests and staging: https://a.klaviyo.com=http://127.0.0.1:9000,"
        " separated by commas",
    ),
    "filesystem_root": Meaning(
        "none",
        "folder of the files of the connector filesystem, which is not available without it",
    ),
    "filesystem_shared": Meaning(
        "0",
        "0: each workspace has a folder of its own in the root, named by its id; 1: all workspaces use the root",
    ),
    "oauth_redirect_uris": Meaning(
        "none: any",
        "redirect URIs that authorizations may use, separated by commas",
    ),
    "oauth_hubspot_client_id": Meaning(
        "none",
        "client id of the connector hubspot; without it, connections need a key of their own",
    ),
    "oauth_hubspot_client_secret": Meaning(
        "none",
        "the client secret",
    ),
    "oauth_salesforce_client_id": Meaning(
        "none",
        "consumer key of your app at Salesforce, for the connector salesforce",
    ),
    "oauth_salesforce_client_secret": Meaning(
        "none",
        "the consumer secret",
    ),
    "oauth_salesforce_url": Meaning(
        "https://login.salesforce.com",
        "login server, for sandboxes https://test.salesforce.com",
    ),
    "oauth_sample_oauth_app_client_id": Meaning(
        "none",
        "client id of the connector sample-oauth-app, which is not offered without it",
    ),
    "oauth_sample_oauth_app_client_secret": Meaning(
        "none",
        "the client secret",
    ),
    "oauth_sample_oauth_app_url": Meaning(
        "none",
        "base URL of the application",
    ),
    "metrics_port": Meaning(
        "none",
        "private port of metrics",
    ),
    "metrics_host": Meaning(
        "127.0.0.1",
        "address of the metrics port",
    ),
    "watchdog_seconds": Meaning(
        "30",
        "a backend, worker, courier, scheduler or run process that hangs for this time is restarted; 0: never",
    ),
    "sandbox": Meaning(
        "warn",
        "require: do not start if the system cannot confine functions",
    ),
    "log_level": Meaning(
        "info",
        "debug, info, warning or error",
    ),
    "log_format": Meaning(
        "text in a terminal, else json",
        "",
    ),
}
"""The settings by name, in the order of README.md."""
