"""The commands for profiles: listing them, reading one, and the reasons why its identities are one person."""

import argparse
import json

import msgspec

from headwater.cli.api import Api, Columns, member, print_json
from headwater.cli.client import segment
from headwater.cli.errors import CommandError, UsageError
from headwater.cli.events import EVENTS, read_filter
from headwater.cli.tables import parse_identifier

_PROFILES: Columns = {
    "KPID": member("kpid"),
    "UPDATED (UTC)": member("updatedAt"),
    "ATTRIBUTES": member("attributes"),
}
_IDENTITIES: Columns = {
    "CONNECTION": member("connection"),
    "PIPELINE": member("pipeline"),
    "USER": member("userId"),
    "ANONYMOUS": member("anonymousIds"),
    "UPDATED (UTC)": member("updatedAt"),
}
_LINKS: Columns = {
    "FROM": lambda item: _name(item["from"]),
    "TO": lambda item: _name(item["to"]),
    "IDENTIFIER": member("identifier"),
    "VALUE": member("value"),
}


def list_profiles(api: Api, arguments: argparse.Namespace) -> None:
    """Print profiles, only those that match a filter if one is given."""
    query = {
        "filter": read_filter(api.client, arguments.filter),
        "order": arguments.order,
        "orderDesc": arguments.descending or None,
    }
    api.print_pages("/v1/profiles", "profiles", _PROFILES, query, arguments.limit)


def get_profile(api: Api, arguments: argparse.Namespace) -> None:
    """Print the attributes of a profile, or of those of a person with an id in the sources."""
    if (arguments.kpid, arguments.user, arguments.anonymous).count(None) != 2:
        raise UsageError("exactly one of KPID, --user and --anonymous names the person")
    if arguments.kpid is None:
        _print_found(api, arguments)
        return
    if arguments.connection is not None:
        raise UsageError("--connection needs --user or --anonymous")
    _print_profile(api, api.client.call("GET", f"{_profile(arguments)}/attributes"))


def _print_profile(api: Api, body: bytes) -> None:
    if api.is_json:
        print_json(body)
        return
    document = json.loads(body)
    api.print_object(json.dumps({"kpid": document["kpid"], **document["attributes"]}).encode())


def _print_found(api: Api, arguments: argparse.Namespace) -> None:
    """Print the profiles with an id. Raises CommandError if there is none."""
    query = {
        "userId": arguments.user,
        "anonymousId": arguments.anonymous,
        "connection": None if arguments.connection is None else parse_identifier(arguments.connection),
    }
    body = api.client.call("GET", "/v1/profiles/find", query)
    found = msgspec.json.decode(body, type=dict[str, list[msgspec.Raw]])["profiles"]
    if not found:
        raise CommandError("no profile has this id")
    for profile in found:
        _print_profile(api, bytes(profile))


def list_identities(api: Api, arguments: argparse.Namespace) -> None:
    """Print the identities of a profile."""
    api.print_pages(f"{_profile(arguments)}/identities", "identities", _IDENTITIES, limit=arguments.limit)


def list_events(api: Api, arguments: argparse.Namespace) -> None:
    """Print the latest events of a profile."""
    api.print_pages(f"{_profile(arguments)}/events", "events", EVENTS, limit=arguments.limit)


def explain_profile(api: Api, arguments: argparse.Namespace) -> None:
    """Print the links that hold a profile together."""
    api.print_pages(f"{_profile(arguments)}/explanation", "links", _LINKS, limit=arguments.limit)


def export_profile(api: Api, arguments: argparse.Namespace) -> None:
    """Print everything that is known of a profile, one JSON object per line, while it arrives."""
    with api.client.open("GET", f"{_profile(arguments)}/export") as response:
        for line in response.message:
            if line.strip():
                print_json(line)


def _profile(arguments: argparse.Namespace) -> str:
    return f"/v1/profiles/{segment(arguments.kpid)}"


def _name(identity: dict[str, object]) -> str:
    """Return an identity as the API names it: its connection, and its user id or first anonymous id."""
    anonymous = identity.get("anonymousIds")
    if identity.get("userId"):
        return f"{identity['connection']}:userId:{identity['userId']}"
    first = anonymous[0] if isinstance(anonymous, list) and anonymous else identity.get("anonymousId", "")
    return f"{identity['connection']}:anonymousId:{first}"
