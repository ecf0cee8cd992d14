"""TransformationService: what people who write expressions and functions ask before they save them."""

from collections.abc import Iterable
from typing import TypeVar

import msgspec
from google.api.httpbody_pb2 import HttpBody
from msgspec import Raw, Struct

from headwater.api.access import authenticate
from headwater.api.call import Context, metadata_of
from headwater.api.pipelinemessage import transformation_of
from headwater.api.types import schema_of
from headwater.base.errors import BadRequest
from headwater.catalog import Catalog, FunctionDefinition, TransformationDefinition
from headwater.events.notjson import not_json
from headwater.management.transformations import transform_data
from headwater.schemas import ObjectType, Property, Schema, Type, parse_schema, parse_type
from headwater.transforms.functions import Runner
from headwater.transforms.mapping import properties_of, validate_expression
from headwater.v1 import schemas_pb2, transformations_pb2_grpc
from headwater.v1 import transformations_pb2 as pb

_NULL = Raw(b"null")


class _Function(Struct, rename={"preserve_json": "preserveJSON", "in_paths": "inPaths", "out_paths": "outPaths"}):
    source: str = ""
    language: str = ""
    preserve_json: bool | None = None
    in_paths: tuple[str, ...] | None = None
    out_paths: tuple[str, ...] | None = None


class _Transformation(Struct):
    mapping: dict[str, str] | None = None
    function: _Function | None = None


class _Trial(Struct, rename="camel"):
    data: Raw
    in_schema: Raw = _NULL
    out_schema: Raw = _NULL
    transformation: _Transformation | None = None
    purpose: str | None = None


class _Validation(Struct):
    expression: str
    type: Raw
    properties: list[Raw] | None = None


class _Expression(Struct):
    value: str
    type: Raw


class _Expressions(Struct):
    expressions: list[_Expression]
    schema: Raw = _NULL


Body = TypeVar("Body", _Trial, _Validation, _Expressions)


class TransformationServicer(transformations_pb2_grpc.TransformationServiceServicer):
    """Checks expressions, and tries transformations."""

    def __init__(self, catalog: Catalog, functions: Runner) -> None:
        self._catalog = catalog
        self._functions = functions

    async def ListTransformationLanguages(
        self, request: pb.ListTransformationLanguagesRequest, context: Context
    ) -> pb.ListTransformationLanguagesResponse:
        await authenticate(self._catalog, metadata_of(context))
        return pb.ListTransformationLanguagesResponse(languages=self._functions.languages())

    async def ValidateExpression(
        self, request: pb.ValidateExpressionRequest, context: Context
    ) -> pb.ValidateExpressionResponse:
        await authenticate(self._catalog, metadata_of(context))
        problem = validate_expression(request.expression, _properties(request.properties), _type(request.type))
        return pb.ValidateExpressionResponse(problem=problem)

    async def ValidateExpressionJson(self, request: HttpBody, context: Context) -> HttpBody:
        await authenticate(self._catalog, metadata_of(context))
        body = _read(request, _Validation)
        properties: tuple[Property, ...] = ()
        if body.properties:
            members = b",".join(bytes(each) for each in body.properties)
            schema = parse_schema(b'{"kind":"object","properties":[' + members + b"]}")
            properties = () if schema is None else schema.properties
        return _json(validate_expression(body.expression, properties, _parsed_type(body.type)))

    async def ListExpressionProperties(
        self, request: pb.ListExpressionPropertiesRequest, context: Context
    ) -> pb.ListExpressionPropertiesResponse:
        await authenticate(self._catalog, metadata_of(context))
        expressions = [(each.value, _type(each.type)) for each in request.expressions]
        schema = schema_of(request.schema) if request.HasField("schema") else None
        return pb.ListExpressionPropertiesResponse(properties=properties_of(expressions, schema))

    async def ListExpressionPropertiesJson(self, request: HttpBody, context: Context) -> HttpBody:
        await authenticate(self._catalog, metadata_of(context))
        body = _read(request, _Expressions)
        expressions = [(each.value, _parsed_type(each.type)) for each in body.expressions]
        return _json(properties_of(expressions, parse_schema(bytes(body.schema))))

    async def TransformData(self, request: pb.TransformDataRequest, context: Context) -> pb.TransformDataResponse:
        await authenticate(self._catalog, metadata_of(context))
        transformed = await transform_data(
            self._functions,
            request.data_json,
            schema_of(request.in_schema) if request.HasField("in_schema") else None,
            schema_of(request.out_schema) if request.HasField("out_schema") else None,
            transformation_of(request.transformation) if request.HasField("transformation") else None,
            request.purpose,
        )
        return pb.TransformDataResponse(data_json=transformed.decode())

    async def TransformDataJson(self, request: HttpBody, context: Context) -> HttpBody:
        await authenticate(self._catalog, metadata_of(context))
        trial = _read(request, _Trial)
        transformed = await transform_data(
            self._functions,
            bytes(trial.data),
            parse_schema(bytes(trial.in_schema)),
            parse_schema(bytes(trial.out_schema)),
            None if trial.transformation is None else _definition(trial.transformation),
            trial.purpose or "",
        )
        return HttpBody(content_type="application/json", data=b'{"data":' + transformed + b"}")


def _read(request: HttpBody, form: type[Body]) -> Body:
    try:
        request.data.decode()
        return msgspec.json.decode(request.data, type=form)
    except msgspec.ValidationError as error:
        raise BadRequest(f"the body is not of the documented form: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise not_json(request.data, error) from error


def _definition(given: _Transformation) -> TransformationDefinition:
    function = given.function
    return TransformationDefinition(
        mapping=given.mapping,
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


def _type(message: schemas_pb2.Type) -> Type:
    """A type that came as a message. It need not be an object, so it is read as that of a property."""
    [property_] = _properties([schemas_pb2.Property(name="value", type=message)])
    return property_.type


def _parsed_type(text: Raw) -> Type:
    return parse_type(bytes(text))


def _properties(messages: Iterable[schemas_pb2.Property]) -> tuple[Property, ...]:
    properties = list(messages)
    if not properties:
        return ()
    schema: Schema | None = schema_of(schemas_pb2.Type(kind="object", properties=properties))
    assert isinstance(schema, ObjectType)
    return schema.properties


def _json(value: object) -> HttpBody:
    return HttpBody(content_type="application/json", data=msgspec.json.encode(value))
