"""Bodies that come as raw JSON, so that numbers keep every digit: their forms, and errors for other bodies."""

import re
from typing import Final, TypeVar

import msgspec
from google.api.httpbody_pb2 import HttpBody
from msgspec import Raw, Struct

from headwater.base.errors import BadRequest
from headwater.catalog import FunctionDefinition, TransformationDefinition
from headwater.events.decode_errors import explain_syntax

NULL: Final = Raw(b"null")

Body = TypeVar("Body")

_PLACE: Final = re.compile(r" - at `\$\.([^`]+)`$")
"""The path of the invalid value in a message of msgspec."""


class FunctionBody(Struct, rename={"preserve_json": "preserveJSON", "in_paths": "inPaths", "out_paths": "outPaths"}):
    """The function of a transformation."""

    source: str = ""
    language: str = ""
    preserve_json: bool | None = None
    in_paths: tuple[str, ...] | None = None
    out_paths: tuple[str, ...] | None = None


class TransformationBody(Struct):
    """A transformation: a mapping, a function, both or none."""

    mapping: dict[str, str] | None = None
    function: FunctionBody | None = None

    def definition(self) -> TransformationDefinition:
        """Return the transformation, which is not checked."""
        function = self.function
        return TransformationDefinition(
            mapping=self.mapping,
            function=None
            if function is None
            else FunctionDefinition(
                language=function.language,
                source=function.source,
                preserve_json=bool(function.preserve_json),
                in_paths=function.in_paths or (),
                out_paths=function.out_paths or (),
            ),
        )


def read_body(request: HttpBody, form: type[Body]) -> Body:
    """Return a body of this form. Raises BadRequest."""
    try:
        request.data.decode()
        return msgspec.json.decode(request.data, type=form)
    except msgspec.ValidationError as error:
        found = _PLACE.search(str(error))
        raise BadRequest(
            f"the body is not of the documented form: {error}", field=found.group(1) if found else None
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise explain_syntax(request.data, error) from error
