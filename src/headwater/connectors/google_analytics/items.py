"""Makes the items of Google Analytics of the products of an event."""

from typing import Any, Final

import msgspec

from headwater.connectors.contract import EventRejected
from headwater.connectors.eventvalues import read_json, read_number
from headwater.connectors.google_analytics.api import MAX_ITEMS, MAX_VALUE_CHARACTERS
from headwater.connectors.google_analytics.parameters import check_length

PRODUCT_NAMES: Final = {
    "product_id": "item_id",
    "productId": "item_id",
    "sku": "item_id",
    "name": "item_name",
    "brand": "item_brand",
    "category": "item_category",
    "variant": "item_variant",
    "position": "index",
}
"""The members of products, and those of items that they become, if the item has no such member."""

_TEXTS: Final = frozenset(
    {
        "affiliation",
        "coupon",
        "creative_name",
        "creative_slot",
        "item_brand",
        "item_category",
        "item_category2",
        "item_category3",
        "item_category4",
        "item_category5",
        "item_id",
        "item_list_id",
        "item_list_name",
        "item_name",
        "item_variant",
        "location_id",
        "promotion_id",
        "promotion_name",
    }
)
_MEMBERS: Final = _TEXTS | {"discount", "index", "price", "quantity"}


def read_items(raw: msgspec.Raw) -> list[dict[str, Any]]:
    """Return the items of products; an object is a single product. Other members than those of items are left out.

    Raises EventRejected for products that are not objects, too many of them, one without an id and a name, and a value
    that Google Analytics does not log.
    """
    value = read_json("items", raw)
    products = [] if value is None else value if isinstance(value, list) else [value]
    if len(products) > MAX_ITEMS:
        raise EventRejected("TooManyItems", f"the event has {len(products)} items, and {MAX_ITEMS} are allowed")
    return [_read_item(product, f"items[{number}]") for number, product in enumerate(products)]


def find_value(items: list[dict[str, Any]]) -> float | None:
    """Return the sum of the prices of items, each times its quantity; None if no item has a price."""
    prices = [item["price"] * item.get("quantity", 1) for item in items if "price" in item]
    return round(sum(prices), 6) if prices else None


def _read_item(product: Any, path: str) -> dict[str, Any]:
    if not isinstance(product, dict):
        raise EventRejected("InvalidItems", f"{path} is not an object")
    item: dict[str, Any] = {}
    for name, value in _rename(product).items():
        if name in _TEXTS:
            item[name] = value if isinstance(value, str) else _read_text(value, f"{path}.{name}")
            if len(item[name]) > MAX_VALUE_CHARACTERS:
                check_length(f"{path}.{name}", item[name], MAX_VALUE_CHARACTERS)
        elif type(value) is float or type(value) is int:
            item[name] = value
        elif (number := read_number(f"{path}.{name}", value)) is not None:
            item[name] = number
    if "item_id" not in item and "item_name" not in item:
        raise EventRejected("InvalidItems", f"{path} has no item_id and no item_name")
    return item


def _rename(product: dict[str, Any]) -> dict[str, Any]:
    """Return the members of an item that a product has, without those that are empty."""
    members = {name: value for name, value in product.items() if name in _MEMBERS and value is not None and value != ""}
    for name, target in PRODUCT_NAMES.items():
        value = product.get(name)
        if value is not None and value != "" and target not in members:
            members[target] = value
    position = members.get("index")
    if isinstance(position, str) and not position.isdecimal():
        del members["index"]  # the position of a promotion on a page is a text
    return members


def _read_text(value: object, path: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    raise EventRejected("InvalidItems", f"{path} is an object or an array, and must be a text")
