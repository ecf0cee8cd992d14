"""Reads the products of an event as the `contents` of Meta."""

from typing import Any, Final

import msgspec

from headwater.connectors.contract import EventRejected
from headwater.connectors.eventvalues import read_json, read_number

MAX_CONTENTS: Final = 1_000
"""Maximum number of products of an event."""

_NAMES: Final = {
    "id": ("id", "product_id", "productId", "sku"),
    "quantity": ("quantity",),
    "item_price": ("item_price", "price"),
    "delivery_category": ("delivery_category",),
}
"""The members of an element, each with the names that events have for it."""


def read_contents(raw: msgspec.Raw) -> list[dict[str, Any]]:
    """Return the products that have an id. An object is a single product.

    Raises EventRejected if the value is not an object, or an array of objects, and for a price that is no number.
    """
    value = read_json("contents", raw)
    if value is None:
        return []
    products = [value] if isinstance(value, dict) else value
    if not isinstance(products, list) or not all(isinstance(each, dict) for each in products):
        raise EventRejected("InvalidContents", "contents is not an object, or an array of objects")
    if len(products) > MAX_CONTENTS:
        raise EventRejected(
            "TooManyContents", f"the event has {len(products)} products, and {MAX_CONTENTS} are allowed"
        )
    return [content for each in products if (content := _read_content(each))]


def find_value(contents: list[dict[str, Any]]) -> float | None:
    """Return the sum of the prices of products, each times its quantity; None if no product has a price."""
    prices = [each["item_price"] * each.get("quantity", 1) for each in contents if "item_price" in each]
    return round(sum(prices), 6) if prices else None


def _read_content(product: dict[str, Any]) -> dict[str, Any]:
    """Return the element for a product; empty if the product has no id."""
    content: dict[str, Any] = {}
    for target, names in _NAMES.items():
        for name in names:
            value = product.get(name)
            if value is not None and value != "":
                content[target] = value
                break
    id_ = content.get("id")
    if id_ is None or isinstance(id_, dict | list | bool):
        return {}
    content["id"] = str(id_)
    for name in ("quantity", "item_price"):
        if name in content and (number := read_number(f"contents.{name}", content.pop(name))) is not None:
            content[name] = number
    return content
