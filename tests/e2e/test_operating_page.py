"""docs/operating.md is correct about keys, and about clients and clocks that differ: its commands run, and a running
system responds as it states."""

import datetime
import os
import re
import subprocess
import sys
import textwrap
import uuid
from pathlib import Path
from typing import Any, Final

import grpc
import pytest

from headwater.base.clock import SystemClock
from headwater.base.encryption import Keyring
from headwater.base.identifiers import Identifiers
from headwater.catalog import open_catalog
from headwater.connectors.dummy.settings import DummySettings
from headwater.management.bootstrap import bootstrap
from headwater.management.connections import CreateConnection, create_connection
from headwater.storage.database import sqlite_url
from headwater.v1.connections_pb2 import CreateConnectionRequest, CreateConnectionResponse
from tests.e2e.source import Source, get, make_source, post
from tests.system import HTTP, RunningSystem

PAGE: Final = (Path(__file__).parents[2] / "docs" / "operating.md").read_text()
OLD_SECRET: Final = "the secret key of the year before"
UNKNOWN_FIELD: Final = b"\x82\xfa\x01\x03abc"
"""Field 4000 of a message, with a text."""


@pytest.fixture(scope="module")
def source(system: RunningSystem) -> Source:
    return make_source(system)


def commands(heading: str) -> list[str]:
    """Return the blocks with commands of a section."""
    section = re.split(r"^#{2,3} ", PAGE.split(f"\n### {heading}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    return [textwrap.dedent(block) for block in re.findall(r"```sh\n(.*?)```", section, re.DOTALL)]


def run(lines: str, **variables: str) -> str:
    """Run commands in a shell, in which `headwater` is the command line of these tests. Return the output."""
    script = f'set -eu\nheadwater() {{ "{sys.executable}" -m headwater.cli "$@"; }}\n{lines}'
    environ = {name: value for name, value in os.environ.items() if not name.startswith("HEADWATER_")}
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, timeout=100, env={**environ, **variables}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def status_of_key(system: RunningSystem, key: str) -> int:
    headers = {"Authorization": f"Bearer {key}"}
    return HTTP.get(f"{system.base_url}/v1/connections", headers=headers).status_code


def test_an_api_key_is_replaced(system: RunningSystem) -> None:
    old = post(system, "/v1/keys", {"name": "CI", "access": "Full", "workspace": workspace(system)})
    (block,) = commands("API keys")
    variables = {"HEADWATER_URL": system.base_url, "HEADWATER_API_KEY": system.api_key, "OLD_KEY_ID": str(old["id"])}
    new = run(f'{block}\necho "$NEW_KEY"', **variables).splitlines()[-1]
    assert (status_of_key(system, new), status_of_key(system, old["token"])) == (200, 401)


def workspace(system: RunningSystem) -> int:
    found: int = get(system, "/v1/workspaces/current")["id"]
    return found


def test_an_event_write_key_is_replaced(system: RunningSystem) -> None:
    source = make_source(system)
    (block,) = commands("Event write keys")
    variables = {
        "HEADWATER_URL": system.base_url,
        "HEADWATER_API_KEY": system.api_key,
        "ID": str(source.id),
        "OLD_WRITE_KEY": source.write_key,
    }
    new = run(f'{block}\necho "$NEW_WRITE_KEY"', **variables).splitlines()[-1]
    event = {"userId": "ada", "event": "Ordered"}
    found = [
        HTTP.post(f"{system.base_url}/v1/track", json=event, auth=(key, ""), headers={"X-Strict-Mode": "1"}).status_code
        for key in (new, source.write_key)
    ]
    assert found == [200, 401]


async def test_the_secret_key_is_replaced(tmp_path: Path) -> None:
    url, clock = sqlite_url(tmp_path / "catalog.db"), SystemClock()
    (tmp_path / "secret-key").write_text(OLD_SECRET)
    async with open_catalog(url, clock=clock, identifiers=Identifiers(), keyring=Keyring(OLD_SECRET)) as catalog:
        await bootstrap(catalog)
        request = CreateConnection(name="x", role="Source", connector="dummy", settings={"operationDelay": "5ms"})
        await create_connection(catalog, catalog.workspaces()[0].id, request)
    lines = "\n".join(commands("The secret key"))
    run(lines, HEADWATER_DATA_DIR=str(tmp_path), HEADWATER_SECRET_KEY=OLD_SECRET)
    present = (tmp_path / "secret-key").read_text().strip()
    assert re.fullmatch(r"[0-9a-f]{64}", present)
    async with open_catalog(url, clock=clock, identifiers=Identifiers(), keyring=Keyring(present)) as catalog:
        (connection,) = catalog.connections(catalog.workspaces()[0].id)
        assert catalog.decrypt_settings(connection) == DummySettings(operation_delay="5ms")


REST: Final[list[tuple[str, str, Any, int, str]]] = [
    ("POST", "/v1/connections", {"role": "Source", "connector": "http", "later": 1}, 200, '"id":'),
    (
        "GET",
        "/v1/connections?colour=red",
        None,
        400,
        "there is no query parameter 'colour': there are limit, pageToken",
    ),
    ("POST", "/v1/connections", {"role": "Both", "connector": "http"}, 400, "role is none of Source, Destination"),
    (
        "POST",
        "/v1/connections",
        {"role": "Source", "connector": "teleport"},
        422,
        'connector "teleport" does not exist',
    ),
    ("GET", "/v1/teleports", None, 404, "there is no such path, or it does not take this method"),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "message"), REST)
def test_rest_clients_of_another_version(
    system: RunningSystem, method: str, path: str, body: Any, status: int, message: str
) -> None:
    headers = {"Authorization": f"Bearer {system.api_key}"}
    given = None if body is None else {"name": "Shop", **body}
    response = HTTP.request(method, f"{system.base_url}{path}", json=given, headers=headers)
    text = response.text.replace('\\"', '"')
    assert (response.status_code, message in text) == (status, True), text
    assert status == 200 or f"`{message}`" in PAGE


def test_grpc_clients_of_another_version(system: RunningSystem) -> None:
    metadata = (("authorization", f"Bearer {system.api_key}"),)
    known = CreateConnectionRequest(name="Shop", role="Source", connector="http").SerializeToString()
    wrong = CreateConnectionRequest(name="Shop", role="Both", connector="http").SerializeToString()
    with grpc.insecure_channel(f"127.0.0.1:{system.port}") as channel:

        def call(method: str, request: bytes) -> bytes:
            name = f"/headwater.v1.ConnectionService/{method}"
            return channel.unary_unary(name, bytes, bytes)(request, metadata=metadata, timeout=20)

        assert CreateConnectionResponse.FromString(call("CreateConnection", known + UNKNOWN_FIELD)).id
        for method, request, code, details in (
            ("CreateConnection", wrong, grpc.StatusCode.INVALID_ARGUMENT, "role is none of Source, Destination"),
            ("MergeConnections", known, grpc.StatusCode.UNIMPLEMENTED, "Method not found!"),
            ("ListConnectionsJson", b"", grpc.StatusCode.UNIMPLEMENTED, "Method not found!"),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                call(method, request)
            assert (caught.value.code(), caught.value.details()) == (code, details)
            assert f"{code.name}, `{details}`" in PAGE


@pytest.mark.parametrize("hours", [1, -1])
def test_the_clock_of_a_client_is_an_hour_off(source: Source, hours: int) -> None:
    off = datetime.timedelta(hours=hours)
    now = datetime.datetime.now(datetime.UTC)
    happened = now + off - datetime.timedelta(seconds=30)
    names = [str(uuid.uuid4()) for _ in range(2)]
    event = {"type": "track", "userId": "u", "event": "E", "timestamp": happened.isoformat(), "later": 1}
    for name, sent in zip(names, ({"sentAt": (now + off).isoformat()}, {}), strict=True):
        response = source.send("batch", {"batch": [{**event, "messageId": name}], **sent})
        assert response.status_code == 200
    found = {each["messageId"]: each for each in source.wait_for(2 if hours == 1 else 4)}
    corrected, kept = (parse(found[name]["timestamp"]) for name in names)
    assert abs((corrected - (happened - off)).total_seconds()) < 20
    assert kept == happened
    assert [parse(found[name]["originalTimestamp"]) for name in names] == [happened, happened]
    assert [found[name]["later"] for name in names] == [1, 1]


def parse(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text)
