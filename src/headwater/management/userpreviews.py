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
from headwater.catalog import Catalog, Connection, TransformationDefinition
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
from headwater.schemas import Codec, ExportMode, InvalidValue, Schema, all_optional, misalignment
from headwater.state import MAX_ATTRIBUTES_BYTES
from headwater.transforms.functions import LANGUAGES, MAX_SOURCE_LENGTH, Prepared, RunOutput

MAX_USER_ID_CHARACTERS: Final = 1_000
_SEPARATOR: Final = "\n\n"
"""Separates the requests of a write."""


class UserPreviewRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The user and its transformation; an absent member is None or empty. `user` is JSON, with the attributes of a
    profile. `user_id` is the id of the user to update."""

    user: bytes | None
    transformation: TransformationDefinition | None
    out_schema: Schema | None
    user_id: str


class TransformedUser(msgspec.Struct, frozen=True, kw_only=True):
    """The attributes to write, as JSON of `out_schema`, and the id of the user to update; empty to create one."""

    user_id: str
    out_schema: Schema
    attributes: bytes


def begin_user_preview(
    request: UserPreviewRequest, profile_schema: Schema | None, owner: str
) -> TransformedUser | Prepared:
    """Return the result of a mapping, or the prepared program of a function.

    Raises BadRequest for a request that is not valid, and Unprocessable with UnsupportedLanguage or
    TransformationFailed.
    """
    trial = _make_trial(request, profile_schema)
    begun = begin_trial(trial, owner)
    return begun if isinstance(begun, Prepared) else _transformed(request, begun)


def end_user_preview(
    request: UserPreviewRequest, profile_schema: Schema | None, owner: str, ran: RunOutput
) -> TransformedUser:
    """Return what a function returned. Raises Unprocessable with TransformationFailed."""
    return _transformed(request, end_trial(_make_trial(request, profile_schema), owner, ran))


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
                _check_aligned(transformed.out_schema, await sink.writable_schema(), mode)
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
    return replace(
        given,
        function=replace(
            function,
            in_paths=function.in_paths or tuple(each.name for each in profile_schema),
            out_paths=function.out_paths or tuple(each.name for each in request.out_schema),
        ),
    )


def _transformed(request: UserPreviewRequest, attributes: bytes) -> TransformedUser:
    assert request.out_schema is not None, "it is checked before"
    return TransformedUser(user_id=request.user_id, out_schema=request.out_schema, attributes=attributes)
