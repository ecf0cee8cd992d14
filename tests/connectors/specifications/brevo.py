"""Brevo's specification, from the operations of `brevo-python`, which Brevo generates from its API definition.

The package has the types of parameters, and their names in JSON in its code. So each operation is called with the names
of its parameters as values, and its request shows where each of them is. The types of properties of events lack
numbers with a fraction, and in batches truth values, which their descriptions name: all values are allowed.
"""

import inspect
from typing import Any, Final

from tests.connectors.specifications.schemas import Types, read
from tests.connectors.specifications.specification import Operation, Operations

_BARE: Final = ("brevo", "brevo.event", "brevo.contacts", "brevo.account")
_PROPERTIES: Final = frozenset({"event_properties", "contact_properties"})
_NO_PARAMETERS: Final = frozenset({"self", "request_options", "return"})


class _Called(BaseException):
    """The request of an operation."""

    def __init__(self, path: str, method: str, query: dict[str, str], body: dict[str, str]) -> None:
        self.path = path
        self.method = method
        self.query = query
        self.body = body


class _Client:
    """Stands for the client of the package, and does not send requests."""

    httpx_client: Any

    def __init__(self) -> None:
        self.httpx_client = self

    def request(self, path: str, *, method: str, params: Any = None, json: Any = None, **_: Any) -> None:
        raise _Called(path, method, params or {}, json or {})


def _operation(module: str, client: str, name: str) -> Operation:
    function = getattr(read(f"brevo.{module}.raw_client", client, *_BARE), name)
    types = Types()
    hints = {key: hint for key, hint in types.hints(function).items() if key not in _NO_PARAMETERS}
    parameters = inspect.signature(function).parameters

    def members(names: dict[str, str]) -> Any:
        given = {key: hints[parameter] for key, parameter in names.items()}
        required = [key for key, parameter in names.items() if parameters[parameter].default is inspect.Parameter.empty]
        schema = types.members(given, required)
        for each in (schema, schema["properties"].get("events", {}).get("items", {})):
            each.get("properties", {}).update(
                {key: {"type": "object"} for key in _PROPERTIES & set(each.get("properties", {}))}
            )
        return types.closed(schema)

    owner = read(f"brevo.{module}.raw_client", client)(client_wrapper=_Client())
    try:
        function(owner, **{parameter: parameter for parameter in hints})
    except _Called as called:
        body = members(called.body) if called.body else None
        path = f"/v3/{called.path}".replace("/identifier", "/{identifier}")
        return Operation(called.method, path, query=members(called.query), body=body)
    raise AssertionError(f"{name} sends no request")


SPECIFICATION: Final = Operations(
    _operation("account", "RawAccountClient", "get_account"),
    _operation("event", "RawEventClient", "create_event"),
    _operation("event", "RawEventClient", "create_batch_events"),
    _operation("contacts", "RawContactsClient", "get_attributes"),
    _operation("contacts", "RawContactsClient", "get_contacts"),
    _operation("contacts", "RawContactsClient", "create_contact"),
    _operation("contacts", "RawContactsClient", "get_contact_info"),
    _operation("contacts", "RawContactsClient", "update_contact"),
)
