"""Decodes the requests of one RPC and encodes its responses: protobuf, or JSON for callers of the Connect protocol.

gRPC would do the former itself, but returns INTERNAL where a request cannot be decoded.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, Final
from urllib.parse import parse_qsl

import grpc
from google.api.annotations_pb2 import http
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.descriptor_pool import Default
from google.protobuf.json_format import MessageToJson, Parse, ParseError
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from headwater.api.request import ORIGINAL_PATH_HEADER, is_transcoded
from headwater.base.errors import BadRequest

CODEC_HEADER: Final = "x-headwater-codec"
"""Set by the gateway, to the content type of a call of the Connect protocol."""


class Codec:
    """The messages of one RPC as bytes."""

    def __init__(self, method: str, handler: "grpc.RpcMethodHandler[Any, Any]") -> None:
        """`method` is "/package.Service/Method", `handler` its generated handler."""
        self._deserialize: Callable[[bytes], Any] = handler.request_deserializer or bytes
        self._serialize: Callable[[Any], bytes] = handler.response_serializer or bytes
        self._method = _find_method(method)
        self._paths = () if self._method is None else tuple(_path_patterns(self._method))

    def decode(self, data: bytes, metadata: dict[str, str]) -> Any:
        """Return the request. Raises BadRequest."""
        if self._method is not None and _is_json(metadata):
            return _parse_json(data, self._method.input_type)
        try:
            request = self._deserialize(data)
        except DecodeError:
            if is_transcoded(metadata):  # the gateway wrote it, out of JSON, which was read, and of the URL
                raise BadRequest("the path and the query must be valid UTF-8") from None
            name = "" if self._method is None else f" {self._method.input_type.full_name}"
            raise BadRequest(f"the request is not a valid protobuf message{name}") from None
        if self._paths and is_transcoded(metadata):
            self._check_path(request, metadata)
        return request

    def encode(self, message: Any, metadata: dict[str, str]) -> bytes:
        """Return the response as the caller reads it."""
        if self._method is not None and _is_json(metadata):
            return MessageToJson(message, indent=None, ensure_ascii=False).encode()
        return self._serialize(message)

    def check_stream(self, metadata: dict[str, str]) -> None:
        """Raise BadRequest for a stream of JSON requests: such a call writes its responses itself, as protobuf."""
        if _is_json(metadata):
            raise BadRequest("this stream takes protobuf, not JSON: use the content type application/connect+proto")

    def check_query(self, metadata: dict[str, str]) -> None:
        """Raise BadRequest if a REST call has a query parameter that stands for no field of the request."""
        _, _, query = metadata.get("x-envoy-original-path", "").partition("?")
        if not query or self._method is None:
            return
        for name, _ in parse_qsl(query, keep_blank_values=True):
            if not _is_field(name, self._method.input_type):
                known = ", ".join(sorted(field.json_name for field in self._method.input_type.fields))
                hint = f": there are {known}" if known else ""
                raise BadRequest(f"there is no query parameter {name[:100]!r}{hint}", field=name[:100])

    def _check_path(self, request: Any, metadata: dict[str, str]) -> None:
        """Raise BadRequest if a REST call has another value for a part of its path.

        The gateway writes the parts of the path, the query and the body into one message, where the last one counts.
        """
        path, _, _ = metadata[ORIGINAL_PATH_HEADER].partition("?")
        for pattern in self._paths:
            if (found := pattern.fullmatch(path)) is None:
                continue
            for name, text in found.groupdict().items():
                if not _is_same(getattr(request, name), text):
                    json_name = request.DESCRIPTOR.fields_by_name[name].json_name
                    raise BadRequest(
                        f"{json_name} is a part of the path, and must not have another value", field=json_name
                    )
            return


def _path_patterns(method: MethodDescriptor) -> Iterator[re.Pattern[str]]:
    """Yield the paths of an RPC that have parts, with a group for the field of each part."""
    rule = method.GetOptions().Extensions[http]
    for binding in (rule, *rule.additional_bindings):
        path = binding.get or binding.post or binding.put or binding.delete or binding.patch
        if "{" in path:
            yield re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(path)))


def _is_same(value: Any, text: str) -> bool:
    """Whether a field has the value of a part of a path. Escaped parts are not compared."""
    try:
        return "%" in text or bool(value == type(value)(text))
    except ValueError:
        return False


def _find_method(method: str) -> MethodDescriptor | None:
    service, _, name = method.strip("/").partition("/")
    try:
        return Default().FindServiceByName(service).methods_by_name[name]
    except KeyError:
        return None


def _is_json(metadata: dict[str, str]) -> bool:
    return "json" in metadata.get(CODEC_HEADER, "")


def _parse_json(data: bytes, message: Descriptor) -> Any:
    try:
        return Parse(data, GetMessageClass(message)(), ignore_unknown_fields=True)
    except (ParseError, ValueError, RecursionError) as error:
        raise BadRequest(f"the request is not valid JSON for {message.full_name}: {str(error)[:200]}") from None


def _is_field(path: str, message: Descriptor | None) -> bool:
    """Whether a path such as "filter.logical" leads to a field, by the names in JSON or in the protos."""
    for name in path.split("."):
        if message is None or (field := _find_field(name, message)) is None:
            return False
        message = field.message_type
    return True


def _find_field(name: str, message: Descriptor) -> FieldDescriptor | None:
    return next((field for field in message.fields if name in (field.json_name, field.name)), None)
