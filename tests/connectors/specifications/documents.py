"""OpenAPI documents of vendors in packages that describe their operations for other programs."""

from functools import cache
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, Final

import msgspec

from tests.connectors.specifications.schemas import Schema, close
from tests.connectors.specifications.specification import Operation

_DOCUMENT: Final = "moar/openapi.json"


@cache
def read_document(package: str) -> dict[str, Any]:
    """Return the OpenAPI document of a package, without importing the package."""
    path = distribution(package).locate_file(f"{package.replace('-', '_')}/{_DOCUMENT}")
    document: dict[str, Any] = msgspec.json.decode(Path(str(path)).read_bytes())
    return document


def operation(document: dict[str, Any], method: str, path: str) -> Operation:
    """Return an operation of a document, of OpenAPI 3 or its predecessor."""
    described = document["paths"][path][method.lower()]
    parameters = [each for each in described.get("parameters", ()) if each["in"] == "query"]
    query: Schema = {
        "type": "object",
        "properties": {each["name"]: each.get("schema", each) for each in parameters},
        "required": [each["name"] for each in parameters if each.get("required")],
    }
    properties = {name: _schema(each) for name, each in query["properties"].items()}
    body = described.get("requestBody")
    return Operation(
        method,
        document.get("basePath", "") + path,
        query=close({**query, "properties": properties}),
        body=None if body is None else close(body["content"]["application/json"]["schema"]),
    )


def _schema(parameter: dict[str, Any]) -> Schema:
    """Return the schema of a parameter, whose members are also those of the parameter in the older format.

    An array is a text with commas, which is not divided.
    """
    if parameter.get("type") == "array":
        return {"type": "string"}
    return {name: value for name, value in parameter.items() if name in ("type", "items", "enum", "anyOf", "oneOf")}
