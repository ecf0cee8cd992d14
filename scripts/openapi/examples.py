"""By hand: examples of the bodies of typed calls, by service and method. A test sends each of them.

Ids in them are placeholders: a caller sets those of its own objects.
"""

from typing import Any, Final

_CONDITION: Final = {"property": "event", "operator": "is", "values": ["Order Completed"]}
_FILTER: Final = {"logical": "and", "conditions": [_CONDITION]}
_SCHEMA: Final = {
    "kind": "object",
    "properties": [{"name": "email", "type": {"kind": "string"}, "readOptional": True}],
}

EXAMPLES: Final[dict[str, dict[str, Any]]] = {
    "ApiKeyService.CreateApiKey": {"a key that reads": {"name": "Dashboard", "workspace": 1, "access": "Read"}},
    "ConnectionService.CreateConnection": {
        "a source of events": {"name": "Shop", "role": "Source", "connector": "http"},
        "a website": {"name": "Website", "role": "Source", "connector": "javascript", "strategy": "Fusion"},
    },
    "ConnectionService.UpdateConnection": {"another name": {"name": "Shop"}},
    "FilterService.ExplainFilter": {
        "an order": {
            "filter": _FILTER,
            "event": {"type": "track", "event": "Order Completed", "userId": "ada", "properties": {"total": 9.5}},
        }
    },
    "FilterService.ParseFilter": {"two conditions": {"text": 'type is "track" and event is "Order Completed"'}},
    "PipelineService.CreatePipeline": {
        "store events": {
            "connection": 1,
            "target": "Event",
            "name": "Store orders",
            "enabled": True,
            "filter": _FILTER,
        },
        "learn users": {"connection": 1, "target": "User", "name": "Learn users", "enabled": True},
    },
    "PipelineService.SetPipelineStatus": {"disable": {"enabled": False}},
    "PipelineService.UpdatePipeline": {"store all events": {"name": "Store events", "enabled": True}},
    "ProfileService.PreviewProfileSchemaUpdate": {"emails": {"schema": _SCHEMA}},
}
