"""Customer.io's specification, the OpenAPI document of its Track API in `arcade-customerio-track-api`.

The document lacks two forms of a person's events: the action `page`, which its text describes and for which it repeats
`screen`, and `anonymous_id`, by which Segment's integration identifies people without an id. Later copies of it
name the time of attributes `timestamp`, this one `_timestamp`.
"""

from copy import deepcopy
from typing import Any, Final

from tests.connectors.specifications.documents import operation, read_document
from tests.connectors.specifications.specification import Operations

_BATCH: Final = "/api/v2/batch"


def _complete(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document with what it lacks."""
    completed = deepcopy(document)
    body = completed["paths"][_BATCH]["post"]["requestBody"]["content"]["application/json"]["schema"]
    people = next(each for each in body["properties"]["batch"]["items"]["anyOf"] if each["title"] == "Person")
    for each in people["anyOf"]:
        for person, event in (each.get("allOf", ()),) if len(each.get("allOf", ())) == 2 else ():
            action = event["properties"]["action"]["enum"]
            if action == ["identify"]:
                event["properties"]["timestamp"] = event["properties"].pop("_timestamp")
            if action in (["event"], ["screen"]):
                event["properties"]["action"]["enum"] = ["screen", "page"] if action == ["screen"] else action
                person["properties"]["identifiers"]["oneOf"].append(
                    {"properties": {"anonymous_id": {"type": "string"}}, "required": ["anonymous_id"]}
                )
    return completed


_DOCUMENT: Final = _complete(read_document("arcade-customerio-track-api"))

SPECIFICATION: Final = Operations(
    operation(_DOCUMENT, "GET", "/api/v1/accounts/region"),
    operation(_DOCUMENT, "POST", _BATCH),
)
