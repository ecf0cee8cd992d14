"""Looking at files: the first records, the sheets and the full path."""

import gzip
import io
import json
import threading
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import msgspec
import pyarrow
import pytest
import xlsxwriter
from pyarrow import parquet

from headwater.base.errors import HeadwaterError, Unavailable
from headwater.catalog import Catalog
from headwater.connectors.environment import ConnectorEnvironment
from headwater.connectors.formats.excel import ExcelFormat
from headwater.management import files
from headwater.management.blocking import BlockingCalls
from headwater.management.connections import CreateConnection, create_connection
from headwater.management.files import FileRecords, FileRequest, FileViewer
from headwater.schemas import serialise
from tests.harness import MovableClock, add_workspace

CSV = '{"separator": ",", "hasColumnNames": true}'
TEXT = b"id,first name\n1,Ada\n2,Grace\n3,Joan\n"
REQUEST = FileRequest(path="users.csv", format="csv", format_settings=CSV)


class Files:
    """A folder of files of a workspace, and what looks at it."""

    def __init__(self, catalog: Catalog, workspace: int, root: Path) -> None:
        self.catalog = catalog
        self.workspace = workspace
        self.folder = root / str(workspace)
        self.folder.mkdir()
        self.clock = MovableClock()
        environment = ConnectorEnvironment(filesystem_root=root)
        self.viewer = FileViewer(catalog, environment, BlockingCalls(), self.clock)

    async def connect(self, role: str = "Source", connector: str = "filesystem", **settings: Any) -> int:
        request = CreateConnection(name="a", role=role, connector=connector, settings=settings)
        return (await create_connection(self.catalog, self.workspace, request)).id

    async def records(self, request: FileRequest = REQUEST, /, **changes: Any) -> FileRecords:
        request = msgspec.structs.replace(request, **changes)
        return await self.viewer.records(self.workspace, await self.connect(), request)


@pytest.fixture
def folder(catalog: Catalog, workspace: int, tmp_path: Path) -> Files:
    made = Files(catalog, workspace, tmp_path)
    (made.folder / "users.csv").write_bytes(TEXT)
    return made


def workbook(*sheets: str) -> bytes:
    content = io.BytesIO()
    with xlsxwriter.Workbook(content) as book:
        for sheet in sheets:
            book.add_worksheet(sheet).write_row(0, 0, ["id", "name"])
            book.get_worksheet_by_name(sheet).write_row(1, 0, [1, "Ada"])
        if not sheets:
            book.add_worksheet("Empty")
    return content.getvalue()


def loads(found: FileRecords) -> list[Any]:
    return [json.loads(record) for record in found.records]


async def test_the_default_is_the_schema_alone(folder: Files) -> None:
    found = await folder.records()
    assert (found.records, found.issues) == ((), ())
    assert found.schema is not None
    properties = json.loads(serialise(found.schema))["properties"]
    assert [property["name"] for property in properties] == ["id", "first_name"]
    assert properties[1]["description"] == "first name"


@pytest.mark.parametrize(("limit", "count"), [(1, 1), (3, 3), (100, 3)])
async def test_the_first_records(folder: Files, limit: int, count: int) -> None:
    names = ["Ada", "Grace", "Joan"]
    expected = [{"id": str(number), "first_name": name} for number, name in enumerate(names, start=1)]
    assert loads(await folder.records(limit=limit)) == expected[:count]


async def test_compressed_files(folder: Files) -> None:
    (folder.folder / "users.csv.gz").write_bytes(gzip.compress(TEXT))
    with zipfile.ZipFile(folder.folder / "users.zip", "w") as archive:
        archive.writestr("users.csv", TEXT)
    for path, compression in (("users.csv.gz", "Gzip"), ("users.zip", "Zip")):
        found = await folder.records(path=path, compression=compression, limit=1)
        assert loads(found) == [{"id": "1", "first_name": "Ada"}]


async def test_every_digit_is_kept(folder: Files) -> None:
    (folder.folder / "a.json").write_bytes(b'[{"id": 12345678901234567890.123456789, "x": {"b": [1.10]}}, {"x": null}]')
    settings = '{"properties": [{"key": "id", "value": "f"}, {"key": "x", "value": "t"}]}'
    found = await folder.records(path="a.json", format="json", format_settings=settings, limit=10)
    assert found.records == (b'{"id":12345678901234567890.123456789,"x":{"b":[1.10]}}', b'{"x":null}')


async def test_a_workbook_has_sheets(folder: Files) -> None:
    (folder.folder / "a.xlsx").write_bytes(workbook("Users", "Others"))
    request = FileRequest(path="a.xlsx", format="excel", format_settings='{"hasColumnNames": true}')
    id_ = await folder.connect()
    assert await folder.viewer.sheets(folder.workspace, id_, request) == ("Users", "Others")
    found = await folder.records(request, sheet="Others", limit=5)
    assert loads(found) == [{"id": "1", "name": "Ada"}]


async def test_rows_that_cannot_be_read_are_issues(folder: Files) -> None:
    (folder.folder / "a.json").write_bytes(b'[{"id": 1}, {"other": 2}, {"id": 3}]')
    settings = '{"properties": [{"key": "id", "value": "t"}]}'
    found = await folder.records(path="a.json", format="json", format_settings=settings, limit=10)
    assert loads(found) == [{"id": 1}, {"id": 3}]
    [issue] = found.issues
    assert issue.startswith("row 2: ")


async def test_a_missing_file_names_the_folder_without_its_root(folder: Files) -> None:
    with pytest.raises(Unavailable) as raised:
        await folder.records(path="missing.csv")
    assert f"HEADWATER_FILESYSTEM_ROOT/{folder.folder.name}, the folder" in raised.value.message
    assert str(folder.folder.parent) not in raised.value.message


async def test_the_separator_of_csv_is_a_comma_by_default(folder: Files) -> None:
    found = await folder.records(format_settings='{"hasColumnNames": true}', limit=1)
    assert [property_.name for property_ in found.schema or ()] == ["id", "first_name"]


async def test_columns_that_cannot_be_read_are_issues_that_name_them(folder: Files) -> None:
    table = pyarrow.table({"id": [1], "a.b": [1], "names": [["Ada"]]})
    parquet.write_table(table, folder.folder / "a.parquet")
    found = await folder.records(path="a.parquet", format="parquet", format_settings=None, limit=1)
    assert loads(found) == [{"id": "1"}]
    assert [issue.split(":")[0] for issue in found.issues] == ['column "a.b"', 'column "names"']


async def test_an_archive_without_files_is_explained(folder: Files) -> None:
    with zipfile.ZipFile(folder.folder / "a.zip", "w"):
        pass
    with pytest.raises(Unavailable, match="the Zip archive has no file"):
        await folder.records(path="a.zip", compression="Zip")


BROKEN: list[tuple[str, dict[str, Any], tuple[int, str, str | None]]] = [
    ("no path", {"path": ""}, (400, "BadRequest", "path")),
    ("a long path", {"path": "x" * 1_025}, (400, "BadRequest", "path")),
    ("a path out of the root", {"path": "../users.csv"}, (422, "InvalidPath", "path")),
    ("a path with an empty name", {"path": "a//users.csv"}, (422, "InvalidPath", "path")),
    ("the path of a folder", {"path": "."}, (422, "InvalidPath", "path")),
    ("a missing file", {"path": "missing.csv"}, (503, "ServiceUnavailable", None)),
    ("no format", {"format": ""}, (400, "BadRequest", "format")),
    ("an unknown format", {"format": "xml"}, (422, "FormatNotExist", "format")),
    ("another connector", {"format": "s3"}, (400, "BadRequest", "format")),
    ("an unknown compression", {"compression": "gzip"}, (400, "BadRequest", "compression")),
    ("a negative limit", {"limit": -1}, (400, "BadRequest", "limit")),
    ("a large limit", {"limit": 101}, (400, "BadRequest", "limit")),
    ("a sheet of a format without sheets", {"sheet": "A"}, (400, "BadRequest", "sheet")),
    ("an empty sheet of a format without sheets", {"sheet": ""}, (400, "BadRequest", "sheet")),
    ("no settings", {"format_settings": None}, (400, "BadRequest", "formatSettings")),
    ("settings that are not JSON", {"format_settings": "{"}, (400, "BadRequest", "formatSettings")),
    ("settings that are nested", {"format_settings": "[" * 100_000}, (400, "BadRequest", "formatSettings")),
    ("settings that are a list", {"format_settings": "[]"}, (400, "BadRequest", "formatSettings")),
    (
        "wrong settings",
        {"format_settings": '{"separator": ";;"}'},
        (422, "InvalidSettings", "formatSettings.separator"),
    ),
    ("a compression that the file does not have", {"compression": "Gzip"}, (503, "ServiceUnavailable", None)),
    ("an empty file", {"path": "empty.csv"}, (422, "NoColumnsFound", "path")),
    ("a damaged file", {"path": "damaged.csv"}, (503, "ServiceUnavailable", None)),
    (
        "settings of a format without settings",
        {"path": "a.parquet", "format": "parquet", "format_settings": "{}"},
        (400, "BadRequest", "formatSettings"),
    ),
    (
        "no sheet",
        {"path": "a.xlsx", "format": "excel", "format_settings": "{}"},
        (400, "BadRequest", "sheet"),
    ),
    (
        "a missing sheet",
        {"path": "a.xlsx", "format": "excel", "format_settings": "{}", "sheet": "Nobody"},
        (422, "SheetNotExist", "sheet"),
    ),
    (
        "an empty sheet",
        {"path": "empty.xlsx", "format": "excel", "format_settings": "{}", "sheet": "Empty"},
        (422, "NoColumnsFound", "path"),
    ),
]


@pytest.mark.parametrize(("changes", "error"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
async def test_broken_requests(folder: Files, changes: dict[str, Any], error: tuple[int, str, str | None]) -> None:
    (folder.folder / "empty.csv").write_bytes(b"")
    (folder.folder / "damaged.csv").write_bytes(b'id,name\n1,"open')
    (folder.folder / "a.xlsx").write_bytes(workbook("Users"))
    (folder.folder / "empty.xlsx").write_bytes(workbook())
    with pytest.raises(HeadwaterError) as caught:
        await folder.records(limit=changes.pop("limit", 10), **changes)
    assert (caught.value.status, caught.value.code, caught.value.field) == error


async def test_sheets_are_for_formats_that_have_them(folder: Files) -> None:
    id_ = await folder.connect()
    with pytest.raises(HeadwaterError) as caught:
        await folder.viewer.sheets(folder.workspace, id_, REQUEST)
    assert (caught.value.status, caught.value.field) == (400, "format")


async def test_other_connections_are_refused(folder: Files) -> None:
    dummy = await folder.connect(connector="dummy")
    post = await folder.connect("Destination", "http-post", host="h", port=80)
    for id_ in (dummy, post):
        with pytest.raises(HeadwaterError) as caught:
            await folder.viewer.records(folder.workspace, id_, REQUEST)
        assert (caught.value.status, caught.value.field) == (400, "id")
    with pytest.raises(HeadwaterError) as caught:
        await folder.viewer.absolute_path(folder.workspace, dummy, "a.csv")
    assert (caught.value.status, caught.value.field) == (400, "id")
    with pytest.raises(HeadwaterError) as caught:
        await folder.viewer.records(folder.workspace, 1, REQUEST)
    assert caught.value.status == 404


async def test_a_workspace_does_not_reach_the_files_of_another(folder: Files, catalog: Catalog) -> None:
    other = await add_workspace(catalog, "Other")
    request = CreateConnection(name="a", role="Source", connector="filesystem", settings={})
    id_ = (await create_connection(catalog, other.id, request)).id
    for path in ("users.csv", f"{folder.workspace}/users.csv", f"../{folder.workspace}/users.csv"):
        with pytest.raises(HeadwaterError):
            await folder.viewer.records(other.id, id_, msgspec.structs.replace(REQUEST, path=path))


@pytest.mark.parametrize(
    ("role", "path", "expected"),
    [
        ("Source", "f.csv", "f.csv"),
        ("Source", "/dir/f.csv", "dir/f.csv"),
        ("Destination", "f-${today}.csv", "f-2026-11-22.csv"),
        ("Destination", "${ Unix }/f.csv", "1795348810/f.csv"),
        ("Source", "f-${today}.csv", "InvalidPlaceholder"),
        ("Source", "f-${x}.csv", "InvalidPlaceholder"),
        ("Destination", "f-${x}.csv", "InvalidPlaceholder"),
        ("Destination", "f-${today.csv", "InvalidPlaceholder"),
        ("Source", "../f.csv", "InvalidPath"),
        ("Destination", "a//b", "InvalidPath"),
        ("Destination", "a\0b", "InvalidPath"),
        ("Source", "", "BadRequest"),
        ("Source", "x" * 1_025, "BadRequest"),
    ],
)
async def test_absolute_paths(folder: Files, role: str, path: str, expected: str) -> None:
    id_ = await folder.connect(role)
    try:
        found = await folder.viewer.absolute_path(folder.workspace, id_, path)
    except HeadwaterError as error:
        assert (error.code, error.field) == (expected, "path")
    else:
        assert found == str(folder.folder / expected)


@pytest.mark.parametrize(
    ("connector", "settings", "path"),
    [
        (
            "s3",
            {"accessKeyID": "A" * 20, "secretAccessKey": "s" * 40, "region": "eu-west-1", "bucket": "bucket"},
            "s3://bucket/dir/f.csv",
        ),
        ("sftp", {"host": "host", "port": 22, "username": "u", "password": "p"}, "sftp://host:22/dir/f.csv"),
        ("http-get", {"host": "host", "port": 443}, "https://host/dir/f.csv"),
    ],
)
async def test_absolute_paths_of_other_storages(
    folder: Files, connector: str, settings: dict[str, Any], path: str
) -> None:
    id_ = await folder.connect("Source", connector, **settings)
    assert await folder.viewer.absolute_path(folder.workspace, id_, "dir/f.csv") == path


async def test_without_a_root_the_error_names_the_setting(folder: Files) -> None:
    viewer = FileViewer(folder.catalog, ConnectorEnvironment(), BlockingCalls(), folder.clock)
    id_ = await folder.connect()
    with pytest.raises(Unavailable, match="HEADWATER_FILESYSTEM_ROOT"):
        await viewer.records(folder.workspace, id_, REQUEST)
    with pytest.raises(Unavailable, match="HEADWATER_FILESYSTEM_ROOT"):
        await viewer.absolute_path(folder.workspace, id_, "a.csv")


async def test_a_limited_part_of_a_file_is_read(folder: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_READ_BYTES", 3_000_000)
    (folder.folder / "large.csv").write_bytes(TEXT + b"4,x\n" * 2_000_000)
    assert len((await folder.records(path="large.csv", limit=100)).records) == 100
    with zipfile.ZipFile(folder.folder / "large.zip", "w") as archive:
        archive.writestr("large.csv", TEXT + bytes(8_000_000))
    with pytest.raises(Unavailable, match="would have to be read"):
        await folder.records(path="large.zip", compression="Zip", limit=100)


async def test_large_records_are_cut_to_fewer(folder: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_RECORD_BYTES", 70)
    found = await folder.records(limit=3)
    assert len(found.records) == 2
    assert found.issues == ("only the first 2 records are returned, because they are large",)


async def test_a_copy_of_a_file_is_read_in_time_too(folder: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compressed workbook is copied to the disk; the texts in it can be a thousand times as large."""
    (folder.folder / "a.xlsx.gz").write_bytes(gzip.compress(workbook("People")))
    request = FileRequest(path="a.xlsx.gz", format="excel", compression="Gzip", format_settings="{}")
    assert await folder.viewer.sheets(folder.workspace, await folder.connect(), request) == ("People",)
    unwatched = ExcelFormat.sheets

    def late(format: ExcelFormat, stream: BinaryIO) -> tuple[str, ...]:
        monkeypatch.setattr(files, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + files.MAX_SECONDS))
        return unwatched(format, stream)

    monkeypatch.setattr(ExcelFormat, "sheets", late)
    with pytest.raises(Unavailable, match="was not read within 25 seconds"):
        await folder.viewer.sheets(folder.workspace, await folder.connect(), request)


async def test_a_file_that_takes_too_long_is_unavailable(folder: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_SECONDS", 0.3)
    id_ = await folder.connect(simulateHighIOLatency=True)
    proceed = threading.Event()
    monkeypatch.setattr("time.sleep", lambda _: proceed.wait(30))
    with pytest.raises(Unavailable, match="did not respond within"):
        await folder.viewer.records(folder.workspace, id_, REQUEST)
    proceed.set()


async def test_no_file_is_left_in_the_temporary_folder(
    folder: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (folder.folder / "a.csv.gz").write_bytes(gzip.compress(workbook("Users")))
    request = FileRequest(path="a.csv.gz", format="excel", format_settings="{}", compression="Gzip", sheet="Users")
    assert len((await folder.records(request, limit=5)).records) == 2
    assert list((tmp_path / "tmp").iterdir()) == []
