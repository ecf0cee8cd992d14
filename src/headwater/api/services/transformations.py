"""TransformationService: checks expressions and tries transformations before they are saved."""

from collections.abc import Iterable

import msgspec
from google.api.httpbody_pb2 import HttpBody
from msgspec import Raw, Struct

from headwater.api.messages.pipelines import read_transformation
from headwater.api.messages.rawjson import NULL, TransformationBody, read_body
from headwater.api.messages.schema import to_schema
from headwater.api.offloop import compute, find_owner
from headwater.api.request import Context, authenticate
from headwater.base.computing import Computing
from headwater.catalog import Catalog
from headwater.management.bounds import check_expressions
from headwater.management.transformations import Trial, begin_trial, end_trial, run_trial, trial_owner
from headwater.rest.v1 import transformations_pb2_grpc as rest_grpc
from headwater.schemas import ObjectType, Property, Schema, Type, parse_schema, parse_type
from headwater.transforms.functions import Prepared, Runner, RunOutput
from headwater.transforms.mapping import list_properties, validate_expression
from headwater.v1 import schemas_pb2, transformations_pb2_grpc
from headwater.v1 import transformations_pb2 as pb


class _Trial(Struct, rename="camel"):
    data: Raw
    in_schema: Raw = NULL
    out_schema: Raw = NULL
    transformation: TransformationBody | None = None
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
    schema: Raw = NULL


class TransformationServicer(transformations_pb2_grpc.TransformationServiceServicer):
    """Checks expressions, and tries transformations."""

    def __init__(self, catalog: Catalog, functions: Runner, computing: Computing) -> None:
        self._catalog = catalog
        self._functions = functions
        self._computing = computing

    async def ListTransformationLanguages(
        self, request: pb.ListTransformationLanguagesRequest, context: Context
    ) -> pb.ListTransformationLanguagesResponse:
        await authenticate(self._catalog, context)
        return pb.ListTransformationLanguagesResponse(languages=self._functions.languages())

    async def ValidateExpression(
        self, request: pb.ValidateExpressionRequest, context: Context
    ) -> pb.ValidateExpressionResponse:
        owner = find_owner(await authenticate(self._catalog, context))
        return await compute(self._computing, owner, _validate, request)

    async def ListExpressionProperties(
        self, request: pb.ListExpressionPropertiesRequest, context: Context
    ) -> pb.ListExpressionPropertiesResponse:
        owner = find_owner(await authenticate(self._catalog, context))
        return await compute(self._computing, owner, _list_properties, request)

    async def TransformData(self, request: pb.TransformDataRequest, context: Context) -> pb.TransformDataResponse:
        owner = find_owner(await authenticate(self._catalog, context))
        transformed = await _transform(self._functions, self._computing, owner, request)
        return pb.TransformDataResponse(data_json=transformed.decode())


class TransformationRestServicer(rest_grpc.TransformationServiceServicer):
    """Checks expressions and tries transformations that come as raw JSON, so that numbers keep every digit."""

    def __init__(self, catalog: Catalog, functions: Runner, computing: Computing) -> None:
        self._catalog = catalog
        self._functions = functions
        self._computing = computing

    async def ValidateExpression(self, request: HttpBody, context: Context) -> HttpBody:
        owner = find_owner(await authenticate(self._catalog, context))
        return await compute(self._computing, owner, _validate_json, request)

    async def ListExpressionProperties(self, request: HttpBody, context: Context) -> HttpBody:
        owner = find_owner(await authenticate(self._catalog, context))
        return await compute(self._computing, owner, _list_properties_json, request)

    async def TransformData(self, request: HttpBody, context: Context) -> HttpBody:
        owner = find_owner(await authenticate(self._catalog, context))
        transformed = await _transform(self._functions, self._computing, owner, request)
        return HttpBody(content_type="application/json", data=b'{"data":' + transformed + b"}")


async def _transform(
    functions: Runner, computing: Computing, owner: str, request: pb.TransformDataRequest | HttpBody
) -> bytes:
    trial = trial_owner()
    begun = await compute(computing, owner, _begin_trial, request, trial)
    if isinstance(begun, bytes):
        return begun
    ran = await run_trial(functions, begun, owner)
    return await compute(computing, owner, _end_trial, request, trial, ran)


def _validate(request: pb.ValidateExpressionRequest) -> pb.ValidateExpressionResponse:
    problem = validate_expression(request.expression, _properties(request.properties), _type(request.type))
    return pb.ValidateExpressionResponse(problem=problem)


def _validate_json(request: HttpBody) -> HttpBody:
    body = read_body(request, _Validation)
    properties: tuple[Property, ...] = ()
    if body.properties:
        members = b",".join(bytes(each) for each in body.properties)
        schema = parse_schema(b'{"kind":"object","properties":[' + members + b"]}")
        properties = () if schema is None else schema.properties
    return _json(validate_expression(body.expression, properties, _parsed_type(body.type)))


def _list_properties(request: pb.ListExpressionPropertiesRequest) -> pb.ListExpressionPropertiesResponse:
    check_expressions([each.value for each in request.expressions], "expressions")
    expressions = [(each.value, _type(each.type)) for each in request.expressions]
    schema = to_schema(request.schema) if request.HasField("schema") else None
    return pb.ListExpressionPropertiesResponse(properties=list_properties(expressions, schema))


def _list_properties_json(request: HttpBody) -> HttpBody:
    body = read_body(request, _Expressions)
    check_expressions([each.value for each in body.expressions], "expressions")
    expressions = [(each.value, _parsed_type(each.type)) for each in body.expressions]
    return _json(list_properties(expressions, parse_schema(bytes(body.schema))))


def _begin_trial(request: pb.TransformDataRequest | HttpBody, owner: str) -> bytes | Prepared:
    return begin_trial(_trial(request), owner)


def _end_trial(request: pb.TransformDataRequest | HttpBody, owner: str, ran: RunOutput) -> bytes:
    return end_trial(_trial(request), owner, ran)


def _trial(request: pb.TransformDataRequest | HttpBody) -> Trial:
    if isinstance(request, HttpBody):
        body = read_body(request, _Trial)
        return Trial(
            data=bytes(body.data),
            in_schema=parse_schema(bytes(body.in_schema)),
            out_schema=parse_schema(bytes(body.out_schema)),
            transformation=None if body.transformation is None else body.transformation.definition(),
            purpose=body.purpose or "",
        )
    return Trial(
        data=request.data_json,
        in_schema=to_schema(request.in_schema) if request.HasField("in_schema") else None,
        out_schema=to_schema(request.out_schema) if request.HasField("out_schema") else None,
        transformation=read_transformation(request.transformation) if request.HasField("transformation") else None,
        purpose=request.purpose,
    )


def _type(message: schemas_pb2.DataType) -> Type:
    """A type that came as a message. It need not be an object, so it is read as that of a property."""
    [property_] = _properties([schemas_pb2.Property(name="value", type=message)])
    return property_.type


def _parsed_type(text: Raw) -> Type:
    return parse_type(bytes(text))


def _properties(messages: Iterable[schemas_pb2.Property]) -> tuple[Property, ...]:
    properties = list(messages)
    if not properties:
        return ()
    schema: Schema | None = to_schema(schemas_pb2.DataType(kind="object", properties=properties))
    assert isinstance(schema, ObjectType)
    return schema.properties


def _json(value: object) -> HttpBody:
    return HttpBody(content_type="application/json", data=msgspec.json.encode(value))
