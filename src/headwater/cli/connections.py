"""The commands for connectors, connections and their event write keys, and for pipelines."""

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any

import msgspec

from headwater.cli.api import Api, Columns, member, print_json, read_document
from headwater.cli.client import Query, segment
from headwater.cli.errors import UsageError
from headwater.cli.tables import parse_identifier

_CONNECTORS: Columns = {
    "CODE": member("code"),
    "TYPE": member("type"),
    "SOURCE": lambda item: ", ".join(item["asSource"]["targets"]) if "asSource" in item else "",
    "DESTINATION": lambda item: ", ".join(item["asDestination"]["targets"]) if "asDestination" in item else "",
    "AVAILABLE": member("available"),
    "LABEL": member("label"),
}
_CONNECTIONS: Columns = {
    "ID": member("id"),
    "ROLE": member("role"),
    "CONNECTOR": member("connector"),
    "PIPELINES": lambda item: len(item.get("pipelines", ())),
    "LINKED": member("linkedConnections"),
    "NAME": member("name"),
}
_PIPELINES: Columns = {
    "ID": member("id"),
    "CONNECTION": member("connection"),
    "CONNECTOR": member("connector"),
    "ROLE": member("connectionRole"),
    "TARGET": member("target"),
    "ENABLED": member("enabled"),
    "NAME": member("name"),
}


def list_connectors(api: Api, arguments: argparse.Namespace) -> None:
    """Print the connectors, only the available ones if asked for."""
    items = _members(api.client.call("GET", "/v1/connectors"), "connectors")
    chosen = (item for item in items if not arguments.available or json.loads(item)["available"])
    api.print_list(chosen, _CONNECTORS)


def get_connector(api: Api, arguments: argparse.Namespace) -> None:
    """Print a connector with its settings."""
    api.print_object(api.client.call("GET", f"/v1/connectors/{segment(arguments.code)}"))


def list_connections(api: Api, arguments: argparse.Namespace) -> None:
    """Print the connections of the workspace, only those of a role if asked for."""
    items = api.client.items("/v1/connections", "connections")
    wanted = arguments.role
    chosen = (item for item in items if wanted is None or json.loads(item)["role"] == wanted)
    api.print_list(chosen, _CONNECTIONS)


def get_connection(api: Api, arguments: argparse.Namespace) -> None:
    """Print a connection."""
    body = api.client.call("GET", _connection(arguments.id))
    if api.is_json:
        print_json(body)
        return
    document = json.loads(body)
    document["pipelines"] = [f"{each['id']} {each['name']}" for each in document.get("pipelines", ())]
    document["eventTypes"] = [each["id"] for each in document.get("eventTypes", ())]
    api.print_object(json.dumps(document).encode())


def create_connection(api: Api, arguments: argparse.Namespace) -> None:
    """Create a connection and print its id alone."""
    document = read_document(arguments.file, _connection_members(arguments))
    api.print_created(api.client.call("POST", "/v1/connections", body=document))


def update_connection(api: Api, arguments: argparse.Namespace) -> None:
    """Change the members of a connection that are given. The others, and its settings, stay."""
    path = _connection(arguments.id)
    present: dict[str, Any] = api.client.read(path)
    kept = {name: present.get(name) for name in ("name", "strategy", "sendingMode")}
    given = json.loads(read_document(arguments.file, _connection_members(arguments)))
    api.print_done(api.client.send("PUT", path, {**kept, **given}))


def delete_connection(api: Api, arguments: argparse.Namespace) -> None:
    """Delete a connection with its pipelines."""
    api.print_done(api.client.call("DELETE", _connection(arguments.id)))


def test_connection(api: Api, arguments: argparse.Namespace) -> None:
    """Print whether a call with a key of the connection has arrived."""
    api.print_object(api.client.call("GET", f"{_connection(arguments.id)}/test"))


def link_connections(api: Api, arguments: argparse.Namespace) -> None:
    """Let the events of a source reach a destination."""
    api.print_done(api.client.call("POST", _link(arguments)))


def unlink_connections(api: Api, arguments: argparse.Namespace) -> None:
    """Stop the events of a source from reaching a destination."""
    api.print_done(api.client.call("DELETE", _link(arguments)))


def list_write_keys(api: Api, arguments: argparse.Namespace) -> None:
    """Print the event write keys of a connection, one per line."""
    body = api.client.call("GET", f"{_connection(arguments.id)}/event-write-keys")
    if api.is_json:
        print_json(body)
        return
    for key in json.loads(body)["keys"]:
        print(key)


def create_write_key(api: Api, arguments: argparse.Namespace) -> None:
    """Add an event write key to a connection, and print it alone."""
    api.print_created(api.client.call("POST", f"{_connection(arguments.id)}/event-write-keys"), "key")


def delete_write_key(api: Api, arguments: argparse.Namespace) -> None:
    """Delete an event write key."""
    key = _read_secret(arguments.key)
    api.print_done(api.client.call("DELETE", f"{_connection(arguments.id)}/event-write-keys/{segment(key)}"))


def list_pipelines(api: Api, arguments: argparse.Namespace) -> None:
    """Print the pipelines of the workspace, only those of a connection if asked for."""
    if arguments.connection is not None:
        connections = iter([api.client.call("GET", _connection(arguments.connection))])
    else:
        connections = api.client.items("/v1/connections", "connections")
    api.print_list((each for connection in connections for each in _members(connection, "pipelines")), _PIPELINES)


def get_pipeline(api: Api, arguments: argparse.Namespace) -> None:
    """Print a pipeline."""
    api.print_object(api.client.call("GET", _pipeline(arguments.id)))


def create_pipeline(api: Api, arguments: argparse.Namespace) -> None:
    """Create a pipeline from a JSON document and print its id alone."""
    members = {
        "connection": None if arguments.connection is None else parse_identifier(arguments.connection),
        "target": arguments.target,
        "name": arguments.name,
        "enabled": True if arguments.enabled else None,
    }
    if arguments.file is None and not any(members.values()):
        raise UsageError("a pipeline needs a FILE (- for standard input), or --connection, --target and --name")
    api.print_created(api.client.call("POST", "/v1/pipelines", body=read_document(arguments.file, members)))


def suggest_pipeline(api: Api, arguments: argparse.Namespace) -> None:
    """Print the JSON document of a suggested pipeline."""
    query: Query = {
        "connection": str(parse_identifier(arguments.connection)),
        "target": arguments.target,
        "eventType": arguments.event_type,
    }
    print_json(api.client.call("GET", "/v1/pipelines/suggestion", query))


def update_pipeline(api: Api, arguments: argparse.Namespace) -> None:
    """Replace a pipeline by a JSON document."""
    api.print_done(api.client.call("PUT", _pipeline(arguments.id), body=read_document(arguments.file)))


def enable_pipeline(api: Api, arguments: argparse.Namespace) -> None:
    """Enable a pipeline."""
    api.print_done(api.client.send("PUT", f"{_pipeline(arguments.id)}/status", {"enabled": True}))


def disable_pipeline(api: Api, arguments: argparse.Namespace) -> None:
    """Disable a pipeline."""
    api.print_done(api.client.send("PUT", f"{_pipeline(arguments.id)}/status", {"enabled": False}))


def delete_pipeline(api: Api, arguments: argparse.Namespace) -> None:
    """Delete a pipeline."""
    api.print_done(api.client.call("DELETE", _pipeline(arguments.id)))


def _connection(id_: str) -> str:
    return f"/v1/connections/{parse_identifier(id_)}"


def _pipeline(id_: str) -> str:
    return f"/v1/pipelines/{parse_identifier(id_)}"


def _link(arguments: argparse.Namespace) -> str:
    return f"{_connection(arguments.source)}/links/{parse_identifier(arguments.destination)}"


def _connection_members(arguments: argparse.Namespace) -> dict[str, object]:
    if arguments.file == arguments.settings == "-":
        raise UsageError("FILE and --settings cannot both be standard input")
    settings = None if arguments.settings is None else json.loads(read_document(arguments.settings))
    return {
        "name": arguments.name,
        "role": getattr(arguments, "role", None),
        "connector": getattr(arguments, "connector", None),
        "strategy": arguments.strategy,
        "settings": settings,
    }


def _members(body: bytes, name: str) -> Iterator[bytes]:
    """Yield the items of a list in a JSON object, as they are."""
    members = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    if name in members:
        yield from map(bytes, msgspec.json.decode(members[name], type=list[msgspec.Raw]))


def _read_secret(text: str) -> str:
    """Return a key, from standard input for `-`: other users can read a command line."""
    return sys.stdin.readline().strip() if text == "-" else text
