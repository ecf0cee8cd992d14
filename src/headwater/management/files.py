"""Looks at the files of file storages: the first records, the sheets, and the full path of a file.

Nothing is written. The work is done in threads with a time limit. It reads at most `MAX_READ_BYTES` of a file, and
stops there however the file is made.
"""

import io
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar, cast, get_args

import msgspec

from headwater.base.clock import Clock
from headwater.base.errors import BadRequest, NotFound, Unavailable, Unprocessable
from headwater.catalog import Catalog, Connection
from headwater.connectors.connector import Connector
from headwater.connectors.contract import (
    Column,
    ConnectorContext,
    Engine,
    Factory,
    FileFormat,
    FileReader,
    FileStorage,
    InvalidFile,
    InvalidFileName,
    NoColumns,
    SheetMissing,
    StoredFile,
)
from headwater.connectors.environment import ConnectorEnvironment
from headwater.management.blocking import BlockingCalls
from headwater.management.lookup import find_connection
from headwater.runs.capabilities import make_format, open_capability
from headwater.runs.compression import Compression, InflationLimits
from headwater.runs.files import OpenFile, list_sheets, open_file
from headwater.runs.placeholders import expand_placeholders, has_placeholders
from headwater.schemas import Codec, InvalidValue, ObjectType, Property, Schema
from headwater.schemas.normalising import describe_problem
from headwater.schemas.normalising_rows import compile_row_normaliser

MAX_PATH_CHARACTERS: Final = 1_024
MAX_RECORDS: Final = 100
MAX_SECONDS: Final = 25.0
"""Time limit of a call, from its arrival. Envoy ends a call after 30 s without a byte, and its response would not name
the reason."""
MAX_READ_BYTES: Final = 256 * 1024 * 1024
"""Maximum number of bytes that are read from a storage."""
MAX_RECORD_BYTES: Final = 2 * 1024 * 1024
"""Maximum size of the JSON of all records of a response. Fewer records are returned if they are larger."""

_INFLATION: Final = InflationLimits(max_bytes=4 * MAX_READ_BYTES)
_COMPRESSIONS: Final[dict[str, Compression]] = {name: name for name in get_args(Compression)}
_Result = TypeVar("_Result")


class FileRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A file, and how it is read. `sheet` and `format_settings`, the text of a JSON object, are None if absent."""

    path: str
    format: str
    sheet: str | None = None
    compression: str = ""
    format_settings: str | None = None
    limit: int = 0


class FileRecords(msgspec.Struct, frozen=True, kw_only=True):
    """The beginning of a file. `records` are JSON objects; `schema` is None if no column can be read. `issues` explain
    columns and rows that were left out."""

    records: tuple[bytes, ...]
    schema: Schema | None
    issues: tuple[str, ...]


class _Read(msgspec.Struct, frozen=True, kw_only=True):
    """A checked request."""

    path: str
    format: Connector
    settings: dict[str, Any] | None
    sheet: str
    compression: Compression


class FileViewer:
    """Looks at files for the connections of all workspaces."""

    def __init__(self, catalog: Catalog, environment: ConnectorEnvironment, calls: BlockingCalls, clock: Clock) -> None:
        self._catalog = catalog
        self._environment = environment
        self._calls = calls
        self._clock = clock

    async def records(self, workspace: int, id_: int, request: FileRequest) -> FileRecords:
        """Return the first records of a file.

        Raises BadRequest; NotFound for the connection; Unprocessable with FormatNotExist, InvalidPath,
        InvalidSettings, NoColumnsFound or SheetNotExist; Unavailable.
        """
        connection = self._find_source(workspace, id_)
        checked = self._check(request)
        _check_sheet(request.sheet, checked.format)
        if not 0 <= request.limit <= MAX_RECORDS:
            raise BadRequest(f"limit must be in the range from 0 to {MAX_RECORDS}", field="limit")

        def read(storage: FileStorage, format: FileFormat, scratch: Path) -> FileRecords:
            with open_file(
                storage,
                format,
                checked.path,
                sheet=checked.sheet,
                compression=checked.compression,
                scratch=scratch,
                limits=_INFLATION,
            ) as file:
                return _first_records(file, request.limit)

        return await self._look(connection, checked, read)

    async def sheets(self, workspace: int, id_: int, request: FileRequest) -> tuple[str, ...]:
        """Return the names of the sheets of a file.

        Raises BadRequest; NotFound for the connection; Unprocessable with FormatNotExist, InvalidPath or
        InvalidSettings; Unavailable.
        """
        connection = self._find_source(workspace, id_)
        checked = self._check(request)
        if not checked.format.has_sheets:
            raise BadRequest(f"format {checked.format.code} has no sheets", field="format")

        def read(storage: FileStorage, format: FileFormat, scratch: Path) -> tuple[str, ...]:
            return list_sheets(
                storage, format, checked.path, compression=checked.compression, scratch=scratch, limits=_INFLATION
            )

        return await self._look(connection, checked, read)

    async def absolute_path(self, workspace: int, id_: int, path: str) -> str:
        """Return the full path of a file, with the present time in the place of placeholders.

        Raises BadRequest; NotFound for the connection; Unprocessable with InvalidPath or InvalidPlaceholder;
        Unavailable.
        """
        connection, _ = self._find(workspace, id_)
        _check_path(path)
        expanded = self._expanded(connection, path)

        def find(settings: Any, context: ConnectorContext, make: Factory[FileStorage]) -> str:
            return make(settings, context).absolute_path(expanded)

        return await self._call(connection, find)

    def _expanded(self, connection: Connection, path: str) -> str:
        if connection.role == "Source":
            if has_placeholders(path):
                raise Unprocessable(
                    "InvalidPlaceholder", "path cannot have placeholders: the connection is a source", field="path"
                )
            return path
        try:
            return expand_placeholders(path, self._clock.now())
        except BadRequest as error:
            raise Unprocessable("InvalidPlaceholder", error.message, field="path") from error

    def _find(self, workspace: int, id_: int) -> tuple[Connection, Connector]:
        connection = find_connection(self._catalog, workspace, id_)
        connector = self._catalog.connectors.get(connection.connector)
        if connector is None or connector.type != "FileStorage":
            raise BadRequest(f"connection {id_} is not a file storage", field="id")
        return connection, connector

    def _find_source(self, workspace: int, id_: int) -> Connection:
        connection, connector = self._find(workspace, id_)
        if connector.source is None:
            raise BadRequest(f"the files of connection {id_} cannot be read", field="id")
        return connection

    def _check(self, request: FileRequest) -> _Read:
        _check_path(request.path)
        format = self._find_format(request.format)
        if request.compression not in _COMPRESSIONS:
            raise BadRequest('compression must be "", "Zip", "Gzip" or "Snappy"', field="compression")
        return _Read(
            path=request.path,
            format=format,
            settings=_format_settings(request.format_settings, format),
            sheet=request.sheet or "",
            compression=_COMPRESSIONS[request.compression],
        )

    def _find_format(self, code: str) -> Connector:
        if not code:
            raise BadRequest("format is required", field="format")
        found = self._catalog.connectors.get(code)
        if found is None:
            raise Unprocessable("FormatNotExist", f"format {code[:60]!r} does not exist", field="format")
        if found.type != "File" or found.source is None:
            raise BadRequest(f"format {code} is not the format of a file to read", field="format")
        return found

    async def _look(
        self, connection: Connection, checked: _Read, read: Callable[[FileStorage, FileFormat, Path], _Result]
    ) -> _Result:
        until = time.monotonic() + MAX_SECONDS

        def look(settings: Any, context: ConnectorContext, make: Factory[FileStorage]) -> _Result:
            format = _LimitedFormat(make_format(checked.format, "Source", checked.settings, context), until)
            storage = _LimitedStorage(make(settings, context), until)
            try:
                with tempfile.TemporaryDirectory(prefix="headwater-") as scratch:
                    return read(storage, format, Path(scratch))
            except NoColumns as error:
                raise Unprocessable("NoColumnsFound", error.message, field="path") from error
            except SheetMissing as error:
                raise Unprocessable("SheetNotExist", error.message, field="sheet") from error
            except (InvalidFile, NotFound) as error:
                raise Unavailable(error.message) from error

        return await self._call(connection, look)

    async def _call(
        self,
        connection: Connection,
        function: Callable[[Any, ConnectorContext, Factory[FileStorage]], _Result],
    ) -> _Result:
        """Call a function in a thread, with what it needs to make the storage: libraries are imported there.

        Raises Unprocessable with InvalidPath if the storage rejects the path.
        """
        async with open_capability(self._catalog, connection, self._environment, _deferred) as (deferred, _):
            try:
                return await self._calls.run(connection.workspace, function, *deferred, timeout_seconds=MAX_SECONDS)
            except InvalidFileName as error:
                raise Unprocessable("InvalidPath", error.message, field="path") from error


def _deferred(engine: Engine) -> "Factory[_Deferred] | None":
    """Return a factory that makes no storage, but what makes one."""
    make = engine.file_storage
    return None if make is None else lambda settings, context: (settings, context, make)


_Deferred = tuple[Any, ConnectorContext, Factory[FileStorage]]


class _LimitedStorage:
    """A storage of which a limited number of bytes is read, in a limited time."""

    def __init__(self, storage: FileStorage, until: float) -> None:
        self._storage = storage
        self._until = until

    def absolute_path(self, name: str) -> str:
        return self._storage.absolute_path(name)

    @contextmanager
    def open(self, name: str) -> Iterator[StoredFile]:
        with self._storage.open(name) as file:
            yield msgspec.structs.replace(file, stream=_LimitedStream(file.stream, self._until, MAX_READ_BYTES))

    def create(self, name: str, content_type: str) -> Any:
        raise BadRequest("the storage is read only")


class _LimitedFormat:
    """A format that reads in a limited time, also from a copy of the file."""

    def __init__(self, format: FileFormat, until: float) -> None:
        self._format = format
        self._until = until
        self.content_type = format.content_type
        self.needs_seeking = format.needs_seeking

    def sheets(self, stream: BinaryIO) -> tuple[str, ...]:
        return self._format.sheets(self._limited(stream))

    def read(self, stream: BinaryIO, sheet: str) -> AbstractContextManager[FileReader]:
        return self._format.read(self._limited(stream), sheet)

    def write(self, stream: BinaryIO, columns: Sequence[Column], sheet: str) -> Any:
        raise BadRequest("the format is read only")

    def _limited(self, stream: BinaryIO) -> BinaryIO:
        return cast(BinaryIO, io.BufferedReader(_LimitedStream(stream, self._until, _INFLATION.max_bytes)))


class _LimitedStream(io.RawIOBase):
    def __init__(self, stream: BinaryIO, until: float, max_bytes: int) -> None:
        self._stream = stream
        self._until = until
        self._max_bytes = self._left = max_bytes

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._stream.seekable()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def readinto(self, buffer: Any) -> int:
        if time.monotonic() > self._until:
            raise Unavailable(f"the file was not read within {MAX_SECONDS:g} seconds")
        content = self._stream.read(len(buffer))
        self._left -= len(content)
        if self._left < 0:
            raise Unavailable(f"more than {self._max_bytes:,} bytes of the file would have to be read")
        buffer[: len(content)] = content
        return len(content)


def _first_records(file: OpenFile, limit: int) -> FileRecords:
    issues = [
        f'column "{column.name}": {column.issue}' for column in file.columns if column.type is None and column.issue
    ]
    schema = _schema(file.columns)
    if schema is None:
        return FileRecords(records=(), schema=None, issues=tuple(issues))
    records, codec = list[bytes](), Codec(schema)
    normalise = compile_row_normaliser(schema, [column.name for column in file.columns])
    size = 0
    for row in islice(file.rows(), limit):
        if row.error:
            issues.append(f"row {row.number:,}: {row.error}")
            continue
        try:
            record = codec.encode(normalise(row.values))
        except InvalidValue as error:
            issues.append(f"row {row.number:,}: {describe_problem(error)}")
            continue
        size += len(record)
        if size > MAX_RECORD_BYTES:
            issues.append(f"only the first {len(records):,} records are returned, because they are large")
            break
        records.append(record)
    return FileRecords(records=tuple(records), schema=schema, issues=tuple(issues))


def _schema(columns: tuple[Column, ...]) -> Schema | None:
    properties = tuple(
        Property(
            column.name,
            column.type,
            nullable=column.nullable,
            read_optional=column.read_optional,
            description=column.description,
        )
        for column in columns
        if column.type is not None
    )
    return ObjectType(properties) if properties else None


def _check_path(path: str) -> None:
    if not 1 <= len(path) <= MAX_PATH_CHARACTERS:
        raise BadRequest(f"path must be from 1 to {MAX_PATH_CHARACTERS:,} characters long", field="path")


def _check_sheet(sheet: str | None, format: Connector) -> None:
    if format.has_sheets and not sheet:
        raise BadRequest("sheet is required for this format", field="sheet")
    if sheet is not None and not format.has_sheets:
        raise BadRequest("sheet is not allowed: the format has no sheets", field="sheet")


def _format_settings(text: str | None, format: Connector) -> dict[str, Any] | None:
    """Return the settings, which are a JSON object. `make_format` checks its members."""
    declared = None if format.source is None else format.source.settings
    if text is None:
        if declared is not None and declared.REQUIRED:
            raise BadRequest("formatSettings is required for this format", field="formatSettings")
        return None
    if declared is None:
        raise BadRequest("formatSettings is not allowed: the format has no settings", field="formatSettings")
    try:
        settings = json.loads(text)
    except (ValueError, RecursionError):
        raise BadRequest("formatSettings must be the text of a JSON object", field="formatSettings") from None
    if not isinstance(settings, dict):
        raise BadRequest("formatSettings must be the text of a JSON object", field="formatSettings")
    return settings
