"""The commands that read events: stored ones, rejected ones, and the outcome of a message."""

import argparse
import json
from collections.abc import Iterator

import msgspec

from headwater.cli.api import Api, Columns, member, print_json
from headwater.cli.client import Client, Query, segment
from headwater.cli.tables import parse_identifier

EVENTS: Columns = {
    "TIME (UTC)": member("timestamp"),
    "TYPE": member("type"),
    "EVENT": lambda item: item.get("event") or item.get("name"),
    "USER": lambda item: item.get("userId") or item.get("anonymousId"),
    "CONNECTION": member("connectionId"),
    "MESSAGE ID": member("messageId"),
}
_REJECTED: Columns = {
    "RECEIVED (UTC)": member("receivedAt"),
    "CONNECTION": member("connection"),
    "PROTOCOL": member("protocol"),
    "CODE": member("code"),
    "PATH": member("path"),
    "MESSAGE": member("message"),
    "BODY": lambda item: item.get("bodyText") or "",
}
_REJECTED_COUNTS: Columns = {
    "COUNT": member("count"),
    "CONNECTION": member("connection"),
    "PROTOCOL": member("protocol"),
    "CODE": member("code"),
    "PATH": member("path"),
    "FIRST (UTC)": member("firstAt"),
    "LAST (UTC)": member("lastAt"),
}
_COUNTS: Columns = {
    "COUNT": member("count"),
    "EVENT": member("event"),
    "TYPE": member("type"),
    "CONNECTION": member("connectionId"),
    "FROM (UTC)": member("startTime"),
}
_STEPS: Columns = {
    "SOURCE": member("source"),
    "PIPELINE": member("pipeline"),
    "STEP": member("step"),
    "OUTCOME": member("outcome"),
    "ATTEMPTS": member("attempts"),
    "AT (UTC)": member("at"),
    "REASON": lambda item: " ".join(filter(None, [item.get("reason"), item.get("message")])),
}


def list_events(api: Api, arguments: argparse.Namespace) -> None:
    """Print the latest stored events that the options select."""
    query = {**select_events(api.client, arguments), "order": arguments.order, "ascending": arguments.ascending}
    api.print_pages("/v1/events", "events", EVENTS, query, arguments.limit)


def count_events(api: Api, arguments: argparse.Namespace) -> None:
    """Print numbers of events."""
    query = {**select_events(api.client, arguments), "by": arguments.by, "interval": arguments.interval}
    api.print_list(_members(api.client.call("GET", "/v1/events/counts", query), "counts"), _COUNTS)


def list_rejected(api: Api, arguments: argparse.Namespace) -> None:
    """Print the latest rejected events, or their numbers by rule."""
    connection = None if arguments.connection is None else parse_identifier(arguments.connection)
    if arguments.counts:
        query: Query = {"connection": connection}
        api.print_pages("/v1/events/rejected/counts", "counts", _REJECTED_COUNTS, query, arguments.limit)
    else:
        query = {"connection": connection, "protocol": arguments.protocol}
        api.print_pages("/v1/events/rejected", "events", _REJECTED, query, arguments.limit)


def trace_event(api: Api, arguments: argparse.Namespace) -> None:
    """Print the outcome of a message in every pipeline."""
    body = api.client.call("GET", f"/v1/events/{segment(arguments.message)}/trace")
    if api.is_json:
        print_json(body)
        return
    rows = []
    for trace in json.loads(body)["traces"]:
        source = trace.get("connection")
        own = {"source": source, "step": "", "outcome": trace["outcome"], "message": trace.get("message")}
        rows.append({**own, "at": trace.get("receivedAt")})
        rows += [{**step, "source": source} for step in trace.get("steps", ())]
    api.print_list((json.dumps(row).encode() for row in rows), _STEPS)


def select_events(client: Client, arguments: argparse.Namespace) -> dict[str, str | list[str] | None]:
    """Return the query parameters that select events."""
    return {
        "connection": [str(parse_identifier(each)) for each in arguments.connection or ()],
        "type": arguments.type,
        "event": arguments.event,
        "userId": arguments.user,
        "anonymousId": arguments.anonymous,
        "since": arguments.since,
        "until": arguments.until,
        "filter": read_filter(client, arguments.filter),
    }


def read_filter(client: Client, text: str | None) -> str | None:
    """Return a filter as JSON. A text that is no JSON object is a filter in words, which the server parses."""
    if text is None or text.lstrip().startswith("{"):
        return text
    return json.dumps(json.loads(client.send("POST", "/v1/filters/parse", {"text": text}))["filter"])


def _members(body: bytes, name: str) -> Iterator[bytes]:
    members = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    yield from map(bytes, msgspec.json.decode(members[name], type=list[msgspec.Raw]))
