"""FileService: the first records, the sheets and the full path of a file, over both APIs."""

import msgspec
from google.api.httpbody_pb2 import HttpBody

from headwater.api.messages.schema import type_message
from headwater.api.request import Context, require_workspace
from headwater.catalog import Catalog
from headwater.management.files import FileRequest, FileViewer
from headwater.rest.v1 import files_pb2 as rest_pb
from headwater.rest.v1 import files_pb2_grpc as rest_grpc
from headwater.schemas import serialise
from headwater.v1 import files_pb2 as pb
from headwater.v1 import files_pb2_grpc


class FileServicer(files_pb2_grpc.FileServiceServicer):
    """Looks at files."""

    def __init__(self, catalog: Catalog, viewer: FileViewer) -> None:
        self._catalog = catalog
        self._viewer = viewer

    async def ListFileRecords(self, request: pb.ListFileRecordsRequest, context: Context) -> pb.ListFileRecordsResponse:
        workspace = await require_workspace(self._catalog, context)
        found = await self._viewer.records(workspace, request.id, _read(request))
        return pb.ListFileRecordsResponse(
            records_json=[record.decode() for record in found.records],
            schema=None if found.schema is None else type_message(found.schema),
            issues=found.issues,
        )

    async def ListFileSheets(self, request: pb.ListFileSheetsRequest, context: Context) -> pb.ListFileSheetsResponse:
        workspace = await require_workspace(self._catalog, context)
        return pb.ListFileSheetsResponse(
            sheets=await self._viewer.sheets(
                workspace,
                request.id,
                FileRequest(
                    path=request.path,
                    format=request.format,
                    compression=request.compression,
                    format_settings=request.format_settings if request.HasField("format_settings") else None,
                ),
            )
        )

    async def GetAbsolutePath(self, request: pb.GetAbsolutePathRequest, context: Context) -> pb.GetAbsolutePathResponse:
        workspace = await require_workspace(self._catalog, context)
        return pb.GetAbsolutePathResponse(path=await self._viewer.absolute_path(workspace, request.id, request.path))


class FileRestServicer(rest_grpc.FileServiceServicer):
    """Shows the records of files as JSON."""

    def __init__(self, catalog: Catalog, viewer: FileViewer) -> None:
        self._catalog = catalog
        self._viewer = viewer

    async def ListFileRecords(self, request: rest_pb.ListFileRecordsRequest, context: Context) -> HttpBody:
        workspace = await require_workspace(self._catalog, context)
        found = await self._viewer.records(workspace, request.id, _read(request))
        schema = b"null" if found.schema is None else serialise(found.schema)
        body = b'{"records":[%b],"schema":%b,"issues":%b}' % (
            b",".join(found.records),
            schema,
            msgspec.json.encode(found.issues or None),
        )
        return HttpBody(content_type="application/json", data=body)


def _read(request: pb.ListFileRecordsRequest | rest_pb.ListFileRecordsRequest) -> FileRequest:
    return FileRequest(
        path=request.path,
        format=request.format,
        sheet=request.sheet if request.HasField("sheet") else None,
        compression=request.compression,
        format_settings=request.format_settings if request.HasField("format_settings") else None,
        limit=request.limit,
    )
