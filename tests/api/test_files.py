"""Files over REST and gRPC: the same records, sheets and paths, and the documented errors."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from grpc import aio

from headwater.api import ERROR_BODIES, LENIENT_SERVICES, ErrorInterceptor, register
from headwater.connectors.environment import ConnectorEnvironment
from headwater.rest.v1 import files_pb2 as rest_pb
from headwater.v1 import connections_pb2
from headwater.v1 import files_pb2 as pb
from tests.api.conftest import Api, CallError, services
from tests.harness import Harness

RECORDS, RECORDS_JSON = "FileService/ListFileRecords", "rest.FileService/ListFileRecords"
CSV = '{"separator": ",", "hasColumnNames": true}'


@pytest.fixture
async def files(harness: Harness, tmp_path: Path) -> AsyncIterator[Api]:
    """A server whose connections reach files in "files"."""
    root = tmp_path / "files"
    (root / str(harness.workspace)).mkdir(parents=True)
    (root / str(harness.workspace) / "a.csv").write_bytes(b"id,first name\n1,Ada\n2,Grace\n")
    server = aio.server(interceptors=[ErrorInterceptor(ERROR_BODIES, lenient=LENIENT_SERVICES)])
    register(server, replace(services(harness), environment=ConnectorEnvironment(filesystem_root=root)))
    address = f"unix:{harness.folder}/files.sock"
    server.add_insecure_port(address)
    await server.start()
    async with aio.insecure_channel(address) as channel:
        yield Api(harness, channel)
    await server.stop(None)


async def create(api: Api) -> Any:
    """Return the id of a new connection, or the error."""
    request = connections_pb2.CreateConnectionRequest(name="Files", role="Source", connector="filesystem")
    request.settings.update({"simulateHighIOLatency": False})
    made = await api.call("ConnectionService/CreateConnection", request)
    return made if isinstance(made, CallError) else made.id


async def test_records_are_equal_over_rest_and_grpc(files: Api) -> None:
    id_ = await create(files)
    raw = await files.call(
        RECORDS_JSON,
        rest_pb.ListFileRecordsRequest(id=id_, path="a.csv", format="csv", format_settings=CSV, limit=10),
    )
    assert raw.content_type == "application/json"
    body = json.loads(raw.data)
    assert body["records"] == [{"id": "1", "first_name": "Ada"}, {"id": "2", "first_name": "Grace"}]
    assert (body["schema"]["kind"], body["issues"]) == ("object", None)
    response = await files.call(
        RECORDS, pb.ListFileRecordsRequest(id=id_, path="a.csv", format="csv", format_settings=CSV, limit=10)
    )
    assert [json.loads(record) for record in response.records_json] == body["records"]
    names = [property["name"] for property in json_format.MessageToDict(response.schema)["properties"]]
    assert names == [property["name"] for property in body["schema"]["properties"]] == ["id", "first_name"]
    assert list(response.issues) == []


async def test_the_default_limit_returns_no_records(files: Api) -> None:
    id_ = await create(files)
    raw = await files.call(
        RECORDS_JSON, rest_pb.ListFileRecordsRequest(id=id_, path="a.csv", format="csv", format_settings=CSV)
    )
    assert json.loads(raw.data)["records"] == []


@pytest.mark.parametrize(
    ("values", "reason", "field"),
    [
        ({"format": "xml"}, "FormatNotExist", "format"),
        ({"format_settings": '{"separator": ";;"}'}, "InvalidSettings", "formatSettings.separator"),
        ({"limit": 101}, "BadRequest", "limit"),
        ({"sheet": ""}, "BadRequest", "sheet"),
        ({"path": "../a.csv"}, "InvalidPath", "path"),
        ({"path": "missing.csv"}, "ServiceUnavailable", ""),
    ],
)
async def test_errors_of_records(files: Api, values: dict[str, Any], reason: str, field: str) -> None:
    given: dict[str, Any] = {
        "id": await create(files),
        "path": "a.csv",
        "format": "csv",
        "format_settings": CSV,
        **values,
    }
    for method, message in ((RECORDS_JSON, rest_pb.ListFileRecordsRequest), (RECORDS, pb.ListFileRecordsRequest)):
        failed = await files.call(method, message(**given))
        assert (failed.reason, dict(failed.metadata).get("field", "")) == (reason, field)


async def test_sheets_and_paths(files: Api) -> None:
    id_ = await create(files)
    failed = await files.call(
        "FileService/ListFileSheets",
        pb.ListFileSheetsRequest(id=id_, path="a.csv", format="csv", format_settings=CSV),
    )
    assert (failed.reason, dict(failed.metadata)["field"]) == ("BadRequest", "format")
    found = await files.call("FileService/GetAbsolutePath", pb.GetAbsolutePathRequest(id=id_, path="a.csv"))
    assert found.path.endswith(f"/files/{files.harness.workspace}/a.csv")
    failed = await files.call("FileService/GetAbsolutePath", pb.GetAbsolutePathRequest(id=id_, path="../a.csv"))
    assert failed.reason == "InvalidPath"
    failed = await files.call("FileService/GetAbsolutePath", pb.GetAbsolutePathRequest(id=id_, path="${today}"))
    assert failed.reason == "InvalidPlaceholder"


async def test_without_a_root_no_connection_is_created(api: Api) -> None:
    failed = await create(api)
    assert isinstance(failed, CallError)
    assert (failed.reason, dict(failed.metadata)["field"]) == ("ConnectorNotAvailable", "connector")
    assert "HEADWATER_FILESYSTEM_ROOT" in failed.message
