"""The access of calls, and every status other than success that they can have.

The protos say in words which services need which credentials; this states it for programs, once for each service. A
new service must be added to `ACCESS`, or generating fails.
"""

from dataclasses import dataclass
from typing import Any, Literal

Access = Literal["management", "track", "client", "native", "public"]

ACCESS: dict[str, Access] = {
    "ApiKeyService": "management",
    "ApplicationService": "management",
    "ClientService": "client",
    "ConnectionService": "management",
    "ConnectorService": "management",
    "DatabaseService": "management",
    "DeliveryService": "management",
    "DeviceService": "management",
    "ErasureService": "management",
    "EventService": "management",
    "FileService": "management",
    "FilterService": "management",
    "IdentityResolutionService": "management",
    "IdentityService": "management",
    "NativeEventService": "native",
    "OperationService": "management",
    "PipelineService": "management",
    "ProfileService": "management",
    "SchemaService": "management",
    "SystemService": "public",
    "TrackService": "track",
    "TransformationService": "management",
    "WorkspaceService": "management",
}
WITHOUT_CREDENTIALS = {"TrackService.GetProjectSettings", "NativeEventService.GetEventSettings"}

SECURITY: dict[Access, list[dict[str, list[str]]]] = {
    "management": [{"apiKey": []}],
    "track": [{"writeKeyAsUser": []}, {"writeKey": []}, {}],
    "client": [{"writeKey": []}],
    "native": [{"writeKey": []}, {"apiKey": []}, {}],
    "public": [],
}

SECURITY_SCHEMES: dict[str, Any] = {
    "apiKey": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key, which starts with `api_`. A key that is not restricted to one workspace also "
        "needs the header `Headwater-Workspace`.",
    },
    "writeKey": {
        "type": "http",
        "scheme": "bearer",
        "description": "An event write key of a source connection. It can send events and do nothing else.",
    },
    "writeKeyAsUser": {
        "type": "http",
        "scheme": "basic",
        "description": "An event write key as the user name, with an empty password. It may also stand in the header "
        "`X-Write-Key`, or in the body as the member `writeKey`, for callers that cannot set headers.",
    },
}

WORKSPACE = {
    "name": "Headwater-Workspace",
    "in": "header",
    "description": "The id of the workspace to work in. Required with an API key that is not restricted to one.",
    "schema": {"type": "integer", "format": "int32", "minimum": 1, "maximum": 2**31 - 1},
}
STRICT_MODE = {
    "name": "X-Strict-Mode",
    "in": "header",
    "description": "`1` asks for the true status. Without it a call that is refused is kept with its reason and still "
    "answered 200, because most SDKs send a refused call again.",
    "schema": {"$ref": "#/components/schemas/StrictMode"},
}
CONTENT_ENCODING = {
    "name": "Content-Encoding",
    "in": "header",
    "description": "How the body is compressed, if it is.",
    "schema": {"$ref": "#/components/schemas/ContentEncodingName"},
}
HEADERS: dict[Access, list[dict[str, Any]]] = {"management": [WORKSPACE], "track": [STRICT_MODE], "native": [WORKSPACE]}

_STATUSES = {
    400: ("BadRequest", "The request cannot be read, or holds a value that is never valid: `BadRequest`."),
    401: ("Unauthorized", "The credentials are absent or not known: `Unauthorized`."),
    403: ("Forbidden", "The credentials are known but do not allow this: `Forbidden`."),
    404: ("NotFound", "Something that the path or a header names does not exist: `NotFound`."),
    413: ("PayloadTooLarge", "The body, or one item in it, is over its limit: `PayloadTooLarge`."),
    422: ("Unprocessable", "In conflict with the present state."),
    429: ("TooManyRequests", "Nothing was done; to be repeated after `Retry-After` seconds: `TooManyRequests`."),
    501: ("NotImplemented", "This installation cannot do what the call asks for: `NotImplemented`."),
    503: ("ServiceUnavailable", "Nothing was done; to be repeated after `Retry-After` seconds: `ServiceUnavailable`."),
    504: ("Timeout", "The server did not answer in time: `Timeout`."),
}
_RETRIED = (429, 503)
_NEEDS_WAREHOUSE = frozenset(("EventService.ListEvents", "EventService.CountEvents", "OperationService.ReplayEvents"))
"""Calls that use optional parts of the warehouse."""

_FIELD = {
    "type": "string",
    "description": "The path of the invalid value in the request, such as `linkedConnections[2]`. Absent unless one "
    "value is the cause.",
}
_ERROR_SCHEMAS: dict[str, Any] = {
    "Error": {
        "type": "object",
        "description": "Every error that is not of the track or the client API, whoever refused: the server, or the "
        "gateway.",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["code", "message"],
                "properties": {
                    "code": {"type": "string", "description": "For programs; it does not change."},
                    "message": {"type": "string", "description": "For people: it names the field and the rule."},
                    "field": _FIELD,
                },
            }
        },
    },
    "TrackError": {
        "type": "object",
        "description": "An error of the track API, in the shape that its SDKs need.",
        "required": ["success", "code", "message", "meta"],
        "properties": {
            "success": {"const": False},
            "code": {"type": "string", "description": "For programs; it does not change."},
            "message": {"type": "string", "description": "For people: it names the field and the rule."},
            "field": _FIELD,
            "meta": {
                "type": "object",
                "required": ["errors"],
                "properties": {
                    "errors": {
                        "type": "array",
                        "items": {"type": "string"},
                        "description": "What is wrong, at most the first 20 items.",
                    }
                },
            },
        },
    },
    "ClientError": {
        "type": "object",
        "description": "An error of the client API, in the shape that its SDKs need.",
        "required": ["status", "error"],
        "properties": {
            "status": {"const": "error"},
            "error": {"type": "string", "description": "For people: it names the member and the rule."},
            "code": {"type": "integer", "description": "1000 when the key is absent or not known."},
        },
    },
}


def error_schemas(codes: list[str]) -> dict[str, Any]:
    """Return the schemas of errors; `codes` are the codes of the present version, of which later ones have more."""
    code = {"type": "string", "description": "For programs; it does not change.", "examples": codes}
    error, track = _ERROR_SCHEMAS["Error"]["properties"]["error"], _ERROR_SCHEMAS["TrackError"]
    return {
        **_ERROR_SCHEMAS,
        "Error": {
            **_ERROR_SCHEMAS["Error"],
            "properties": {"error": {**error, "properties": {**error["properties"], "code": code}}},
        },
        "TrackError": {**track, "properties": {**track["properties"], "code": code}},
    }


_FAMILIES: dict[Access, str] = {"track": "Track", "client": "Client"}
"""The prefixes of the errors with a shape of their own."""


@dataclass(frozen=True)
class Call:
    """The properties that decide which statuses a call can have."""

    name: str
    """Service and method, with a dot."""
    access: Access
    reasons: list[str]
    """The reasons of status 422."""
    has_body: bool
    has_path_parameters: bool


def find_access(service: str, method: str) -> Access:
    """Return who may make this call."""
    return "public" if f"{service}.{method}" in WITHOUT_CREDENTIALS else ACCESS[service]


def responses(call: Call) -> dict[str, Any]:
    """The responses other than success, as references; 422 with its reasons."""
    family = _FAMILIES.get(ACCESS[call.name.partition(".")[0]], "")
    made: dict[str, Any] = {
        str(status): {"$ref": f"#/components/responses/{family}{_STATUSES[status][0]}"} for status in _statuses(call)
    }
    made["504"] = {"$ref": "#/components/responses/Timeout"}  # only the gateway says so
    if call.reasons:
        reasons = ", ".join(f"`{reason}`" for reason in call.reasons)
        made["422"] = _response(f"In conflict with the present state: {reasons}.", "Error")
    return made


def components() -> dict[str, Any]:
    """The responses that `responses` refers to."""
    made = {
        f"{family}{name}": _response(text, f"{family}Error", retried=status in _RETRIED, limited=status == 429)
        for family in ("", *_FAMILIES.values())
        for status, (name, text) in sorted(_STATUSES.items())
        if not (family and status == 504)
    }
    made["ClientUnprocessable"]["description"] = "The call breaks a rule; nothing of it is accepted."
    for family in _FAMILIES.values():
        either = {"anyOf": [{"$ref": f"#/components/schemas/{name}"} for name in (f"{family}Error", "Error")]}
        unavailable = made[f"{family}ServiceUnavailable"]  # the server, or the gateway
        unavailable["content"]["application/json"]["schema"] = either
    return made


def _statuses(call: Call) -> list[int]:
    statuses = {503, 504}
    if call.access == "management":
        statuses |= {400, 401, 403, 404}
        statuses |= {413} if call.has_body else set()
    elif call.access != "public":
        statuses |= {400, 401, 413, 429}
    if call.access == "native":
        statuses |= {403, 404}
    if call.has_path_parameters:
        statuses |= {400, 404}
    if call.name in _NEEDS_WAREHOUSE:
        statuses.add(501)
    if call.name == "NativeEventService.GetEventSettings":
        statuses.add(401)  # an unknown key is in the path
    if call.reasons or call.access == "client":
        statuses.add(422)
    return sorted(statuses)


def _number(description: str) -> dict[str, Any]:
    return {"description": description, "schema": {"type": "integer", "minimum": 0}}


RATE_LIMIT = {
    "RateLimit-Limit": _number("How many events may come at once, where the operator has set a limit."),
    "RateLimit-Remaining": _number("How many more may come now."),
    "RateLimit-Reset": _number("Seconds until all of them may."),
}


def _response(text: str, schema: str, *, retried: bool = False, limited: bool = False) -> dict[str, Any]:
    response: dict[str, Any] = {
        "description": text,
        "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}},
    }
    if retried:
        response["headers"] = {"Retry-After": _number("Seconds to wait.")}
    if limited:
        response["headers"] |= RATE_LIMIT
    return response
