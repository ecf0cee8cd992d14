"""The keys that may call, and the workspace of a call."""

from typing import Any

import pytest

from headwater.catalog import ApiKey, api_key_digest
from headwater.v1 import connections_pb2 as pb
from headwater.v1 import system_pb2
from tests.api.conftest import RESTRICTED, UNRESTRICTED, Api, CallError
from tests.harness import add_source, add_workspace, open_harness

LIST = "ConnectionService/ListConnections"


def workspace(id_: object) -> tuple[str, str]:
    return ("headwater-workspace", str(id_))


async def names(api: Api, *metadata: tuple[str, str], key: str | None = None) -> Any:
    """List connections; return their number, or the error."""
    response = await api.call(LIST, pb.ListConnectionsRequest(), *metadata, key=key)
    return response if isinstance(response, CallError) else len(response.connections)


@pytest.mark.parametrize(
    ("headers", "status", "reason", "message"),
    [
        ([], "UNAUTHENTICATED", "Unauthorized", "the Authorization header with the API key is missing"),
        ([""], "UNAUTHENTICATED", "Unauthorized", "the Authorization header with the API key is missing"),
        (["Bearer api_unknown-unknown-unknown"], "UNAUTHENTICATED", "Unauthorized", "the API key is not known"),
        (["Bearer api_"], "UNAUTHENTICATED", "Unauthorized", "the API key is not known"),
        (["Bearer"], "INVALID_ARGUMENT", "BadRequest", "the Authorization header must be 'Bearer' and an API key"),
        (
            ["Basic YXBpXzo="],
            "INVALID_ARGUMENT",
            "BadRequest",
            "the Authorization header must be 'Bearer' and an API key",
        ),
        ([RESTRICTED], "INVALID_ARGUMENT", "BadRequest", "the Authorization header must be 'Bearer' and an API key"),
        (["Bearer mcp_something"], "INVALID_ARGUMENT", "BadRequest", "an API key starts with api_"),
        (["Bearer " + RESTRICTED.upper()], "INVALID_ARGUMENT", "BadRequest", "an API key starts with api_"),
        (["Bearer a", "Bearer b"], "INVALID_ARGUMENT", "BadRequest", "the authorization header is repeated"),
    ],
    ids=str,
)
async def test_a_call_needs_an_api_key(api: Api, headers: list[str], status: str, reason: str, message: str) -> None:
    failed = await names(api, *(("authorization", header) for header in headers))
    assert (failed.status, failed.reason, failed.message) == (status, reason, message)
    assert failed.metadata == (() if status == "UNAUTHENTICATED" else (("field", "authorization"),))


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER   "])
async def test_the_scheme_may_be_written_in_any_case(api: Api, scheme: str) -> None:
    assert await names(api, ("authorization", scheme + RESTRICTED)) == 0


async def test_a_write_key_is_not_an_api_key(api: Api) -> None:
    source = await add_source(api.harness.catalog, api.harness.workspace)
    assert (await names(api, key=source.event_write_keys[0])).reason == "BadRequest"


async def test_a_key_opens_its_workspace(api: Api) -> None:
    other = await add_workspace(api.harness.catalog)
    await add_source(api.harness.catalog, other.id)
    own = api.harness.workspace
    missing = CallError(
        "PERMISSION_DENIED",
        "this API key opens several workspaces: name one in the Headwater-Workspace header",
        "Forbidden",
    )
    for key, id_, expected in (
        (RESTRICTED, None, 0),
        (RESTRICTED, own, 0),
        (RESTRICTED, other.id, _unknown(other.id)),
        (RESTRICTED, 1, _unknown(1)),
        (UNRESTRICTED, None, missing),
        (UNRESTRICTED, own, 0),
        (UNRESTRICTED, other.id, 1),
        (UNRESTRICTED, 1, _unknown(1)),
    ):
        response = await names(api, *([] if id_ is None else [workspace(id_)]), key=key)
        if isinstance(response, CallError) and isinstance(expected, CallError):
            assert (response.status, response.message, response.reason) == (
                expected.status,
                expected.message,
                expected.reason,
            )
        else:
            assert response == expected


def _unknown(id_: int) -> CallError:
    return CallError("NOT_FOUND", f"workspace {id_} does not exist", "NotFound")


@pytest.mark.parametrize("header", ["", "0", "-1", "+1", "01", "1.0", "x", "2147483648", "99999999999999999999"])
@pytest.mark.parametrize("key", [RESTRICTED, UNRESTRICTED])
async def test_the_header_names_a_workspace_by_its_identifier(api: Api, key: str, header: str) -> None:
    failed = await names(api, workspace(header), key=key)
    assert (failed.reason, failed.metadata) == ("BadRequest", (("field", "headwater-workspace"),))


async def test_the_workspace_is_stated_once(api: Api) -> None:
    failed = await names(api, workspace(api.harness.workspace), workspace(api.harness.workspace), key=UNRESTRICTED)
    assert (failed.reason, failed.message) == ("BadRequest", "the headwater-workspace header is repeated")


async def test_a_key_of_another_process_is_known_immediately(api: Api) -> None:
    async with (
        open_harness(api.harness.folder, database_url=api.harness.database_url) as other,
        other.catalog.change() as change,
    ):
        change.add_api_key(
            ApiKey(
                id=change.new_id(),
                workspace=api.harness.workspace,
                name="CI",
                digest=api_key_digest("api_new"),
                hint="",
                created_at=change.now,
            )
        )
    assert await names(api, key="api_new") == 0


async def test_health_needs_no_key(api: Api) -> None:
    assert (await api.call("SystemService/GetHealth", system_pb2.GetHealthRequest(), key=None)).status == "ok"
