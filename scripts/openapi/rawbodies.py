"""By hand: the JSON inside google.api.HttpBody, which the protos carry as bytes.

These are the shapes that callers should send and will get. The server's own rules for events are in headwater.events,
and more lenient where SDKs are: an id may be null, unknown members are kept.
"""

from dataclasses import dataclass, field
from typing import Any

from openapi.schemas import Schema, Schemas

_V1 = ".headwater.v1."


@dataclass(frozen=True)
class RawBody:
    """The bodies of a call whose message is an HttpBody."""

    request: Schema | None = None
    response: Schema | None = None
    status: int = 200
    answer: str = "Success."
    media_type: str = "application/json"
    examples: dict[str, Any] = field(default_factory=dict)


def component(name: str) -> Schema:
    """A reference to a component of `SCHEMAS`."""
    return {"$ref": f"#/components/schemas/{name}"}


def _object(properties: dict[str, Schema], *required: str, description: str = "") -> Schema:
    schema: Schema = {"type": "object", "properties": properties, "additionalProperties": True}
    if required:
        schema["required"] = list(required)
    if description:
        schema["description"] = description
    return schema


def _text(description: str, **rules: Any) -> Schema:
    return {"type": "string", "description": description, **rules}


def _integer(description: str) -> Schema:
    return {"type": "integer", "description": description}


def _id(description: str) -> Schema:
    return {"type": ["string", "number", "null"], "maxLength": 1000, "description": f"{description} A number is text."}


def _free(description: str) -> Schema:
    return {"type": ["object", "null"], "additionalProperties": True, "description": description}


def _time(description: str) -> Schema:
    return {"type": ["string", "null"], "format": "date-time", "description": description}


_COMMON: dict[str, Schema] = {
    "messageId": _id("Identifies the event: a second one with the same id from the same source is not stored again."),
    "userId": _id("Who did it, after authentication."),
    "anonymousId": _id("Who did it, before authentication."),
    "timestamp": _time("When it happened. Absent means when it arrives."),
    "originalTimestamp": _time("When it happened by the client's own clock, when `timestamp` is corrected already."),
    "sentAt": _time("When the client sends it by its own clock, to correct `timestamp`."),
    "context": _free("The environment of the event: page, device, library, campaign and so on."),
    "integrations": _free('Which destinations are wanted, such as `{"All": false, "Mixpanel": true}`.'),
    "writeKey": _text("The event write key, for callers that cannot set headers."),
}
_SOMEBODY: list[Schema] = [{"required": ["userId"]}, {"required": ["anonymousId"]}]
_NAME = {"type": ["string", "null"], "maxLength": 1000}
_MEMBERS: dict[str, dict[str, Schema]] = {
    "identify": {"traits": _free("What is known about the user, such as an `email`.")},
    "track": {
        "event": _text("The name of the action.", minLength=1, maxLength=1000),
        "properties": _free("Properties of the action."),
    },
    "page": {
        "name": {**_NAME, "description": "The page's name."},
        "category": {**_NAME, "description": "Groups related pages."},
        "properties": _free("Properties of the page, such as its `url` and `title`."),
    },
    "screen": {
        "name": {**_NAME, "description": "The screen's name."},
        "properties": _free("Properties of the screen."),
    },
    "group": {
        "groupId": _id("Identifies the group."),
        "traits": _free("What is known about the group."),
    },
    "alias": {"previousId": _id("The id to give up; `userId` is the one to keep.")},
}


def _track_call(call: str, *required: str, somebody: bool = False, description: str) -> Schema:
    schema = _object({**_MEMBERS[call], **_COMMON}, *required, description=description)
    return {**schema, "anyOf": _SOMEBODY} if somebody else schema


def _native_event(description: str) -> Schema:
    members = {**_COMMON, **{name: schema for members in _MEMBERS.values() for name, schema in members.items()}}
    types = {**component("EventKind"), "description": "What happened."}
    return _object({"type": types, **members}, "type", description=description)


def _with_text_ids(schema: Schema) -> Schema:
    members = {
        name: {
            **member,
            "type": ["string", "null"],
            "description": member["description"].removesuffix(" A number is text."),
        }
        if "number" in member.get("type", ())
        else member
        for name, member in schema["properties"].items()
    }
    return {**schema, "properties": members}


_PERSON: dict[str, Schema] = {
    "anonymous_id": {"type": ["string", "null"], "description": "The user before authentication."},
    "external_id": {"type": ["string", "null"], "description": "The user after authentication."},
}
_KNOWN_PERSON: list[Schema] = [{"required": ["anonymous_id"]}, {"required": ["external_id"]}]
_CONTACT: dict[str, Schema] = {
    name: {"type": ["string", "null"]} for name in ("email", "phone", "timezone", "locale")
} | {"data": _free("Anything else.")}

_NEXT_PAGE_TOKEN = _text("What to pass as `pageToken` for the next page; empty at the end.")
_STORED: dict[str, Schema] = {
    "kpid": _text("The id of the profile that the user was resolved to. Absent before.", format="uuid"),
    "connectionId": {"type": "integer", "format": "int32", "description": "The source connection."},
    "messageId": _text("Identifies the event within its source connection."),
    "type": {**component("EventKind"), "description": "What happened."},
    "userId": _text("Who did it, after authentication."),
    "anonymousId": _text("Who did it, before authentication."),
    "previousId": _text("The id that the user had before."),
    "groupId": _text("The id of the group."),
    "event": _text("The name of the action."),
    "name": _text("The title of the page or screen."),
    "category": _text("Groups related pages."),
    "channel": _text("Where the event comes from."),
    "context": {"type": "object", "description": "The environment, as it was sent, completed by the server."},
    "properties": {"type": "object", "description": "Properties, exactly as they were sent."},
    "traits": {"type": "object", "description": "Traits, exactly as they were sent."},
    "integrations": {"type": "object", "description": "Which destinations are wanted."},
    "timestamp": _text("When it happened, corrected by the clocks' difference.", format="date-time"),
    "originalTimestamp": _text("When it happened by the client's clock.", format="date-time"),
    "sentAt": _text("When the client sent it by its clock.", format="date-time"),
    "receivedAt": _text("When the server received it.", format="date-time"),
}

SCHEMAS: dict[str, Schema] = {
    "IdentifyCall": _track_call("identify", description="Who the user is. Needs an id, or an email in `traits`."),
    "TrackCall": _track_call("track", "event", somebody=True, description="An action of a user."),
    "PageCall": _track_call("page", somebody=True, description="A page that a user viewed."),
    "ScreenCall": _track_call("screen", somebody=True, description="A screen that a user viewed."),
    "GroupCall": _track_call("group", "groupId", description="A group, and a user who belongs to it, if one is named."),
    "AliasCall": _track_call("alias", "previousId", "userId", description="Two ids of one user."),
    "BatchEvent": _native_event("One call of a batch: the members of the call that `type` names."),
    "BatchCall": _object(
        {
            "batch": {"type": "array", "items": component("BatchEvent"), "description": "The calls, in their order."},
            "context": _free("The default of the calls' `context`."),
            "integrations": _free("The default of the calls' `integrations`."),
            "sentAt": _COMMON["sentAt"],
            "writeKey": _COMMON["writeKey"],
        },
        "batch",
        description="Many calls at once.",
    ),
    "StoredEvent": _object(
        _STORED,
        *("connectionId", "messageId", "type", "traits"),
        *("timestamp", "originalTimestamp", "sentAt", "receivedAt"),
        description="An event as it is stored. What was not sent is absent; members that have no field here are kept. "
        "With `properties` in the request, only the members that it names are there, required or not.",
    ),
    "StoredEventPage": _object(
        {
            "events": {"type": "array", "items": component("StoredEvent"), "description": "In the requested order."},
            "nextPageToken": _NEXT_PAGE_TOKEN,
        },
        *("events", "nextPageToken"),
        description="A page of events.",
    ),
    "EventSample": _object(_STORED, description="An event, or a part of one, in the shape in which it is stored."),
    "ClientAlias": _object(_PERSON, "anonymous_id", "external_id", description="An anonymous and a known user."),
    "ClientIdentify": {
        **_object({**_PERSON, **_CONTACT}, description="What is known about a user."),
        "anyOf": _KNOWN_PERSON,
        "additionalProperties": False,
    },
    "ClientDevice": {
        **_object(
            {
                **_PERSON,
                "token": {"type": ["string", "null"], "description": "For push notifications."},
                **{name: {"type": "string"} for name in ("device_id", "os", "model", "app_build", "app_version")},
                "os_version": {"type": "string"},
            },
            *("device_id", "os", "model", "app_build", "app_version"),
            description="A device of a user.",
        ),
        "anyOf": _KNOWN_PERSON,
    },
    "ClientEvent": {
        **_object(
            {
                "name": {"type": ["string", "null"], "description": "What happened. Absent means empty."},
                **_PERSON,
                "data": _free("Properties of the event."),
                "user": {**_object(_CONTACT), "type": ["object", "null"]},
            },
            description="Something that a user did.",
        ),
        "anyOf": _KNOWN_PERSON,
    },
    "ClientTrack": {
        **_object(
            {"event": _text("What happened."), **_PERSON, "data": _free("Properties of the event.")},
            description="Something that a user did, as the JavaScript SDK says it.",
        ),
        "anyOf": _KNOWN_PERSON,
    },
    "NativeEvent": _with_text_ids(_native_event("An event in the shape in which it is stored.")),
}

_EXAMPLES: dict[str, Any] = {
    "identify": {"userId": "ada", "traits": {"email": "ada@example.com", "plan": "pro"}},
    "track": {"userId": "ada", "event": "Order Completed", "properties": {"total": 9.5, "currency": "EUR"}},
    "page": {"anonymousId": "b3c1", "name": "Home", "properties": {"url": "https://shop.example/"}},
    "screen": {"userId": "ada", "name": "Basket"},
    "group": {"userId": "ada", "groupId": "acme", "traits": {"name": "Acme"}},
    "alias": {"previousId": "b3c1", "userId": "ada"},
}
_NOTHING = _object({}) | {"maxProperties": 0}
_DURABLE = "The call is durable, or, without `X-Strict-Mode: 1`, was refused and kept with its reason."


def raw_bodies(schemas: Schemas) -> dict[str, RawBody]:
    """The raw bodies by service and method, with a dot; `schemas` gives references to components of the protos."""

    def sent(name: str) -> Schema:
        return schemas.reference(_V1 + name, "sent")

    def answered(name: str) -> Schema:
        return schemas.reference(_V1 + name, "answered")

    people = {"type": "object", "additionalProperties": True}
    listed: Schema = {"type": "array", "items": component("StoredEvent")}
    events = _object({"events": listed}, "events")
    step_counts = {
        "type": "array",
        "items": {"type": "array", "minItems": 6, "maxItems": 6, "items": _integer("Records.")},
        "description": "For each minute, hour or day the records of each of the six steps.",
    }
    error = {
        "pipeline": _integer("The id of the pipeline."),
        "step": _integer("The number of the step, from 0 to 5."),
        "count": _integer("How many records failed."),
        "message": _text("The reason, for people."),
        "lastOccurred": _text("When the last of them failed.", format="date-time"),
    }
    profile = {
        "kpid": _text("The profile's id.", format="uuid"),
        "updatedAt": _time("When an attribute last changed."),
        "attributes": people,
    }
    native: Schema = {
        "anyOf": [
            component("NativeEvent"),
            {"type": "array", "items": component("NativeEvent")},
            _object(
                {
                    "batch": {"type": "array", "minItems": 1, "maxItems": 20_000, "items": component("NativeEvent")},
                    "context": {"type": "object", "description": "The default of the events' `context`."},
                    "sentAt": _text("The default of the events' `sentAt`.", format="date-time"),
                    "writeKey": _COMMON["writeKey"],
                    "connectionId": _text("The source connection, for callers with an API key.")
                    | {"type": "integer", "format": "int32", "minimum": 1},
                },
                "batch",
            ),
        ]
    }
    bodies = {
        f"TrackService.{call.capitalize()}": RawBody(
            component(f"{call.capitalize()}Call"), _NOTHING, answer=_DURABLE, examples={call: example}
        )
        for call, example in _EXAMPLES.items()
    }
    batch = {"batch": [{"type": call, **example} for call, example in _EXAMPLES.items()]}
    batches: Schema = {
        "anyOf": [
            component("BatchCall"),
            {"type": "array", "items": component("BatchEvent")},
            component("BatchEvent"),
        ]
    }
    return bodies | {
        "TrackService.Batch": RawBody(batches, _NOTHING, answer=_DURABLE, examples={"one of each": batch}),
        "TrackService.GetProjectSettings": RawBody(response=people, answer="The settings that SDKs expect."),
        "ClientService.Alias": RawBody(component("ClientAlias"), status=204, answer="The call is durable."),
        "ClientService.Identify": RawBody(component("ClientIdentify"), status=204, answer="The call is durable."),
        "ClientService.RegisterDevice": RawBody(component("ClientDevice"), status=204, answer="The call is durable."),
        "ClientService.PostEvents": RawBody(
            {"type": "array", "minItems": 1, "items": component("ClientEvent")}, status=204, answer="All are durable."
        ),
        "ClientService.Track": RawBody(component("ClientTrack"), status=204, answer="The event is durable."),
        "NativeEventService.PostEvents": RawBody(native, answer="Accepted events are durable."),
        "NativeEventService.PostEvent": RawBody(component("NativeEvent"), answer="The event is durable."),
        "NativeEventService.GetEventSettings": RawBody(response=people, answer="The settings that SDKs expect."),
        "ConnectionService.ListConnections": RawBody(response=answered("ListConnectionsResponse")),
        "EventService.ListEvents": RawBody(response=component("StoredEventPage"), answer="The events of the page."),
        "EventService.GetEventListener": RawBody(
            response=_object(
                {"events": listed, "omitted": _integer("How many events were not kept.")}, "events", "omitted"
            ),
            answer="The events that were kept.",
        ),
        "ErasureService.ExportProfile": RawBody(
            response={"type": "string", "description": "A JSON object with kind and record in each line."},
            answer="The records of the person.",
            media_type="application/x-ndjson",
        ),
        "EventService.WatchEvents": RawBody(
            response={"type": "string", "description": "Events as they arrive."},
            answer="Server-sent events, until the connection is closed.",
            media_type="text/event-stream",
        ),
        "PipelineService.ListPipelineErrors": RawBody(
            response=_object({"errors": {"type": "array", "items": _object(error, *error)}}, "errors"),
            answer="The errors, the latest first.",
        ),
        "PipelineService.GetPipelineMetrics": RawBody(
            response=_object(
                {
                    "start": _text("The start of the first.", format="date-time"),
                    "end": _text("The end of the last.", format="date-time"),
                    "passed": step_counts,
                    "failed": step_counts,
                },
                *("start", "end", "passed", "failed"),
            ),
            answer="The counts of each minute, hour or day.",
        ),
        "ProfileService.ListProfileEvents": RawBody(response=events, answer="The events, the latest first."),
        "ProfileService.ListProfiles": RawBody(
            response=_object(
                {
                    "profiles": {"type": "array", "items": _object(profile, "kpid", "updatedAt", "attributes")},
                    "schema": answered("DataType"),
                    "total": {"type": "integer", "format": "int32"},
                    "nextPageToken": _NEXT_PAGE_TOKEN,
                },
                *("profiles", "schema", "total", "nextPageToken"),
            )
        ),
        "ProfileService.FindProfiles": RawBody(
            response=_object(
                {"profiles": {"type": "array", "items": _object(profile, "kpid", "updatedAt", "attributes")}},
                "profiles",
            )
        ),
        "ProfileService.GetProfileAttributes": RawBody(
            response=_object({"kpid": profile["kpid"], "attributes": people}, "kpid", "attributes")
        ),
        "ApplicationService.ListApplicationUsers": RawBody(
            response=_object(
                {"users": {"type": "array", "items": people}, "cursor": _text("What to pass for the next page.")},
                *("users", "cursor"),
            )
        ),
        "FileService.ListFileRecords": RawBody(
            response=_object(
                {
                    "records": {"type": "array", "items": people},
                    "schema": {"anyOf": [answered("DataType"), {"type": "null"}]},
                    "issues": {"type": ["array", "null"], "items": {"type": "string"}},
                },
                *("records", "schema", "issues"),
            )
        ),
        "ApplicationService.PreviewSendEvent": RawBody(
            _object(
                {
                    "type": _text("The id of an event type.", minLength=1, maxLength=100),
                    "event": component("EventSample"),
                    "transformation": sent("Transformation"),
                    "outSchema": sent("DataType"),
                },
                *("type", "event"),
            )
        ),
        "ApplicationService.PreviewExportUser": RawBody(
            _object(
                {
                    "user": _object({}, description="The attributes of a profile."),
                    "transformation": sent("Transformation"),
                    "outSchema": sent("DataType"),
                    "userId": _text("The application's id of the user to update. Absent means none.", maxLength=1000),
                    "matching": sent("Matching"),
                },
                *("user", "transformation", "outSchema"),
            )
        ),
        "DatabaseService.QueryDatabase": RawBody(
            response=_object(
                {
                    "rows": {"type": "array", "items": people},
                    "schema": {"anyOf": [answered("DataType"), {"type": "null"}]},
                    "issues": {"type": ["array", "null"], "items": {"type": "string"}},
                },
                *("rows", "schema", "issues"),
            ),
            answer="The first rows.",
        ),
        "FilterService.ExplainFilter": RawBody(
            _object({"filter": sent("Filter"), "event": component("EventSample")}, "filter", "event")
        ),
        "TransformationService.ValidateExpression": RawBody(
            sent("ValidateExpressionRequest"), _text("Why the expression is not valid; empty when it is.")
        ),
        "TransformationService.ListExpressionProperties": RawBody(
            sent("ListExpressionPropertiesRequest"), {"type": "array", "items": {"type": "string"}}
        ),
        "TransformationService.TransformData": RawBody(
            _object(
                {
                    "data": people,
                    "inSchema": sent("DataType"),
                    "outSchema": sent("DataType"),
                    "transformation": sent("Transformation"),
                    "purpose": {
                        **component("TransformationPurpose"),
                        "description": "Which properties must come out.",
                    },
                },
                *("data", "inSchema", "outSchema", "transformation", "purpose"),
            ),
            _object({"data": people}, "data"),
        ),
        "SystemService.GetDescriptors": RawBody(
            response={"type": "string", "contentMediaType": "application/octet-stream"},
            answer="The descriptor set.",
            media_type="application/octet-stream",
        ),
        "SystemService.GetOpenApi": RawBody(
            response=_object({"openapi": {"const": "3.1.0"}}, "openapi", "info", "paths"), answer="This document."
        ),
    }
