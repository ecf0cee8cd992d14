"""Finds the handler of a request by its path. The paths are those of the protos' `google.api.http` rules."""

import re
from collections.abc import Iterator, Mapping
from urllib.parse import unquote

from google.api.annotations_pb2 import http
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.descriptor_pool import Default

from headwater.api.errors import ErrorBody, default_error_body, wrap_ingest
from headwater.api.ingest import NO_VARIABLES, IngestHandler
from headwater.base.metrics import NO_METRICS, Metrics


class Router:
    """The handlers of all paths to which a raw body is posted."""

    def __init__(self, metrics: Metrics = NO_METRICS) -> None:
        self._metrics = metrics
        self._handlers: dict[str, IngestHandler] = {}
        self._patterns: list[tuple[re.Pattern[str], IngestHandler]] = []

    def add(
        self, service: str, handlers: Mapping[str, IngestHandler], error_body: ErrorBody = default_error_body
    ) -> None:
        """Route the paths of the RPCs of a service, by its full name, to their handlers."""
        methods = Default().FindServiceByName(service).methods_by_name
        for name, handler in handlers.items():
            wrapped = wrap_ingest(f"/{service}/{name}", handler, error_body, self._metrics)
            for path in _paths(methods[name]):
                self._add(path, wrapped)

    def find(self, path: str) -> tuple[IngestHandler, Mapping[str, str]] | None:
        """Return the handler of a POST to a path, with the values of the path's variables; None for unknown paths."""
        handler = self._handlers.get(path)
        if handler is not None:
            return handler, NO_VARIABLES
        for pattern, candidate in self._patterns:
            if found := pattern.fullmatch(path):
                return candidate, {name: unquote(value) for name, value in found.groupdict().items()}
        return None

    def _add(self, path: str, handler: IngestHandler) -> None:
        if "{" in path:
            self._patterns.append((re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(path))), handler))
        else:
            self._handlers[path] = handler


def _paths(method: MethodDescriptor) -> Iterator[str]:
    """Yield the paths to which the raw body of an RPC is posted: its whole message, or one field of it."""
    rule = method.GetOptions().Extensions[http]
    for binding in (rule, *rule.additional_bindings):
        body: Descriptor | None = method.input_type
        if binding.body != "*":
            body = method.input_type.fields_by_name[binding.body].message_type
        assert binding.post and body is HttpBody.DESCRIPTOR, f"{method.full_name} has no raw body"
        yield binding.post
