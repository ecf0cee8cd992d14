"""The commands for API keys, workspaces and erasures over the API."""

import argparse
import json
import sys
from dataclasses import replace

from headwater.cli.api import Api, Columns, member
from headwater.cli.errors import UsageError
from headwater.cli.tables import parse_identifier

_KEYS: Columns = {
    "ID": member("id"),
    "KEY": member("token"),
    "OPENS": lambda item: f"workspace {item['workspace']}" if "workspace" in item else "every workspace",
    "ACCESS": member("access"),
    "CREATED (UTC)": member("createdAt"),
    "NAME": member("name"),
}
_WORKSPACES: Columns = {
    "ID": member("id"),
    "WAREHOUSE": member("warehouseMode"),
    "IDENTIFIERS": member("identifiers"),
    "NAME": member("name"),
}
_ERASURES: Columns = {
    "ID": member("id"),
    "STATUS": member("status"),
    "VALIDATE ONLY": member("validateOnly"),
    "SUPPRESS": member("suppress"),
    "PROFILE": member("profile"),
    "CREATED (UTC)": member("createTime"),
    "ERROR": member("error"),
}


def list_keys(api: Api, arguments: argparse.Namespace) -> None:
    """Print the API keys, without their secrets."""
    api.print_pages("/v1/keys", "keys", _KEYS)


def create_key(api: Api, arguments: argparse.Namespace) -> None:
    """Create an API key. Standard output gets the key alone, so that it can be assigned to a variable."""
    document: dict[str, object] = {"name": arguments.name, "access": "Read" if arguments.read_only else "Full"}
    if not arguments.every_workspace:
        document["workspace"] = api.client.workspace or api.client.read("/v1/workspaces/current")["id"]
    body = api.client.send("POST", "/v1/keys", document)
    if not api.is_json:
        print(f"API key {json.loads(body)['id']} is shown only now:", file=sys.stderr)
    api.print_created(body, "token")


def revoke_key(api: Api, arguments: argparse.Namespace) -> None:
    """Delete an API key."""
    api.print_done(api.client.call("DELETE", f"/v1/keys/{parse_identifier(arguments.id)}"))


def list_workspaces(api: Api, arguments: argparse.Namespace) -> None:
    """Print the workspaces that the key opens."""
    api.print_pages("/v1/workspaces", "workspaces", _WORKSPACES)


def get_workspace(api: Api, arguments: argparse.Namespace) -> None:
    """Print the workspace of the key."""
    api.print_object(api.client.call("GET", "/v1/workspaces/current"))


def create_workspace(api: Api, arguments: argparse.Namespace) -> None:
    """Create a workspace and print its id alone."""
    api.print_created(api.client.send("POST", "/v1/workspaces", {"name": arguments.name}))


def delete_workspace(api: Api, arguments: argparse.Namespace) -> None:
    """Delete a workspace. The call names it in its header."""
    id_ = parse_identifier(arguments.id)
    if api.client.workspace not in (None, id_):
        raise UsageError("--workspace and ID name different workspaces")
    api.print_done(replace(api.client, workspace=id_).call("DELETE", "/v1/workspaces/current"))


def list_erasures(api: Api, arguments: argparse.Namespace) -> None:
    """Print the latest erasures."""
    api.print_pages("/v1/erasures", "erasures", _ERASURES, limit=arguments.limit)


def get_erasure(api: Api, arguments: argparse.Namespace) -> None:
    """Print an erasure with its receipt."""
    api.print_object(api.client.call("GET", f"/v1/erasures/{parse_identifier(arguments.id)}"))


def create_erasure(api: Api, arguments: argparse.Namespace) -> None:
    """Erase a person, or count what would be erased, and print the id of the erasure alone."""
    persons = {"profile": arguments.profile, "userId": arguments.user, "anonymousId": arguments.anonymous}
    given = {name: value for name, value in persons.items() if value is not None}
    if len(given) != 1:
        raise UsageError("exactly one of --profile, --user and --anonymous names the person")
    document: dict[str, object] = {**given, "suppress": arguments.suppress, "validateOnly": arguments.validate_only}
    if arguments.connection is not None:
        document["connection"] = parse_identifier(arguments.connection)
    api.print_created(api.client.send("POST", "/v1/erasures", document))
