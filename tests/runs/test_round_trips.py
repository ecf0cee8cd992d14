"""An export of profiles and an import of its file give the same users, for every format, compression and storage."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from headwater.catalog import TransformationDefinition
from headwater.connectors.addresses import ANY_ADDRESS
from headwater.connectors.connector import Connector
from headwater.connectors.contract import ConnectorContext, Engine, Factory, FileStorage
from headwater.connectors.environment import ConnectorEnvironment
from headwater.connectors.registry import CONNECTORS
from headwater.runs.capabilities import make_format, open_capability
from headwater.runs.compression import Compression
from headwater.runs.files import open_file
from headwater.runs.importing import execute_import
from headwater.schemas import (
    ArrayType,
    BooleanType,
    DateTimeType,
    DateType,
    DecimalType,
    FloatType,
    IntType,
    IpType,
    JsonType,
    ObjectType,
    Property,
    Schema,
    StringType,
    Type,
    UuidType,
    YearType,
)
from tests.connectors.reference.files import MemoryStorage
from tests.runs.exporting.installation import Installation, connector, counts, open_installation

FORMATS: Final = ("csv", "excel", "json", "parquet")
COMPRESSIONS: Final[tuple[Compression, ...]] = ("", "Zip", "Gzip", "Snappy")
STORAGES: Final = ("memory", "filesystem", "s3", "sftp", "http")
TEXTS: Final = ("id", "email", "name")
TYPES: Final[dict[str, Type]] = {
    "id": StringType(),
    "email": StringType(),
    "name": StringType(),
    "age": IntType(32),
    "big": IntType(64),
    "score": FloatType(64),
    "price": DecimalType(12, 2),
    "vip": BooleanType(),
    "seen": DateTimeType(),
    "born": DateType(),
    "since": YearType(),
    "device": UuidType(),
    "address": IpType(),
    "tags": ArrayType(StringType()),
    "extra": JsonType(),
}
PROFILES: Final[Schema] = ObjectType(tuple(Property(name, type_, read_optional=True) for name, type_ in TYPES.items()))
NAMES: Final = (
    "Ada",
    "=1+1",
    'a "quoted", text',
    "two\nlines",
    "\u00e9\N{GRINNING FACE}",
    " ",
    "@x",
    "0012",
    "null",
    "-",
)


def person(number: int) -> dict[str, Any]:
    """Return the attributes of a profile, as the state store has them."""
    return {
        "id": f"u{number:03d}",
        "email": f"user{number}@example.com",
        "name": NAMES[number % len(NAMES)],
        "age": number - 5,
        "big": str(2**53 + number),
        "score": number / 7,
        "price": number + 0.25,
        "vip": number % 2 == 0,
        "seen": f"2026-03-05T10:00:{number % 60:02d}.500Z",
        "born": f"19{number % 90 + 10}-02-03",
        "since": 1990 + number % 30,
        "device": f"6ba7b810-9dad-11d1-80b4-{number:012d}",
        "address": f"10.0.0.{number % 250}",
        "tags": ["a", f"t{number}"],
        "extra": {"n": number, "s": "x"},
    }


async def open_settings(storage: str, folder: Path, exits: AsyncExitStack) -> tuple[Any, Any]:
    """Return the settings to write to and to read from a storage, with a server for it."""
    from headwater.connectors.catalogue import file_storages as catalogue

    if storage == "filesystem":
        return catalogue.FileSystemSettings(), catalogue.FileSystemSettings()
    from tests.connectors.storages import servers, test_http

    (folder / "served").mkdir()
    if storage == "s3":
        (folder / "served" / "bucket").mkdir()
        endpoint = exits.enter_context(servers.s3_server(folder / "served"))
        keys = {"accessKeyID": servers.ACCESS_KEY, "secretAccessKey": servers.SECRET_KEY}
        given = catalogue.S3Settings.read({**keys, "region": "eu-west-1", "bucket": "bucket", "endpoint": endpoint})
        return given, given
    if storage == "sftp":
        path, public = servers.make_host_key(folder)
        port = exits.enter_context(servers.asyncssh_server(folder / "served", path))
        login = {"host": "127.0.0.1", "port": port, "username": servers.USER, "password": servers.PASSWORD}
        login["hostPublicKey"] = f"127.0.0.1 {public}"
        return catalogue.SftpDestinationSettings.read(login), catalogue.SftpSettings.read(login)
    site = test_http.Site()
    exits.callback(site.server_close)
    exits.callback(site.shutdown)
    threading.Thread(target=site.serve_forever, daemon=True).start()
    address = {"host": "127.0.0.1", "port": site.port}
    return catalogue.HttpSettings.read(address), catalogue.HttpSettings.read(address)


def storages(storage: str, settings: tuple[Any, Any]) -> list[Connector]:
    """Return the connectors of a storage, to write and to read, without settings of their connections."""
    codes = {"http": ("http-post", "http-get")}.get(storage, (storage, storage))
    found: list[Connector] = []
    for name, code, given in zip(("out", "in"), codes, settings, strict=True):
        make = CONNECTORS[code].engine.file_storage
        assert make is not None
        found.append(connector(name, "FileStorage", Engine(file_storage=partial(_make, make, given))))
    return found


def _make(make: Factory[FileStorage], given: Any, _settings: None, context: ConnectorContext) -> FileStorage:
    return make(given, context)


@pytest.fixture(params=STORAGES)
async def installation(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Installation]:
    storage: str = request.param
    if storage != "memory" and find_spec("headwater.connectors.storages") is None:
        pytest.skip(f"this version has no storage {storage}")
    async with AsyncExitStack() as exits:
        if storage == "memory":
            memory = MemoryStorage()
            made = [
                connector(name, "FileStorage", Engine(file_storage=lambda settings, context: memory))
                for name in ("out", "in")
            ]
        else:
            made = storages(storage, await open_settings(storage, tmp_path, exits))
        (tmp_path / "files").mkdir()
        yield await exits.enter_async_context(open_installation(tmp_path, None, made, PROFILES))


def settings_of_format(format: str, *, role: str) -> dict[str, Any] | None:
    if format == "csv":
        return {"separator": ","} | ({"hasColumnNames": True} if role == "Source" else {})
    if format == "excel":
        return {"hasColumnNames": True} if role == "Source" else None
    if format == "json":
        return {"properties": [{"key": name, "value": "f"} for name in TYPES]} if role == "Source" else {}
    return None


def expression(name: str, format: str) -> str:
    """Return the expression that reads a property from a column of a file."""
    if format in ("csv", "excel") and name in ("tags", "extra"):
        return f"json_parse({name})"
    return name


@pytest.mark.parametrize("format", FORMATS)
async def test_an_import_of_an_export_gives_the_same_users(installation: Installation, format: str) -> None:
    people = {number: person(number) for number in range(1, 60)}
    if format in ("json", "parquet"):
        people[60] = {"id": "u060", "email": "only"}
    await installation.write_profiles(people)
    extension = {"excel": "xlsx"}.get(format, format)
    sheet = "Users" if format == "excel" else ""
    for number, compression in enumerate(COMPRESSIONS):
        suffix = {"": "", "Zip": ".zip", "Gzip": ".gz", "Snappy": ".sz"}[compression]
        path = f"people.{extension}{suffix}"
        file: dict[str, Any] = {"format": format, "path": path, "sheet": sheet, "compression": compression}
        given = settings_of_format(format, role="Destination")
        exporting = await installation.add_pipeline(
            "out", id_=100 + number, connection=1, in_schema=PROFILES, order_by="id", format_settings=given, **file
        )
        assert counts(await installation.export(exporting))["Finalize"] == (len(people), 0)

        importing = await installation.add_pipeline(
            "in",
            id_=200 + number,
            connection=2,
            role="Source",
            in_schema=await columns(installation, file),
            out_schema=PROFILES,
            transformation=TransformationDefinition(mapping={name: expression(name, format) for name in TYPES}),
            user_id_column="id",
            format_settings=settings_of_format(format, role="Source"),
            **file,
        )
        job = installation.job(importing)
        await execute_import(job)
        assert not sum(job.report.progress.failed), job.report.take_errors()
        text = f"SELECT identity_id, attributes FROM identities WHERE pipeline = {importing.id}"
        rows: list[Any] = await installation.state.read(partial(_fetch, text=text))
        assert {id_: msgspec.json.decode(attributes) for id_, attributes in rows} == {
            attributes["id"]: attributes for attributes in people.values()
        }


def _fetch(connection: Any, *, text: str) -> list[Any]:
    return list(connection.exec_driver_sql(text))


async def columns(installation: Installation, file: dict[str, Any]) -> Schema:
    """Return the schema of the file that was written."""

    environment = ConnectorEnvironment(addresses=ANY_ADDRESS, filesystem_root=installation.folder / "files")
    connector_of_format = installation.catalog.connectors[file["format"]]
    settings = settings_of_format(file["format"], role="Source")
    connection = await installation.add_connection("in", 2, "Source")
    opening = open_capability(installation.catalog, connection, environment, lambda engine: engine.file_storage)
    async with opening as (storage, context):

        def read() -> Schema:
            with open_file(
                storage,
                make_format(connector_of_format, "Source", settings, context),
                file["path"],
                sheet=file["sheet"],
                compression=file["compression"],
                scratch=installation.folder,
            ) as opened:
                return ObjectType(
                    tuple(
                        Property(
                            column.name,
                            column.type,
                            nullable=column.nullable,
                            read_optional=column.read_optional,
                            description=column.description,
                        )
                        for column in opened.columns
                        if column.type is not None
                    )
                )

        return await asyncio.to_thread(read)
