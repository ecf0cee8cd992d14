"""Shows the request with which a user would be written to an application, without sending it.

The connector writes the user as in an export, with a client that keeps requests and responds to none. So a write of
several requests is shown up to the first whose response decides what follows. `begin_user_preview` and
`end_user_preview` are pure, so that they can run in another process; between them, the program of a function runs in a
sandbox.
"""

import asyncio
from hashlib import blake2b
from typing import Final

import msgspec
from msgspec.structs import replace

from headwater.base.errors import BadRequest, Unavailable, Unprocessable
from headwater.catalog import Catalog, Connection, Matching, TransformationDefinition
from headwater.connectors.contract import (
    HttpClient,
    HttpRequest,
    HttpResponse,
    Outcome,
    TransportError,
    TransportFailure,
    UserSink,
    UserWrite,
)
from headwater.connectors.environment import DEFAULT_ENVIRONMENT, ConnectorEnvironment
from headwater.connectors.redaction import Redactor, format_request
from headwater.management.applications import TIMEOUT_SECONDS
from headwater.management.transformations import Trial, begin_trial, end_trial
from headwater.schemas import (
    MISSING,
    Codec,
    ExportMode,
    InvalidPath,
    InvalidValue,
    Property,
    PropertyNotFound,
    Schema,
    all_optional,
    misalignment,
    parse_path,
    property_at,
    select,
    value_at,
    without,
)
from headwater.state import MAX_ATTRIBUTES_BYTES
from headwater.transforms.functions import LANGUAGES, MAX_SOURCE_LENGTH, Prepared, RunOutput

MAX_USER_ID_CHARACTERS: Final = 1_000
_SEPARATOR: Final = "\n\n"
"""Separates the requests of a write."""


class UserPreviewRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The user and its transformation; an absent member is None or empty. `user` is JSON, with the attributes of a
    profile. `user_id` is the id of the user to update. `matching` is that of the pipeline: an export adds its property
    to what the transformation returns."""

    user: bytes | None
    transformation: TransformationDefinition | None
    out_schema: Schema | None
    user_id: str
    matching: Matching | None = None


class TransformedUser(msgspec.Struct, frozen=True, kw_only=True):
    """The attributes to write, as JSON of `out_schema`, and the id of the user to update; empty to create one.

    `matching` is the path of the property by which an export finds the user; None without one.
    """

    user_id: str
    out_schema: Schema
    attributes: bytes
    matching: str | None = None


def begin_user_preview(
    request: UserPreviewRequest, profile_schema: Schema | None, owner: str
) -> TransformedUser | Prepared:
    """Return the result of a mapping, or the prepared program of a function.

    Raises BadRequest for a request that is not valid, and Unprocessable with UnsupportedLanguage or
    TransformationFailed.
    """
    trial = _make_trial(request, profile_schema)
    begun = begin_trial(trial, owner)
    return begun if isinstance(begun, Prepared) else _transformed(request, trial, begun)


def end_user_preview(
    request: UserPreviewRequest, profile_schema: Schema | None, owner: str, ran: RunOutput
) -> TransformedUser:
    """Return what a function returned. Raises Unprocessable with TransformationFailed."""
    trial = _make_trial(request, profile_schema)
    return _transformed(request, trial, end_trial(trial, owner, ran))


async def show_user_request(
    catalog: Catalog,
    connection: Connection,
    transformed: TransformedUser,
    environment: ConnectorEnvironment = DEFAULT_ENVIRONMENT,
) -> str:
    """Return the request as text, without secrets. The application is asked for its schema only.

    Raises BadRequest for an id that the application cannot have, Unprocessable with SchemaNotAligned or InvalidUser,
    and Unavailable.
    """
    connector = catalog.connectors[connection.connector]
    make_sink = connector.engine.user_sink
    if make_sink is None:
        raise Unavailable(f"connector {connector.code} cannot be reached by this version")
    if transformed.user_id and connector.engine.is_write_only:
        raise BadRequest(f"{connector.label} finds users by their attributes, not by an id", field="userId")
    settings = catalog.decrypt_settings(connection)
    redactor = Redactor(() if settings is None else settings.secrets())
    opening = environment.context(
        connector.code,
        connection.id,
        settings,
        catalog.access_token(connection, environment),
        workspace=connection.workspace,
    )
    async with opening as context:
        client = _KeepingClient(context.http)
        sink = make_sink(settings, replace(context, http=client))
        mode: ExportMode = "UpdateOnly" if transformed.user_id else "CreateOnly"
        if connector.engine.is_write_only:
            mode = "CreateOrUpdate"
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                transformed = _leave_out_read_only(transformed, offered := await sink.writable_schema())
                _check_aligned(transformed.out_schema, offered, mode)
                user = _make_user(sink, connection, transformed)
                client.keeps = True
                reason = redactor.redact(await _write(sink, user))
        except TimeoutError:
            raise Unavailable(f"the application did not respond within {TIMEOUT_SECONDS:g} seconds") from None
    if not client.kept:
        raise _invalid(reason)
    return await asyncio.to_thread(
        lambda: _SEPARATOR.join(format_request(request, redactor) for request in client.kept)
    )


class _KeepingClient:
    """An `HttpClient` that keeps requests instead of sending them, once `keeps` is set."""

    def __init__(self, client: HttpClient) -> None:
        self._client = client
        self.keeps = False
        self.kept: list[HttpRequest] = []

    async def send(self, request: HttpRequest) -> HttpResponse:
        if not self.keeps:
            return await self._client.send(request)
        self.kept.append(request)
        raise TransportError(TransportFailure.DISCONNECTED, "a preview sends nothing")


async def _write(sink: UserSink, user: UserWrite) -> str:
    """Write a user with a client that sends nothing. Return the reason why the connector rejects the user; empty if it
    sends a request."""
    try:
        [result] = await sink.write_users([user])
    except TransportError:
        return ""
    return (result.message or result.reason) if result.outcome is Outcome.REJECTED else ""


def _leave_out_read_only(transformed: TransformedUser, offered: Schema) -> TransformedUser:
    """Leave out a property of the matching that the application does not let be written, such as its id."""
    path = transformed.matching
    if path is None or offered.get(parse_path(path)[0]) is not None:
        return transformed
    members = msgspec.json.decode(transformed.attributes, type=dict[str, msgspec.Raw])
    members.pop(parse_path(path)[0], None)
    schema = without(transformed.out_schema, path)
    if schema is None:
        raise _invalid("there is nothing to write")
    return replace(transformed, out_schema=schema, attributes=msgspec.json.encode(members))


def _make_user(sink: UserSink, connection: Connection, transformed: TransformedUser) -> UserWrite:
    """Return the user to write."""
    attributes = Codec(all_optional(transformed.out_schema)).decode(transformed.attributes, trusted=True)
    if not attributes:
        raise _invalid("the transformation returns nothing to write")
    limit = sink.write_limits.max_event_bytes
    if limit is not None and len(transformed.attributes) > limit:
        raise _invalid(f"it is larger than {limit} bytes")
    return UserWrite(id=transformed.user_id, attributes=attributes, key=make_key(connection.id, transformed))


def make_key(connection: int, transformed: TransformedUser) -> str:
    """Return the idempotency key that is shown. It has the form of those of exports."""
    name = f"{connection}:{transformed.user_id}:".encode()
    return blake2b(name + transformed.attributes, digest_size=16).hexdigest()


def _invalid(reason: str) -> Unprocessable:
    return Unprocessable("InvalidUser", f"user is not valid: {reason}", field="user")


def _check_aligned(used: Schema, offered: Schema, mode: ExportMode) -> None:
    difference = misalignment(used, offered, mode)
    if difference is not None:
        raise Unprocessable(
            "SchemaNotAligned",
            f"outSchema does not fit the application's users: {difference.cause}",
            field="outSchema",
        )


def _make_trial(request: UserPreviewRequest, profile_schema: Schema | None) -> Trial:
    """Return the trial of the transformation, after the checks of the request. Raises BadRequest."""
    if request.user is None:
        raise BadRequest("user is required", field="user")
    if len(request.user) > MAX_ATTRIBUTES_BYTES:
        raise BadRequest(f"user must have at most {MAX_ATTRIBUTES_BYTES} bytes", field="user")
    if len(request.user_id) > MAX_USER_ID_CHARACTERS:
        raise BadRequest(f"userId must have at most {MAX_USER_ID_CHARACTERS} characters", field="userId")
    if profile_schema is None:
        raise BadRequest("the profiles of the workspace have no properties", field="user")
    try:
        Codec(profile_schema).decode(request.user)
    except InvalidValue as error:
        raise BadRequest(f"user is not valid: {error.message}", field=f"user.{error.path}".rstrip(".")) from error
    return Trial(
        data=request.user,
        in_schema=profile_schema,
        out_schema=request.out_schema,
        transformation=_with_paths(request, profile_schema),
        purpose="Update" if request.user_id else "Create",
    )


def _with_paths(request: UserPreviewRequest, profile_schema: Schema) -> TransformationDefinition | None:
    """Return the transformation. A function without paths receives the whole user, and may return the whole schema."""
    given, where = request.transformation, "transformation.function"
    if given is not None and given.mapping is not None and not given.mapping:
        raise BadRequest("transformation.mapping must not be empty", field="transformation.mapping")
    if given is None or given.function is None or request.out_schema is None:
        return given
    function = given.function
    if not function.source:
        raise BadRequest(f"{where}.source is required", field=f"{where}.source")
    if len(function.source) > MAX_SOURCE_LENGTH:
        raise BadRequest(f"{where}.source is longer than {MAX_SOURCE_LENGTH} characters", field=f"{where}.source")
    if function.language not in LANGUAGES:
        raise BadRequest(f"{where}.language must be {' or '.join(LANGUAGES)}", field=f"{where}.language")
    names = [each.name for each in request.out_schema]
    matched = None if request.matching is None else request.matching.output
    return replace(
        given,
        function=replace(
            function,
            in_paths=function.in_paths or tuple(each.name for each in profile_schema),
            out_paths=function.out_paths or tuple(name for name in names if name != matched),
        ),
    )


def _transformed(request: UserPreviewRequest, trial: Trial, attributes: bytes) -> TransformedUser:
    assert request.out_schema is not None, "it is checked before"
    if request.matching is not None:
        attributes = _add_matching(request.matching, request.out_schema, trial, attributes)
    return TransformedUser(
        user_id=request.user_id,
        out_schema=request.out_schema,
        attributes=attributes,
        matching=None if request.matching is None else request.matching.output,
    )


def _add_matching(matching: Matching, out_schema: Schema, trial: Trial, attributes: bytes) -> bytes:
    """Add the property by which an export finds the user, as it does: to a new user, and to an update that requires
    it. Raises BadRequest, and Unprocessable with InvalidUser if the user has no value."""
    assert trial.in_schema is not None, "it is checked before"
    _find_property(trial.in_schema, matching.input, "matching.in")
    added = _find_property(out_schema, matching.output, "matching.out")
    if trial.purpose == "Update" and not added.update_required:
        return attributes
    if value_at(Codec(trial.in_schema).decode(trial.data), parse_path(matching.input)) in (None, MISSING):
        raise _invalid(f"property «{matching.input}» finds users, and has no value")
    copying = TransformationDefinition(mapping={matching.output: matching.input})
    chosen = select(all_optional(out_schema), [matching.output])
    value = begin_trial(replace(trial, transformation=copying, out_schema=chosen), owner="")
    assert isinstance(value, bytes), "it is a mapping"
    return _merged(attributes, value)


def _find_property(schema: Schema, path: str, member: str) -> Property:
    try:
        return property_at(schema, path)
    except (InvalidPath, PropertyNotFound) as error:
        raise BadRequest(f"{member}: {path[:100]!r} {error.rule}", field=member) from error


def _merged(attributes: bytes, added: bytes) -> bytes:
    """Return a JSON object with the members of both, also in nested objects. Those of `added` take precedence."""
    members = msgspec.json.decode(attributes, type=dict[str, msgspec.Raw])
    for name, value in msgspec.json.decode(added, type=dict[str, msgspec.Raw]).items():
        is_nested = name in members and bytes(value).startswith(b"{")
        members[name] = msgspec.Raw(_merged(bytes(members[name]), bytes(value))) if is_nested else value
    return msgspec.json.encode(members)
