"""A buf plugin that generates openapi.json: the REST API of the protos as an OpenAPI 3.1 document.

It reads a CodeGeneratorRequest from standard input and writes a CodeGeneratorResponse to standard output.
"""

import json
import sys
from typing import Any

from google.api import annotations_pb2  # noqa: F401  # known before the request is read, so that rules are
from google.protobuf.compiler import plugin_pb2
from openapi import answers, operations, rawbodies
from openapi.options import Options
from openapi.schemas import Schemas
from openapi.texts import Comments

INFO = {
    "title": "Headwater",
    "version": "v1",
    "summary": "An open customer data platform: events in, stored once, and the people behind them.",
    "description": """\
Every call of this document is also a gRPC call on the same port; `x-grpc-method` names it.

**JSON.** Bodies of management calls follow proto3 JSON, which is lenient: unknown members are ignored, `null` is the
same as absent, and `"5"` is taken for 5. In answers a member that is absent is null, and empty lists are printed.
Bodies that carry people's own JSON (events) are read strictly and kept to the letter.

**Errors** are `{"error": {"code", "message", "field"}}`, except those of the track API; `field` is absent unless one
value is the cause. Every answer has an `x-request-id`.
""",
    "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
}


def generate(request: plugin_pb2.CodeGeneratorRequest) -> plugin_pb2.CodeGeneratorResponse:
    """Return the document about the requested files."""
    ours = [file for file in request.proto_file if file.name in request.file_to_generate]
    text = json.dumps(document(ours, Options(request.proto_file)), indent=1, ensure_ascii=False) + "\n"
    response = plugin_pb2.CodeGeneratorResponse(
        supported_features=plugin_pb2.CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL
    )
    response.file.add(name="openapi.json", content=text)
    return response


def document(files: list[Any], options: Options) -> dict[str, Any]:
    """Return the document as JSON values."""
    comments = Comments(files)
    schemas = Schemas(files, comments, options)
    raw = rawbodies.raw_bodies(schemas)
    paths: dict[str, dict[str, Any]] = {}
    tags: dict[str, dict[str, Any]] = {}
    # The tag of a service that is in both packages has the description of the typed one.
    for file in sorted(files, key=lambda file: (file.package != "headwater.v1", file.name)):
        for index, service in enumerate(file.service):
            tags.setdefault(service.name, operations.tag(service, comments.of(file.name, (6, index))))
        for route in operations.routes(file, comments):
            if route.is_alias:
                continue
            path = paths.setdefault(operations.to_path(route, schemas), {})
            path[route.verb] = operations.operation(route, schemas, raw)
    [reasons] = [enum for file in files for enum in file.enum_type if enum.name == "ErrorReason"]
    errors = answers.error_schemas(options.error_codes(reasons))
    components, by_hand = schemas.components(), schemas.resolved(rawbodies.SCHEMAS) | errors
    assert not components.keys() & by_hand.keys(), "a schema of rawbodies has the name of a message"
    return {
        "openapi": "3.1.0",
        "info": INFO,
        "servers": [{"url": "/"}],
        "tags": [tags[name] for name in sorted(tags)],
        "paths": schemas.resolved(dict(sorted(paths.items()))),
        "components": {
            "schemas": components | by_hand,
            "responses": answers.components(),
            "securitySchemes": answers.SECURITY_SCHEMES,
        },
    }


if __name__ == "__main__":
    answer = generate(plugin_pb2.CodeGeneratorRequest.FromString(sys.stdin.buffer.read()))
    sys.stdout.buffer.write(answer.SerializeToString())
