"""The documented example of `POST /v1/connections/{id}/preview-send-event`, as it is printed, and its schema."""

import json
from typing import Any, Final

PRINTED_BODY: Final = """\
{
"type": "addToCart",
"event": {
"connectionId": 1371036433,
"anonymousId": "3e93e10e-5ca0-4a8c-bef6-cf9197b37729",
"context": {
"browser": {
"name": "Safari",
"version": "17.2.1"
},
"ip": "172.91.24.57",
"library": {
"name": "krenalis.js",
"version": "1.0.0"
},
"locale": "en-US",
"os": {
"name": "macOS",
"version": "14.5"
},
"page": {
"path": "/dashboard",
"title": "User Dashboard",
"url": "https://app.example.com/dashboard"
},
"screen": {
"width": 3024,
"height": 1964,
"density": 2
},
"session": {
"id": "1766272512048"
},
"timezone": "America/Los_Angeles",
"userAgent": "Mozilla/5.0 (Macintosh; Intel Mac OS X 14_5) AppleWebKit/605.1.15 (KHTML, like Gecko) \
Version/17.2.1 Safari/605.1.15"
},
"event": "Workout Completed",
"messageId": "82c8516b-434b-48f4-a32c-a6369e1543fd",
"properties": {
"workout_type": "Cardio",
"duration_minutes": 45,
"calories_burned": 380,
"device": "Smartwatch"
},
"receivedAt": "2025-10-20T16:15:24.340Z",
"sentAt": "2025-10-20T16:15:24.327Z",
"originalTimestamp": "2025-10-20T16:15:23.992Z",
"timestamp": "2025-10-20T16:15:24.010Z",
"type": "track",
"userId": "720572415"
},
"transformation": {
"mapping": {
"eventName": "event",
"attributes": "properties"
}
},
"outSchema": {
"kind": "object",
"properties": [
{
"name": "eventName",
"type": {
"kind": "string"
}
},
{
"name": "attributes",
"type": {
"kind": "map",
"elementType": {
"kind": "json"
}
}
}
]
}
}
"""


def preview_body(**changes: Any) -> dict[str, Any]:
    """Return the example with other members; None stands for null."""
    return {**json.loads(PRINTED_BODY), **changes}


def preview_event(**changes: Any) -> dict[str, Any]:
    """Return the event of the example with other members, without those that are `...`."""
    event = {**json.loads(PRINTED_BODY)["event"], **changes}
    return {name: value for name, value in event.items() if value is not ...}


def find_schema(**kinds: str) -> dict[str, Any]:
    """Return an object schema with properties of these kinds."""
    return {
        "kind": "object",
        "properties": [{"name": name, "type": {"kind": kind}} for name, kind in kinds.items()],
    }
