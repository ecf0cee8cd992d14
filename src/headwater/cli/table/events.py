"""The commands of events, profiles and erasures."""

from dataclasses import replace
from datetime import date
from typing import Final

from headwater.cli.table.shared import CONNECTION, FILTER, ID, LIMIT, parse_limit
from headwater.cli.usage import Argument, Command, flag, option

_TYPES: Final = ("alias", "group", "identify", "page", "screen", "track")
_SELECTION: Final = (
    option("--connection", "ID", "only events of this connection; may be repeated", kind="list"),
    option(
        "--type", "TYPE", "only events of this type", choices=("alias", "group", "identify", "page", "screen", "track")
    ),
    option("--event", "NAME", "only track events of this name"),
    option("--user", "ID", "only events of this user id"),
    option("--anonymous", "ID", "only events of this anonymous id"),
    option("--since", "TIME", "the first time, such as 2026-11-30T00:00:00Z"),
    option("--until", "TIME", "the time after the last"),
    FILTER,
)
_KPID: Final = Argument("kpid", "the id of the profile", "KPID")

EVENTS: Final = (
    Command(
        "events",
        "list",
        "list the latest stored events",
        (
            *_SELECTION,
            option("--order", "TIME", "the time that orders and selects", choices=("timestamp", "receivedAt")),
            Argument("--ascending", "the oldest first", kind="flag", is_required=False),
            LIMIT,
        ),
        run="events:list_events",
    ),
    Command(
        "events",
        "counts",
        "count stored events",
        (
            *_SELECTION,
            Argument("--by", "event, type or connection; may be repeated", "NAME", kind="list", is_required=False),
            option("--interval", "INTERVAL", "hour or day", choices=("hour", "day")),
        ),
        run="events:count_events",
    ),
    Command(
        "events",
        "tail",
        "print events as they arrive, until Ctrl-C",
        (
            CONNECTION,
            FILTER,
            flag("--deliveries", "print the outcomes of deliveries, too"),
            option("--count", "N", "end after this number of lines", parse=parse_limit),
        ),
        run="tail:tail_events",
        description="Print events as they arrive, until Ctrl-C. A lost connection is opened again, and the events that "
        "were stored meanwhile are printed.",
    ),
    Command(
        "events",
        "rejected",
        "list the latest rejected events",
        (
            CONNECTION,
            option("--protocol", "PROTOCOL", "only those of this protocol, such as track"),
            flag("--counts", "count them by source and rule"),
            LIMIT,
        ),
        run="events:list_rejected",
    ),
    Command(
        "events",
        "trace",
        "show the outcome of a message in every pipeline",
        (Argument("message", "the message id of the event", "MESSAGE"),),
        run="events:trace_event",
    ),
    Command(
        "events",
        "export",
        "write events as Parquet files",
        (
            Argument("--parquet", "the folder to write to; created if it is missing", "FOLDER"),
            option("--workspace", "ID", "export only this workspace"),
            option("--since", "DATE", "the first day, as YYYY-MM-DD", parse=date.fromisoformat),
            option("--until", "DATE", "the day after the last", parse=date.fromisoformat),
        ),
        direct="catalog_commands:run",
        has_json=False,
        description="Write the events of a workspace, or of all, as Parquet files, one for each day of the events' "
        "timestamps (UTC): FOLDER/workspace=ID/day=YYYY-MM-DD/events.parquet. Existing files are replaced. Needs "
        "the extra headwater[parquet]. It uses the database directly.",
    ),
)

PROFILES: Final = (
    Command(
        "profiles",
        "list",
        "list profiles",
        (
            option("--filter", "FILTER", "a filter in words, such as 'email is \"ada@example.com\"', or as JSON"),
            option("--order", "PATH", "the property that orders them"),
            flag("--descending", "the greatest first"),
            LIMIT,
        ),
        run="profiles:list_profiles",
    ),
    Command(
        "profiles",
        "get",
        "show the attributes of a profile",
        (
            replace(_KPID, is_required=False),
            option("--user", "ID", "the person with this user id"),
            option("--anonymous", "ID", "the person with this anonymous id"),
            option("--connection", "ID", "the source of the user id or anonymous id; all of them if absent"),
        ),
        run="profiles:get_profile",
    ),
    Command(
        "profiles",
        "identities",
        "list the identities of a profile",
        (_KPID, LIMIT),
        run="profiles:list_identities",
    ),
    Command("profiles", "events", "list the latest events of a profile", (_KPID, LIMIT), run="profiles:list_events"),
    Command(
        "profiles",
        "explain",
        "list the links that make the identities of a profile one person",
        (_KPID, LIMIT),
        run="profiles:explain_profile",
    ),
    Command(
        "profiles",
        "export",
        "print everything that is known of a profile, as JSON lines",
        (_KPID,),
        run="profiles:export_profile",
    ),
)

ERASURES: Final = (
    Command("erasures", "list", "list the latest erasures", (LIMIT,), run="access:list_erasures"),
    Command("erasures", "get", "show an erasure with its receipt", (ID,), run="access:get_erasure"),
    Command(
        "erasures",
        "watch",
        "show the status of an erasure until it ends; exit 1 if it does not complete",
        (ID,),
        run="work:watch_erasure",
    ),
    Command(
        "erasures",
        "create",
        "erase a person and print the id of the erasure",
        (
            option("--profile", "KPID", "the person with this profile"),
            option("--user", "ID", "the person with this user id"),
            option("--anonymous", "ID", "the person with this anonymous id"),
            option("--connection", "ID", "the source of the user id or anonymous id; all of them if absent"),
            flag("--suppress", "reject later events of the person"),
            flag("--validate-only", "count what would be erased, and erase nothing"),
        ),
        run="access:create_erasure",
    ),
)
