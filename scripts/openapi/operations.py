"""Calls as OpenAPI operations: one for each http rule, additional bindings included."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from google.api import annotations_pb2, http_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorProto, MethodDescriptorProto, ServiceDescriptorProto

from openapi import answers, rawbodies
from openapi.examples import EXAMPLES
from openapi.schemas import RAW, Message, Schemas
from openapi.texts import Comments

_NAMED: Final = {
    "get /v1/connections/auth-token": "getAuthorizationTokenByQuery",
    "get /v1/pipelines/metrics/dates/{start}/{end}": "getPipelineMetricsBetweenDates",
    "get /v1/pipelines/metrics/days/{days}": "getPipelineMetricsByDay",
    "get /v1/pipelines/metrics/hours/{hours}": "getPipelineMetricsByHour",
    "get /v1/pipelines/metrics/minutes/{minutes}": "getPipelineMetricsByMinute",
    "post /v1/connections/auth-token": "getAuthorizationToken",
}
"""Operation ids of calls with several routes that are no aliases."""
_DEPRECATED: Final = frozenset(("getAuthorizationTokenByQuery",))
_PREFIXES: Final = {"ClientService": "client"}
"""Prefixes of the operations of a protocol whose calls have the names of another's."""
_WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@dataclass(frozen=True)
class Route:
    """One http rule of a call."""

    package: str
    service: str
    method: MethodDescriptorProto
    comment: str
    verb: str
    path: str
    body: str
    """"*", the name of a field, or empty."""
    binding: int
    """0 for the rule itself, then its additional bindings."""

    @property
    def call(self) -> str:
        return f"{self.service}.{self.method.name}"

    @property
    def is_alias(self) -> bool:
        """Whether another route of the call does the same: the document only mentions it."""
        return self.binding > 0 and self.name not in _NAMED

    @property
    def name(self) -> str:
        """The verb and the path."""
        return f"{self.verb} {self.path}"

    @property
    def operation_id(self) -> str:
        """The name of the operation in generated clients."""
        prefix = _PREFIXES.get(self.service, "")
        method = self.method.name if prefix else self.method.name[0].lower() + self.method.name[1:]
        return _NAMED.get(self.name, prefix + method)

    @property
    def aliases(self) -> list[str]:
        """Other routes that do the same, as verb and path."""
        rules = _rules(self.method)[1:] if self.binding == 0 else []
        names = [f"{rule.WhichOneof('pattern')} {getattr(rule, str(rule.WhichOneof('pattern')))}" for rule in rules]
        return [name for name in names if name not in _NAMED]

    @property
    def path_fields(self) -> list[str]:
        """The fields that stand in the path."""
        return re.findall(r"\{(\w+)\}", self.path)


def routes(file: FileDescriptorProto, comments: Comments) -> Iterator[Route]:
    """All routes of a file's services, in the order of the file."""
    for index, service in enumerate(file.service):
        for number, method in enumerate(service.method):
            comment = comments.of(file.name, (6, index, 2, number))
            for binding, rule in enumerate(_rules(method)):
                verb = rule.WhichOneof("pattern")
                assert verb in ("get", "post", "put", "patch", "delete"), f"{method.name}: {verb}"
                yield Route(file.package, service.name, method, comment, verb, getattr(rule, verb), rule.body, binding)


def _rules(method: MethodDescriptorProto) -> list[http_pb2.HttpRule]:
    if not method.options.HasExtension(annotations_pb2.http):
        return []
    rule = method.options.Extensions[annotations_pb2.http]
    return [rule, *rule.additional_bindings]


def to_path(route: Route, schemas: Schemas) -> str:
    """The path with the JSON names of its parameters."""
    path = route.path
    for name in route.path_fields:
        json_name, _, _ = schemas.parameter(schemas.message(route.method.input_type), name)
        path = path.replace(f"{{{name}}}", f"{{{json_name}}}")
    return path


def operation(route: Route, schemas: Schemas, raw: dict[str, rawbodies.RawBody]) -> dict[str, Any]:
    """The operation of one route."""
    access = answers.find_access(route.service, route.method.name)
    body = raw.get(route.call, rawbodies.RawBody())
    made: dict[str, Any] = {
        "operationId": route.operation_id,
        "tags": [route.service],
        "summary": _summary(route.method.name),
        "description": _description(route),
        "security": answers.SECURITY[access],
        "x-grpc-method": f"{route.package}.{route.service}/{route.method.name}",
    }
    if route.operation_id in _DEPRECATED:
        made["deprecated"] = True
    if route.aliases:
        made["x-aliases"] = [_route(name) for name in route.aliases]
    parameters = [*_parameters(route, schemas), *answers.HEADERS.get(access, [])]
    request = _request(route, schemas, body)
    if request and access in ("track", "client", "native"):
        parameters.append(answers.CONTENT_ENCODING)
    if parameters:
        made["parameters"] = parameters
    if request:
        made["requestBody"] = request
    call = answers.Call(
        route.call, access, schemas.options.reasons(route.method), bool(request), bool(route.path_fields)
    )
    made["responses"] = {**_success(route, schemas, body), **answers.responses(call)}
    return made


def tag(service: ServiceDescriptorProto, comment: str) -> dict[str, Any]:
    """Return the tag that groups the operations of a service."""
    return {"name": service.name, "description": comment}


def _description(route: Route) -> str:
    if not route.aliases:
        return route.comment
    return f"{route.comment}\n\nAlso at {', '.join(f'`{_route(name)}`' for name in route.aliases)}."


def _route(name: str) -> str:
    verb, _, path = name.partition(" ")
    return f"{verb.upper()} {re.sub('_([a-z])', lambda match: match[1].upper(), path)}"


def _summary(method: str) -> str:
    words = _WORDS.sub(" ", method).split()
    return " ".join([words[0], *(word if word.isupper() else word.lower() for word in words[1:])])


def _parameters(route: Route, schemas: Schemas) -> list[dict[str, Any]]:
    if route.method.input_type == RAW:
        return []
    message = schemas.message(route.method.input_type)
    made = []
    for field in message.descriptor.field:
        in_path = field.name in route.path_fields
        if not in_path and route.body in ("*", field.name):
            continue
        name, required, schema = schemas.parameter(message, field.name)
        made.append(
            {
                "name": name,
                "in": "path" if in_path else "query",
                "description": schema.pop("description"),
                "required": in_path or required,
                "schema": {**schema, "minLength": 1} if in_path and schema.get("type") == "string" else schema,
            }
        )
    return made


def _request(route: Route, schemas: Schemas, raw: rawbodies.RawBody) -> dict[str, Any] | None:
    if not route.body:
        return None
    examples = raw.examples or EXAMPLES.get(route.call, {})
    content: dict[str, Any] = {"schema": raw.request}
    if examples:
        content["examples"] = {name: {"value": example} for name, example in examples.items()}
    if raw.request is not None:
        return {"required": True, "content": {"application/json": content}}
    assert route.body == "*", f"{route.call}: the body {route.body!r} is not described in rawbodies"
    message = schemas.message(route.method.input_type)
    content["schema"] = schemas.reference(route.method.input_type, "sent", frozenset(route.path_fields))
    return {"required": _is_needed(message, route, schemas), "content": {"application/json": content}}


def _is_needed(message: Message, route: Route, schemas: Schemas) -> bool:
    """Whether any member must be given: an empty body is read as an empty object."""
    return any(
        schemas.options.is_required(field) for field in message.descriptor.field if field.name not in route.path_fields
    )


def _success(route: Route, schemas: Schemas, raw: rawbodies.RawBody) -> dict[str, Any]:
    if route.method.output_type != RAW:
        schema = schemas.reference(route.method.output_type, "answered")
    elif raw.response is not None:
        schema = raw.response
    else:
        return {str(raw.status): {"description": raw.answer}}
    return {str(raw.status): {"description": raw.answer, "content": {raw.media_type: {"schema": schema}}}}
