"""The arguments of `headwater serve`: settings that are also flags."""

from typing import Final

from headwater.cli.usage import Command, option

SERVE: Final = Command(
    "",
    "serve",
    "run the whole system in the foreground",
    (
        option("--host", "ADDRESS", "IP address to listen on [HEADWATER_HOST, 127.0.0.1]"),
        option("--port", "PORT", "the one public port [HEADWATER_PORT, 8080]"),
        option("--data-dir", "FOLDER", "folder of all data [HEADWATER_DATA_DIR, ./data]"),
        option(
            "--database-url",
            "URL",
            "postgresql://user@host/database; with a password only in [HEADWATER_DATABASE_URL, DATABASE_URL]; "
            "without it SQLite files in the data directory",
        ),
        option(
            "--nats-url",
            "URL",
            "nats://host:4222, the event log; with credentials only in [HEADWATER_NATS_URL]; without it a file in "
            "the data directory",
        ),
        option("--backends", "NUMBER", "backend processes, 1 to 64 [HEADWATER_BACKENDS, 1]"),
        option("--workers", "NUMBER", "the earlier name of --backends", destination="backends"),
        option("--metrics-port", "PORT", "private port of Prometheus metrics [HEADWATER_METRICS_PORT, none]"),
        option("--metrics-host", "ADDRESS", "IP address of the metrics port [HEADWATER_METRICS_HOST, 127.0.0.1]"),
        option("--maxmind-db", "FILE", "database of the locations of IP addresses [HEADWATER_MAXMIND_DB, none]"),
        option("--log-level", "LEVEL", "debug, info, warning or error [HEADWATER_LOG_LEVEL, info]"),
        option("--log-format", "FORMAT", "json or text [HEADWATER_LOG_FORMAT, text on a terminal]"),
    ),
    local="serving:run",
    description="Run the whole system in the foreground until Ctrl-C or SIGTERM. Secrets are read from the environment "
    "only, because other users can read a command line: HEADWATER_API_KEY (registered at the first start; without it "
    "one is generated), HEADWATER_SECRET_KEY (encrypts the settings of connections; without it one is generated) and "
    "HEADWATER_OLD_SECRET_KEYS.",
    has_json=False,
)
