"""Conditions on profiles: from the requests of both packages to the schema of profiles."""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
from msgspec import Raw, Struct

from headwater.api.messages.eventquery import split_names
from headwater.api.messages.schema import to_filter
from headwater.base.errors import BadRequest, Reason, Unprocessable
from headwater.filters import CheckedFilter, InvalidFilter, UnknownProperty, check_filter, parse_json
from headwater.rest.v1 import profiles_pb2 as rest_pb
from headwater.schemas import InvalidPath, Property, Schema, parse_path, resolve, select
from headwater.state.profiles.searching import Order
from headwater.v1 import profiles_pb2 as pb

Request = pb.ListProfilesRequest | rest_pb.ListProfilesRequest
PathTree = dict[str, "PathTree"]
"""Names of properties with those below them; empty: the whole value."""

_NOT_SORTABLE: Final = frozenset({"json", "array", "object", "map"})
_decode_members = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode


class ProfileQuery(Struct, frozen=True):
    """The conditions of a request that fit the schema of profiles."""

    schema: Schema | None
    """The schema of the attributes to return; None if the workspace has no schema of profiles."""
    paths: PathTree
    """The attributes to return; empty: all."""
    filter: CheckedFilter | None
    order: Order | None
    """The attribute to sort by; None: the time of the last change."""


def profile_query(request: Request, schema: Schema | None) -> ProfileQuery:
    """Return the query of a request.

    `schema` is that of the workspace's profiles. Raises BadRequest, and Unprocessable for properties that it does not
    have.
    """
    names = split_names(request.properties)
    for name in names:
        _find(schema, name, "PropertyNotExist", "properties")
    wanted = select(schema, names) if names else schema
    return ProfileQuery(wanted, path_tree(names), _filter(request, schema), _order(request, schema))


def path_tree(paths: Iterable[str]) -> PathTree:
    """Return the paths as a tree. A path that another one contains adds nothing."""
    tree: PathTree = {}
    for path in sorted(set(paths), key=lambda path: path.count(".")):
        here = tree
        *parents, last = path.split(".")
        for name in parents:
            if name in here and not here[name]:
                break
            here = here.setdefault(name, {})
        else:
            here.setdefault(last, {})
    return tree


def select_attributes(attributes: str, paths: PathTree) -> str:
    """Return the attributes with only those at the paths, each exactly as it was; `attributes` is a JSON object."""
    return _encode(_selected(_decode_members(attributes), paths)).decode() if paths else attributes


def _selected(members: Mapping[str, Raw], paths: PathTree) -> dict[str, object]:
    selected: dict[str, object] = {}
    for name, value in members.items():
        below = paths.get(name)
        if below is None:
            continue
        if not below:
            selected[name] = value
        elif bytes(value).startswith(b"{"):
            selected[name] = _selected(_decode_members(value), below)
    return selected


def _filter(request: Request, schema: Schema | None) -> CheckedFilter | None:
    if not request.HasField("filter"):
        return None
    try:
        given = parse_json(request.filter) if isinstance(request.filter, str) else to_filter(request.filter)
        if given is None:
            return None
        if schema is None:
            raise Unprocessable(
                "PropertyNotExist", "profiles have no properties before they have a schema", field="filter"
            )
        # Under the rules of pipelines that export profiles.
        return check_filter(given, schema, role="Destination", target="User")
    except UnknownProperty as error:
        raise Unprocessable("PropertyNotExist", error.message, field=_filter_field(error)) from error
    except InvalidFilter as error:
        raise BadRequest(error.message, field=_filter_field(error)) from error


def _filter_field(error: InvalidFilter) -> str:
    return f"filter.{error.field or ''}".rstrip(".")


def _order(request: Request, schema: Schema | None) -> Order | None:
    if not request.HasField("order"):
        return None
    found = _find(schema, request.order, "OrderNotExist", "order")
    if found.type.kind in _NOT_SORTABLE:
        message = f"profiles cannot be sorted by {request.order[:60]!r}, which is of kind {found.type.kind}"
        raise Unprocessable("OrderTypeNotSortable", message, field="order")
    return Order(parse_path(request.order), found.type)


def _find(schema: Schema | None, path: str, reason: Reason, field: str) -> Property:
    """Return the property at a path. Raises BadRequest, and Unprocessable with the reason if there is none."""
    try:
        components = parse_path(path)
    except InvalidPath as error:
        raise BadRequest(f"{field} must be a path of a property, such as address.city", field=field) from error
    found, missing = (None, path) if schema is None else resolve(schema, components)
    if found is None or missing is not None:
        raise Unprocessable(reason, f"profiles have no property {path[:60]!r}", field=field)
    return found
