import re
from dataclasses import fields
from pathlib import Path

import pytest

from headwater.base.clock import SystemClock
from headwater.events import DEFAULT_LIMITS, Limits
from headwater.events.protocol import MAX_BATCH_EVENTS
from headwater.server.connectors import connector_environment
from headwater.server.errors import StartupError
from headwater.server.setting_parsers import TrustedProxies
from headwater.server.settings import SECRETS, Settings, read, renamed_variables, unknown_variables, variable
from headwater.server.units import MAX_CALL_EVENTS, Rate

KEY = "api_0123456789abcdefghijklmnopqrstuvwxyz"
SECRET = "s" * 32


def test_defaults() -> None:
    settings = read({})
    assert (settings.host, settings.port, settings.backends) == ("127.0.0.1", 8080, 1)
    assert settings.data_dir == Path.cwd() / "data"
    assert settings.api_key is None
    assert settings.database_url is None


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("HOST", "0.0.0.0", "host", "0.0.0.0"),
        ("HOST", "::1", "host", "::1"),
        ("HOST", "localhost", "host", "127.0.0.1"),
        ("PORT", "1", "port", 1),
        ("PORT", "65535", "port", 65535),
        ("DATA_DIR", "/srv/headwater", "data_dir", Path("/srv/headwater")),
        ("BACKENDS", "1", "backends", 1),
        ("BACKENDS", "64", "backends", 64),
        ("BACKENDS", "1", "backend_names", ("backend",)),
        ("BACKENDS", "3", "backend_names", ("backend", "backend-2", "backend-3")),
        ("API_KEY", KEY, "api_key", KEY),
        ("SECRET_KEY", SECRET, "secret_key", SECRET),
        ("OLD_SECRET_KEYS", SECRET, "old_secret_keys", (SECRET,)),
        ("OLD_SECRET_KEYS", f" {SECRET}, {SECRET[::-1]} ,", "old_secret_keys", (SECRET, SECRET[::-1])),
        ("OLD_SECRET_KEYS", "", "old_secret_keys", ()),
        ("MAX_EVENT_BYTES", "1024", "max_event_bytes", 1024),
        ("MAX_BATCH_BYTES", "8388608", "max_batch_bytes", 8 << 20),
        ("MAX_BATCH_BYTES", "4MiB", "max_batch_bytes", 4 << 20),
        ("MAX_CLIENT_BYTES", "2MiB", "max_client_bytes", 2 << 20),
        ("MAX_CLIENT_BYTES", "8MiB", "max_body_bytes", 16 << 20),
        ("NATS_URL", "nats://127.0.0.1:4222", "nats_url", "nats://127.0.0.1:4222"),
        ("NATS_URL", "nats://a, tls://u:p@b:4333", "nats_url", "nats://a,tls://u:p@b:4333"),
        ("NATS_REPLICAS", "3", "nats_replicas", 3),
        ("LOG_KEEP", "7d", "log_keep", 604_800),
        ("LOG_MAX_BYTES", "1TiB", "log_max_bytes", 1 << 40),
        ("LOG_MAX_LAG_BYTES", "512MiB", "log_max_lag_bytes", 512 << 20),
        ("MAXMIND_DB", "/srv/city.mmdb", "maxmind_db", Path("/srv/city.mmdb")),
        ("MAXMIND_DB", "city.mmdb", "maxmind_db", Path.cwd() / "city.mmdb"),
        ("RATE_LIMIT_WORKSPACE", "", "rate_limit_workspace", None),
        ("RATE_LIMIT_WORKSPACE", "1000", "rate_limit_workspace", Rate(1000, 20_000)),
        ("RATE_LIMIT_WORKSPACE", "30000", "rate_limit_workspace", Rate(30_000, 30_000)),
        ("RATE_LIMIT_KEY", "5:10", "rate_limit_key", Rate(5, 10)),
        ("MAX_CLIENT_CONNECTIONS", "30000", "max_client_connections", 30_000),
        ("IDLE_TIMEOUT", "5m", "idle_timeout", 300),
        ("MAX_CONNECTION_DURATION", "1d", "max_connection_duration", 86_400),
        ("TRUSTED_PROXIES", "", "trusted_proxies", TrustedProxies()),
        ("TRUSTED_PROXIES", "0", "trusted_proxies", TrustedProxies()),
        ("TRUSTED_PROXIES", "2", "trusted_proxies", TrustedProxies(hops=2)),
        ("TRUSTED_PROXIES", "10.0.0.1", "trusted_proxies", TrustedProxies(networks=("10.0.0.1/32",))),
        (
            "TRUSTED_PROXIES",
            "10.0.0.0/8, 2001:db8::/32",
            "trusted_proxies",
            TrustedProxies(networks=("10.0.0.0/8", "2001:db8::/32")),
        ),
        ("ACCESS_LOG_SAMPLE", "0", "access_log_sample", 0),
        ("ACCESS_LOG_SAMPLE", "1000", "access_log_sample", 1_000),
        ("FILESYSTEM_ROOT", "/tmp", "filesystem_root", Path("/tmp")),
        ("FILESYSTEM_ROOT", "", "filesystem_root", None),
        ("FILESYSTEM_SHARED", "1", "filesystem_shared", "1"),
        ("ALLOW_PRIVATE_DESTINATIONS", "", "allow_private_destinations", "0"),
        ("ALLOW_PRIVATE_DESTINATIONS", "1", "allow_private_destinations", "1"),
        ("ALLOW_PRIVATE_DESTINATIONS", "10.0.0.0/8, fd00::/8", "allow_private_destinations", "10.0.0.0/8,fd00::/8"),
        ("CONNECTOR_ORIGINS", "", "connector_origins", ()),
        (
            "CONNECTOR_ORIGINS",
            "https://A.vendor.example=http://127.0.0.1:9000, https://b.example=https://c.example,",
            "connector_origins",
            (("https://a.vendor.example", "http://127.0.0.1:9000"), ("https://b.example", "https://c.example")),
        ),
        ("OAUTH_REDIRECT_URIS", "", "oauth_redirect_uris", ()),
        (
            "OAUTH_REDIRECT_URIS",
            "https://a.example/x, http://localhost:8080/y,",
            "oauth_redirect_uris",
            ("https://a.example/x", "http://localhost:8080/y"),
        ),
        ("RATE_LIMIT_MANAGEMENT", "", "rate_limit_management", Rate(100, 1_000)),
        ("RATE_LIMIT_MANAGEMENT", "7", "rate_limit_management", Rate(7, 70)),
        ("RATE_LIMIT_MANAGEMENT", "7:8", "rate_limit_management", Rate(7, 8)),
        ("MAX_CONNECTIONS", "5", "max_connections", 5),
        ("MAX_PIPELINES", "5", "max_pipelines", 5),
        ("MAX_KEYS", "1000000", "max_keys", 1_000_000),
        ("MAX_DEFINITION_BYTES", "1MiB", "max_definition_bytes", 1 << 20),
        ("MAX_CONNECTION_DEFINITION_BYTES", "64KiB", "max_connection_definition_bytes", 64 << 10),
        ("LOG_LEVEL", "DEBUG", "log_level", "debug"),
        ("LOG_FORMAT", "text", "log_format", "text"),
        ("PORT", "", "port", 8080),
        ("API_KEY", "", "api_key", None),
        ("WATCHDOG_SECONDS", "0", "watchdog_seconds", 0),
        ("WATCHDOG_SECONDS", "3", "watchdog_seconds", 3),
        ("SANDBOX", "require", "sandbox", "require"),
        ("DATABASE_URL", "", "database_url", None),
        ("DATABASE_URL", "sqlite", "database_url", None),
        ("DATABASE_URL", "postgresql+asyncpg://u:p@db/x", "database_url", "postgresql+asyncpg://u:p@db/x"),
        ("DATABASE_URL", "postgresql://u:p%40@db:5433/x", "database_url", "postgresql+asyncpg://u:p%40@db:5433/x"),
        ("DATABASE_URL", "postgres://u@[::1]/x?a=b", "database_url", "postgresql+asyncpg://u@[::1]/x?a=b"),
        ("DATABASE_URL", "postgresql:///x?host=/run", "database_url", "postgresql+asyncpg:///x?host=/run"),
    ],
)
def test_accepted(name: str, text: str, field: str, value: object) -> None:
    assert getattr(read({f"HEADWATER_{name}": text}), field) == value


@pytest.mark.parametrize(
    ("name", "text", "rule"),
    [
        ("HOST", "example.com", "must be an IP address"),
        ("PORT", "0", "from 1 to 65535"),
        ("PORT", "65536", "from 1 to 65535"),
        ("PORT", "eighty", "from 1 to 65535"),
        ("PORT", "-1", "from 1 to 65535"),
        ("PORT", "٨٠", "from 1 to 65535"),
        ("DATA_DIR", "a\0b", "must be the path of a folder"),
        ("DATABASE_URL", "mysql://u:hidden@db/x", "must start with postgresql://"),
        ("DATABASE_URL", "postgresql:/u:hidden@db/x", "must start with postgresql://"),
        ("DATABASE_URL", "postgresql://u:hidden@db", "must name a database"),
        ("DATABASE_URL", "postgresql://u:hidden@db/", "must name a database"),
        ("DATABASE_URL", "postgresql:///x", "must name a host"),
        ("DATABASE_URL", "postgresql://u:hidden@:5432/x", "must name a host"),
        ("DATABASE_URL", "postgresql://u:hid/den@db/x", "is not a valid URL"),
        ("DATABASE_URL", "postgresql://u:hidden@db:port/x", "is not a valid URL"),
        ("DATABASE_URL", "postgresql://u:hidden@[::1/x", "is not a valid URL"),
        ("DATABASE_URL", "postgresql://u:hid den@db/x", "must not contain spaces"),
        ("DATABASE_URL", "postgresql://u:hidden@db/x\0", "must not contain spaces or control characters"),
        *(
            ("NATS_URL", text, "must be nats://host:4222")
            for text in (
                "127.0.0.1:4222",
                "http://hid:hid@nats",
                "nats://",
                "nats://hid:p@h:port",
                "nats://a, ,nats://b",
                "nats://h id",
            )
        ),
        *(
            ("OAUTH_REDIRECT_URIS", text, "must be absolute URLs with https")
            for text in (
                "/hid",
                "ftp://hid",
                "https://",
                "https://a.example/ hid",
                "https://a:port/hid",
                "https://[hid",
            )
        ),
        *(
            ("OAUTH_SAMPLE_OAUTH_APP_URL", text, "must be https://host or http://host")
            for text in ("hid", "https://hid:p@a.example", "https://a.example/?hid", "https://a.example/#hid")
        ),
        ("OAUTH_SAMPLE_OAUTH_APP_CLIENT_SECRET", "hid den", "must consist of printable ASCII characters"),
        ("OAUTH_SAMPLE_OAUTH_APP_CLIENT_ID", "hidé", "must consist of printable ASCII characters"),
        ("NATS_REPLICAS", "0", "must be a number from 1 to 5"),
        ("NATS_REPLICAS", "6", "must be a number from 1 to 5"),
        ("LOG_KEEP", "1w", "must be a number of seconds"),
        ("LOG_MAX_BYTES", "1MiB", "must be 64MiB or more"),
        ("LOG_MAX_BYTES", "10GB", "must be a number of bytes"),
        ("LOG_MAX_LAG_BYTES", "much", "must be a number of bytes"),
        *(("WORKERS", text, "must be a number from 1 to 64") for text in ("0", "65", "two", "-1", "1.5")),
        ("API_KEY", "sk_0123456789abcdefghijklmnopqrstuvwxyz", 'must start with "api_"'),
        ("API_KEY", KEY[:39], "at least 40 characters"),
        ("API_KEY", "api_" + "ab" * 30, "different characters"),
        ("API_KEY", "api_with a space in the middle of forty characters", "visible ASCII"),
        ("SECRET_KEY", "short", "at least 32 characters"),
        ("OLD_SECRET_KEYS", f"{SECRET},short", "at least 32 characters, separated by commas"),
        ("MAX_EVENT_BYTES", "1023", "must be a size from 1024 to 8388608 bytes"),
        ("MAX_EVENT_BYTES", "512001", "must not be larger than HEADWATER_MAX_BATCH_BYTES"),
        ("MAX_BATCH_BYTES", "8388609", "must be a size from 1024 to 8388608 bytes"),
        ("MAX_BATCH_BYTES", "1e6", "must be a number of bytes"),
        ("MAX_CLIENT_BYTES", "8388609", "must be a size from 1024 to 8388608 bytes"),
        ("RATE_LIMIT_WORKSPACE", "0", "must be the events a second, from 1 to 10000000"),
        ("RATE_LIMIT_WORKSPACE", "1.5", "must be the events a second"),
        ("RATE_LIMIT_KEY", "5:", "must be the events a second"),
        ("RATE_LIMIT_MANAGEMENT", "0", "must be the calls a second, from 1 to 10000000"),
        ("MAX_CONNECTIONS", "0", "must be a number from 1 to 1000000"),
        ("MAX_KEYS", "1000001", "must be a number from 1 to 1000000"),
        ("MAX_DEFINITION_BYTES", "1KiB", "must be a size from 64KiB to 1GiB"),
        ("RATE_LIMIT_KEY", "5:6:7", "must be the events a second"),
        ("RATE_LIMIT_KEY", "\u0665", "must be the events a second"),
        *(("MAX_CLIENT_CONNECTIONS", text, "must be a number from 10 to 30000") for text in ("9", "30001", "many")),
        *(("IDLE_TIMEOUT", text, "must be a duration from 1s to 7d") for text in ("0", "8d")),
        ("IDLE_TIMEOUT", "soon", "must be a number of seconds"),
        ("MAX_CONNECTION_DURATION", "0s", "must be a duration from 1s to 7d"),
        *(
            ("TRUSTED_PROXIES", text, "must be the number of proxies, from 0 to 16, or their networks")
            for text in ("17", "-1", "10.0.0.1/8", "proxy.example", "10.0.0.0/8,", "10.0.0.0/8 10.1.0.0/16", "1,2")
        ),
        *(
            (
                "ALLOW_PRIVATE_DESTINATIONS",
                text,
                "must be 0 for none, 1 for all private addresses, or the allowed networks",
            )
            for text in ("2", "yes", "10.0.0.1/8", "10.0.0.0/8,")
        ),
        *(
            ("CONNECTOR_ORIGINS", text, "must be pairs of origins without paths")
            for text in ("https://a.example", "https://a.example/=http://b", "a=b", "https://a=http://u@b", "x=y=z")
        ),
        ("CONNECTOR_ORIGINS", "https://a=http://b,https://a=http://c", "must have each origin of a vendor once"),
        ("FILESYSTEM_ROOT", "/no/such/folder", "must be a folder that exists"),
        ("FILESYSTEM_SHARED", "yes", "must be one of 0, 1"),
        *(("ACCESS_LOG_SAMPLE", text, "must be a number from 0 to 1000000") for text in ("-1", "0.5", "1000001")),
        ("WATCHDOG_SECONDS", "1", "must be 0 or a number of seconds from 3 to 3600"),
        ("WATCHDOG_SECONDS", "30s", "must be 0 or a number of seconds from 3 to 3600"),
        ("SANDBOX", "off", "must be one of warn, require"),
        ("LOG_LEVEL", "loud", "must be one of debug, info, warning, error"),
        ("LOG_FORMAT", "xml", "must be one of json, text"),
    ],
)
def test_errors_are_one_line_with_the_name_of_the_variable(name: str, text: str, rule: str) -> None:
    with pytest.raises(StartupError) as caught:
        read({f"HEADWATER_{name}": text})
    message = str(caught.value)
    assert message.startswith(f"HEADWATER_{name} ")
    assert rule in message
    assert "\n" not in message
    if name in ("API_KEY", "SECRET_KEY"):
        assert text not in message
    assert "hid" not in message


def test_the_limits_of_what_clients_send_are_those_of_the_events_room() -> None:
    settings = read({})
    assert Limits(settings.max_event_bytes, settings.max_batch_bytes) == DEFAULT_LIMITS
    assert MAX_CALL_EVENTS == MAX_BATCH_EVENTS


@pytest.mark.parametrize("batch", [1 << 15, 500 << 10, 8 << 20])
def test_the_gateway_lets_pass_more_than_the_largest_batch(batch: int) -> None:
    assert read({"HEADWATER_MAX_BATCH_BYTES": str(batch)}).max_body_bytes == max(4 << 20, 2 * batch)


def test_a_flag_wins_over_the_environment() -> None:
    settings = read({"HEADWATER_PORT": "1000", "HEADWATER_HOST": "127.0.0.2"}, {"port": "2000", "host": None})
    assert (settings.port, settings.host) == (2000, "127.0.0.2")


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("database_url", "postgres://u:hidden@db/x"),
        ("database_url", "postgres://u:@db/x"),
        ("database_url", "postgres://u@db/x?password=hidden"),
        ("database_url", "postgres://u@db/x?sslmode=require&SSLPASSWORD=hidden"),
        ("database_url", "postgres://u:hid[den@db/x"),
        ("nats_url", "nats://u:hidden@nats"),
        ("nats_url", "nats://one,nats://hidden-token@two"),
    ],
)
def test_a_password_is_rejected_on_the_command_line(name: str, url: str) -> None:
    flag = name.replace("_", "-")
    with pytest.raises(
        StartupError, match=rf"^--{flag} must not contain a password.*HEADWATER_{name.upper()}"
    ) as caught:
        read({}, {name: url})
    assert "hid" not in str(caught.value)


def test_a_url_without_a_password_may_be_a_flag() -> None:
    assert read({}, {"database_url": "postgres://u@db/x"}).database_url == "postgresql+asyncpg://u@db/x"
    assert read({}, {"nats_url": "nats://one,tls://two:4222"}).nats_url == "nats://one,tls://two:4222"


def test_the_variable_of_platforms_counts_where_ours_is_unset() -> None:
    shared = {"DATABASE_URL": "postgres://u:p@db/x"}
    assert read(shared).database_url == "postgresql+asyncpg://u:p@db/x"
    assert read({**shared, "HEADWATER_DATABASE_URL": ""}).database_url == "postgresql+asyncpg://u:p@db/x"
    assert read({**shared, "HEADWATER_DATABASE_URL": "postgres://db/y"}).database_url == "postgresql+asyncpg://db/y"
    assert read(shared, {"database_url": "postgres://db/z"}).database_url == "postgresql+asyncpg://db/z"
    with pytest.raises(StartupError, match=r"^DATABASE_URL must start with"):
        read({"DATABASE_URL": "mysql://db/x"})


def test_sqlite_may_be_asked_for_whatever_the_platform_says() -> None:
    shared = {"DATABASE_URL": "postgres://u:p@db/x"}
    settings = read({**shared, "HEADWATER_DATABASE_URL": "sqlite"})
    assert settings.database_url is None
    assert read({**shared, **settings.environment()}) == settings


def test_children_read_the_same_settings() -> None:
    settings = read(
        {
            "HEADWATER_DATA_DIR": "/srv/x",
            "HEADWATER_API_KEY": KEY,
            "HEADWATER_LOG_LEVEL": "error",
            "HEADWATER_NATS_URL": "nats://user:password@nats",
            "HEADWATER_LOG_KEEP": "7d",
            "HEADWATER_LOG_MAX_BYTES": "20GiB",
            "HEADWATER_MAX_EVENT_BYTES": "65536",
            "HEADWATER_RATE_LIMIT_KEY": "5:10",
            "HEADWATER_RATE_LIMIT_MANAGEMENT": "5:7",
            "HEADWATER_MAX_PIPELINES": "6",
            "HEADWATER_OLD_SECRET_KEYS": f"{SECRET},{SECRET[:-1]}t",
        }
    )
    assert read(settings.environment()) == settings


def test_secrets_are_not_shown() -> None:
    database = "postgres://u:hidden@db/x"
    secrets = {"HEADWATER_API_KEY": KEY, "HEADWATER_SECRET_KEY": SECRET, "HEADWATER_OLD_SECRET_KEYS": "o" * 32}
    broker = "nats://u:hidden@nats"
    serve_metrics = repr(read({**secrets, "HEADWATER_DATABASE_URL": database, "HEADWATER_NATS_URL": broker}))
    assert "o" * 32 not in serve_metrics
    assert "hidden" not in serve_metrics
    assert KEY not in serve_metrics
    assert SECRET not in serve_metrics


def test_variables_that_are_no_settings_are_found_with_the_most_similar_one() -> None:
    environ = {
        "HEADWATER_BACKEND": "4",
        "HEADWATER_BACKENDS": "4",
        "HEADWATER_WORKERS": "4",
        "HEADWATER_": "",
        "headwater_port": "1",
        "PATH": "/",
    }
    environ |= {"HEADWATER_LOGLEVEL": "", "HEADWATER_XYZZY": "", "HEADWATER_IDLE_TIMEOUTS": "", "HEADWATERS": ""}
    assert unknown_variables(environ) == {
        "HEADWATER_": None,
        "HEADWATER_BACKEND": "HEADWATER_BACKENDS",
        "HEADWATER_IDLE_TIMEOUTS": "HEADWATER_IDLE_TIMEOUT",
        "HEADWATER_LOGLEVEL": "HEADWATER_LOG_LEVEL",
        "HEADWATER_XYZZY": None,
    }


@pytest.mark.parametrize(
    ("environ", "backends"),
    [
        ({"HEADWATER_WORKERS": "3"}, 3),
        ({"HEADWATER_WORKERS": "3", "HEADWATER_BACKENDS": "2"}, 2),
        ({"HEADWATER_WORKERS": "3", "HEADWATER_BACKENDS": ""}, 3),
        ({"HEADWATER_WORKERS": ""}, 1),
    ],
)
def test_the_earlier_name_of_a_setting_is_read_unless_the_present_one_is_set(
    environ: dict[str, str], backends: int
) -> None:
    assert read(environ).backends == backends
    assert renamed_variables(environ) == {"HEADWATER_WORKERS": "HEADWATER_BACKENDS"}


def test_an_error_names_the_variable_that_was_set() -> None:
    with pytest.raises(StartupError, match=r"^HEADWATER_WORKERS must be a number from 1 to 64, not 'x'$"):
        read({"HEADWATER_WORKERS": "x"})


def test_a_flag_overrides_both_names_of_a_setting() -> None:
    assert read({"HEADWATER_WORKERS": "3", "HEADWATER_BACKENDS": "2"}, {"backends": "4"}).backends == 4


def test_the_settings_of_a_child_have_present_names_only() -> None:
    assert renamed_variables(read({"HEADWATER_WORKERS": "3"}).environment()) == {}


CLIENT = {
    "HEADWATER_OAUTH_SAMPLE_OAUTH_APP_CLIENT_ID": "the-id",
    "HEADWATER_OAUTH_SAMPLE_OAUTH_APP_CLIENT_SECRET": "the-secret",
    "HEADWATER_OAUTH_SAMPLE_OAUTH_APP_URL": "https://provider.example/base//",
}


def test_an_oauth_client_reaches_connectors_and_no_representation() -> None:
    settings = read(CLIENT)
    assert "the-secret" not in repr(settings)
    client = connector_environment(settings, SystemClock()).oauth_clients["sample-oauth-app"]
    assert (client.id, client.secret, client.url) == ("the-id", "the-secret", "https://provider.example/base")
    assert read(settings.environment()) == settings


@pytest.mark.parametrize("missing", ["CLIENT_ID", "URL"])
def test_an_oauth_client_is_complete(missing: str) -> None:
    name = f"HEADWATER_OAUTH_SAMPLE_OAUTH_APP_{missing}"
    with pytest.raises(StartupError, match=f"^{name} must be set"):
        read({variable: value for variable, value in CLIENT.items() if variable != name})


def test_the_client_of_hubspot_has_no_url() -> None:
    names = ("HEADWATER_OAUTH_HUBSPOT_CLIENT_ID", "HEADWATER_OAUTH_HUBSPOT_CLIENT_SECRET")
    settings = read(dict(zip(names, ("the-id", "the-secret"), strict=True)))
    assert "the-secret" not in repr(settings)
    client = connector_environment(settings, SystemClock()).oauth_clients["hubspot"]
    assert (client.id, client.secret, client.url) == ("the-id", "the-secret", "")
    with pytest.raises(StartupError, match=f"^{names[0]} must be set"):
        read({names[1]: "the-secret"})


def test_salesforce_has_a_login_server_of_its_own() -> None:
    names = ("HEADWATER_OAUTH_SALESFORCE_CLIENT_ID", "HEADWATER_OAUTH_SALESFORCE_CLIENT_SECRET")
    clients = connector_environment(read(dict(zip(names, ("key", "secret"), strict=True))), SystemClock()).oauth_clients
    assert (clients["salesforce"].id, clients["salesforce"].url) == ("key", "")
    with pytest.raises(StartupError, match=f"^{names[0]} must be set"):
        read({names[1]: "secret"})


def test_a_process_without_the_client_secret_has_no_client() -> None:
    settings = read(read(CLIENT).environment(without=SECRETS))
    assert connector_environment(settings, SystemClock()).oauth_clients == {}


def test_every_setting_is_a_known_variable() -> None:
    assert unknown_variables({variable(field.name): "" for field in fields(Settings)}) == {}


def test_every_setting_is_in_the_readme() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    names = {variable(field.name) for field in fields(Settings)} - {"HEADWATER_RUN_DIR"}
    rows = set(re.findall(r"^\| `(HEADWATER_\w+)` (?:\* )?\|", readme, re.MULTILINE))
    assert sorted(names - rows) == []


def test_the_readme_has_the_defaults_of_the_gateway() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    rows = dict(re.findall(r"^\| `HEADWATER_(\w+)` \| `(\w+)` \|", readme, re.MULTILINE))
    for name in (
        "trusted_proxies",
        "max_client_connections",
        "idle_timeout",
        "max_connection_duration",
        "access_log_sample",
    ):
        written = read({variable(name): rows[name.upper()]})
        assert getattr(written, name) == getattr(Settings(), name)


def test_everything_is_kept_below_the_data_directory() -> None:
    settings = read({"HEADWATER_DATA_DIR": "/srv/x"})
    paths = (
        settings.catalog_path,
        settings.log_path,
        settings.state_path,
        settings.warehouse_path,
        settings.courier_path,
        settings.delivery_path,
        settings.api_key_path,
        settings.lock_path,
        settings.backend_socket("backend"),
        settings.admin_socket,
    )
    assert len(set(paths)) == len(paths)
    assert all(path.is_relative_to("/srv/x") for path in paths)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8080"),
        ("0.0.0.0", "http://127.0.0.1:8080"),
        ("::", "http://[::1]:8080"),
        ("192.0.2.7", "http://192.0.2.7:8080"),
    ],
)
def test_the_address_to_type(host: str, url: str) -> None:
    assert Settings(host=host).base_url == url
