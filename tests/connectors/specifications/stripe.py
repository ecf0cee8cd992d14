"""Stripe's specification of customers, from the types of `stripe`, which Stripe generates from its OpenAPI."""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

from tests.connectors.specifications.schemas import Schema, Types, read
from tests.connectors.specifications.specification import Operation, Operations

_OPTIONS: Final = frozenset(read("stripe._request_options", "RequestOptions", "stripe").__annotations__)
"""Members of the types that are options of the client."""


def _schema(name: str, module: str) -> Schema:
    types = Types({"Mapping": Mapping, "StripeContext": Any})
    schema = types.of(read(f"stripe.params.{module}", name, "stripe", "stripe.params"))
    schema["properties"] = {key: value for key, value in schema["properties"].items() if key not in _OPTIONS}
    return types.closed(schema)


def _read_form(body: bytes) -> dict[str, Any]:
    """Return the texts of a form. `a[b]=c` is a member of an object, and the members of an array have numbers."""
    form: dict[str, Any] = {}
    for name, value in parse_qsl(body.decode(), keep_blank_values=True):
        parent, *members = name.replace("]", "").split("[")
        target = form
        for member in members:
            target, parent = target.setdefault(parent, {}), member
        target[parent] = value
    return form


SPECIFICATION: Final = Operations(
    Operation("GET", "/v1/customers", query=_schema("CustomerListParams", "_customer_list_params")),
    Operation("POST", "/v1/customers", body=_schema("CustomerCreateParams", "_customer_create_params")),
    Operation("POST", "/v1/customers/{id}", body=_schema("CustomerUpdateParams", "_customer_update_params")),
    read_form=_read_form,
)
