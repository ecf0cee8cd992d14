"""Meta's parameters of events and their types, which `facebook-business` has as data.

The names of a user's parameters on the wire are those that the package gives to a user with all of them. A member of
`contents` has `quantity` as a text in the package, and as a number in the documentation.
"""

import sys
from types import ModuleType
from typing import Any, Final

from tests.connectors.specifications.schemas import Schema, close, read
from tests.connectors.specifications.specification import Operation, Operations

_PACKAGE: Final = "facebook_business.adobjects.serverside"
_BARE: Final = ("facebook_business", "facebook_business.adobjects")
_TYPES: Final[dict[str, Schema]] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "list[str]": {"type": "array", "items": {"type": "string"}},
}


def _read(module: str, name: str) -> Any:
    """Return a class. Packages by which its methods check countries and read cookies are replaced by empty ones."""
    countries, cookies = ModuleType("pycountry"), ModuleType("capi_param_builder")
    vars(cookies)["ParamBuilder"] = object
    for each in (countries, cookies):
        sys.modules.setdefault(each.__name__, each)
    return read(f"{_PACKAGE}.{module}", name, *_BARE)


def _object(types: dict[str, str], **others: Schema) -> Schema:
    """Return the schema of an object with members of types in the package's notation, of which others are known."""
    properties = {name: _TYPES.get(type_, {}) for name, type_ in types.items()} | others
    return {"type": "object", "properties": properties}


def _user() -> Schema:
    user = _read("user_data", "UserData")
    lists = {name for name, type_ in user.param_types.items() if type_ == "list[str]"}
    digest = "0" * 64
    given = user(**{name: [digest] if name in lists else digest for name in user.param_types if name != "genders"})
    known = given.normalize()
    names = {name: "list[str]" if isinstance(value, list) else "str" for name, value in known.items()}
    return _object(names, ge=_TYPES["list[str]"])


def _event() -> Schema:
    content = dict(_read("content", "Content").param_types)
    content["id"] = content.pop("product_id")
    contents = {"type": "array", "items": _object(content, quantity={"type": "integer"})}
    data = _object(_read("custom_data", "CustomData").param_types, contents=contents)
    sources = [each.value for each in _read("action_source", "ActionSource")]
    event = _object(
        _read("event", "Event").param_types,
        action_source={"enum": sources},
        user_data=_user(),
        custom_data={**data, "additionalProperties": {}},
    )
    return {**event, "required": ["event_name", "event_time", "user_data"]}


def _body() -> Schema:
    events = {"type": "array", "items": _event()}
    names = dict.fromkeys(("test_event_code", "partner_agent", "namespace_id", "upload_id", "upload_tag"), "str")
    return close({**_object(names, data=events), "required": ["data"]})


SPECIFICATION: Final = Operations(
    Operation("GET", "/{version}/{dataset}"), Operation("POST", "/{version}/{dataset}/events", body=_body())
)
