"""Which call answers a request: of the services that are registered, the calls that take and give a raw body.

Paths are those that the protos' `google.api.http` rules give.
"""

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote

import grpc
from google.api.annotations_pb2 import http
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pool import Default
from google.protobuf.message_factory import GetMessageClass

from headwater.api.call import Context
from headwater.api.interceptor import AnswerInterceptor

if TYPE_CHECKING:
    Handlers = Mapping[str, grpc.RpcMethodHandler[Any, Any]]  # generic in the stubs only


@dataclass(frozen=True)
class RawCall:
    """A call as a path names it."""

    answer: Callable[[Any, Context], Awaitable[HttpBody]]
    message: Callable[[HttpBody, dict[str, str]], Any]
    """The call's message, of the body and what the path's variables stand for."""


class RawCalls:
    """The raw calls of the services that are registered here. For the generated `add_…_to_server`."""

    def __init__(self, answers: AnswerInterceptor) -> None:
        self._answers = answers
        self._calls: dict[str, RawCall] = {}
        self._patterns: list[tuple[re.Pattern[str], RawCall]] = []

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """The same calls once more, as servers took them before they knew their names."""

    def add_registered_method_handlers(self, service: str, handlers: "Handlers") -> None:
        methods = Default().FindServiceByName(service).methods_by_name
        for name, handler in handlers.items():
            answer = cast(Any, self._answers.answering(f"/{service}/{name}", handler).unary_unary)
            for path, body in _raw_rules(methods[name]):
                self._add(path, RawCall(answer, _message_of(methods[name], body)))

    def find(self, path: str) -> tuple[RawCall, dict[str, str]] | None:
        """The call that answers a POST to a path, with the values of the path's variables."""
        call = self._calls.get(path)
        if call is not None:
            return call, {}
        for pattern, candidate in self._patterns:
            if found := pattern.fullmatch(path):
                return candidate, {name: unquote(value) for name, value in found.groupdict().items()}
        return None

    def _add(self, path: str, call: RawCall) -> None:
        if "{" in path:
            self._patterns.append((re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(path))), call))
        else:
            self._calls[path] = call


def _raw_rules(method: MethodDescriptor) -> Iterator[tuple[str, str]]:
    """The paths to which a raw body is posted, and which field of the message that is: "*" where it is the message."""
    if method.output_type is not HttpBody.DESCRIPTOR:
        return
    rule = method.GetOptions().Extensions[http]
    for binding in (rule, *rule.additional_bindings):
        if binding.post and binding.body:
            whole = (
                method.input_type
                if binding.body == "*"
                else method.input_type.fields_by_name[binding.body].message_type
            )
            if whole is HttpBody.DESCRIPTOR:
                yield binding.post, binding.body


def _message_of(method: MethodDescriptor, body: str) -> Callable[[HttpBody, dict[str, str]], Any]:
    if body == "*":
        return lambda raw, _: raw
    message = GetMessageClass(method.input_type)
    return lambda raw, variables: message(**{body: raw}, **variables)
