"""Orders and carts in Braze's two forms: eCommerce events, and purchases of older accounts.

Both are made of events with the names and properties of Segment's eCommerce specification, whose numbers may be texts.
Braze drops an eCommerce event that misses a property, or has another one. So all others are in its `metadata`.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from headwater.connectors.braze.objects import without_nulls
from headwater.connectors.contract import EventRejected
from headwater.connectors.identities import is_placeholder

MAX_QUANTITY: Final = 100
MAX_PRODUCT_ID_CHARACTERS: Final = 255

Object = dict[str, Any]


class Step(msgspec.Struct, frozen=True):
    """One of Braze's eCommerce events: its name, the properties that it has with currency, source and products, and
    those that it may have. `action` is the change of a cart. The products `may_be_missing` for an event about all of an
    order."""

    name: str
    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    action: str = ""
    may_be_missing: bool = False


_AMOUNTS: Final = ("subtotal_value", "tax", "shipping")
_CART: Final = ("total_value", *_AMOUNTS)
PRODUCT_VIEWED: Final = "Product Viewed"
STEPS: Final = {
    PRODUCT_VIEWED: Step("ecommerce.product_viewed", ()),
    "Product Added": Step("ecommerce.cart_updated", ("cart_id",), _CART, action="add"),
    "Product Removed": Step("ecommerce.cart_updated", ("cart_id",), _CART, action="remove"),
    "Checkout Started": Step("ecommerce.checkout_started", ("checkout_id", "total_value"), ("cart_id", *_AMOUNTS)),
    "Order Completed": Step(
        "ecommerce.order_placed", ("order_id", "total_value"), ("cart_id", *_AMOUNTS, "total_discounts")
    ),
    "Order Refunded": Step(
        "ecommerce.order_refunded", ("order_id", "total_value"), ("total_discounts",), may_be_missing=True
    ),
    "Order Cancelled": Step(
        "ecommerce.order_cancelled",
        ("order_id", "total_value", "cancel_reason"),
        (*_AMOUNTS, "total_discounts"),
        may_be_missing=True,
    ),
}
"""Braze's eCommerce events by the name of the event that is sent as one."""

_PRODUCT_NAMES: Final = {
    "product_name": ("name", "product_name"),
    "variant_id": ("variant_id", "sku"),
    "image_url": ("image_url",),
    "product_url": ("url", "product_url"),
}
"""The properties of a product at Braze that are not its id, and the members of a product that have their value."""
_SENT_ELSEWHERE: Final = frozenset(
    {"cart_id", "currency", "name", "price", "product_id", "product_name", "products", "quantity"}
    | {"image_url", "product_url", "url", "variant_id"}
)
"""Members of a product that are not in its metadata."""
_PURCHASE_NAMES: Final = frozenset({"currency", "price", "product_id", "quantity"})
"""Reserved names of properties of a purchase, whose values are its own members."""


def make_step(values: Object) -> tuple[str, Object]:
    """Return the name and the properties of an eCommerce event. Raises EventRejected if Braze would drop it."""
    step = STEPS[values["event"]]
    properties: Object = {"currency": values["currency"].upper(), "source": values["source"]}
    for name in (*step.required, *step.optional):
        if (value := values.get(name)) not in (None, ""):
            properties[name] = value
        elif name in step.required:
            raise EventRejected("MissingProperty", f"{step.name} has no {name}, without which Braze drops it")
    if negative := [name for name, value in properties.items() if isinstance(value, int | float) and value < 0]:
        raise EventRejected("InvalidAmount", f"{negative[0]} of {step.name} is negative, for which Braze drops it")
    metadata: Object = without_nulls(_decoded(values.get("metadata") or {}))
    if values["event"] == PRODUCT_VIEWED:
        product = _step_product(_decode_product(values))
        metadata |= product.pop("metadata", {})
        del product["quantity"]
        properties |= product
    else:
        properties["products"] = list(map(_step_product, _find_products(step, values)))
    if step.action:
        properties["action"] = step.action
    return step.name, properties | ({"metadata": metadata} if metadata else {})


def _find_products(step: Step, values: Object) -> list[Object]:
    """Return the products of an event: those of its list, or the one that a change of the cart is about."""
    products = _decode_products(values)
    if not products and step.action:
        products = [_decode_product(values)]
    if not products and not step.may_be_missing:
        raise EventRejected("MissingProperty", f"{step.name} has no products, without which Braze drops it")
    return products


def _step_product(product: Object) -> Object:
    product_id = find_product_id(product)
    made: Object = {"product_id": product_id, "product_name": product_id, "variant_id": product_id}
    for name, members in _PRODUCT_NAMES.items():
        for member in members:
            if text := _text(product.get(member)):
                made[name] = text
                break
    made["price"] = read_price(product, product_id)
    if made["price"] < 0:
        raise EventRejected("InvalidAmount", f"product {product_id!r} has a negative price, for which Braze drops it")
    made["quantity"] = read_quantity(product, product_id)
    others = {name: each for name, each in product.items() if name not in _SENT_ELSEWHERE}
    if metadata := without_nulls(others):
        made["metadata"] = metadata
    return made


def make_purchases(values: Object, common: Object) -> Iterator[tuple[Object, Object]]:
    """Yield the purchases of an order, each with its properties. `common` are the members of all of them.

    Raises EventRejected.
    """
    order = values.get("properties") or {}
    for product in _decode_products(values):
        product_id = find_product_id(product)
        made = {
            "product_id": product_id,
            "currency": values["currency"].upper(),
            "price": read_price(product, product_id),
            **common,
        }
        properties = {name: each for name, each in {**order, **product}.items() if name not in _PURCHASE_NAMES}
        left = read_quantity(product, product_id)
        while left > 0:
            yield {**made, "quantity": min(left, MAX_QUANTITY)}, properties
            left -= MAX_QUANTITY


def find_product_id(product: Mapping[str, Any]) -> str:
    """Return the id of a product, or its name. Raises EventRejected."""
    for name in ("product_id", "sku", "name"):
        text = _text(product.get(name))
        if not is_placeholder(text):
            if len(text) > MAX_PRODUCT_ID_CHARACTERS:
                raise EventRejected(
                    "InvalidProduct",
                    f"a product has an id of more than {MAX_PRODUCT_ID_CHARACTERS} characters: {name}",
                )
            return text
    raise EventRejected("InvalidProduct", "a product has no product_id, sku or name")


def read_price(product: Mapping[str, Any], product_id: str) -> float:
    """Return the price of a product. Raises EventRejected."""
    price = _number(product.get("price"))
    if price is None:
        raise EventRejected("InvalidProduct", f"product {product_id!r} has no price that is a number")
    return price


def read_quantity(product: Mapping[str, Any], product_id: str) -> int:
    """Return the quantity of a product, which is 1 if none is given, or a blank text. Raises EventRejected."""
    given = product.get("quantity")
    if given is None or (isinstance(given, str) and not given.strip()):
        return 1
    quantity = _number(given)
    if quantity is None or quantity < 1 or quantity % 1:
        raise EventRejected("InvalidProduct", f"product {product_id!r} has a quantity that is no positive integer")
    return int(quantity)


def _number(value: Any) -> float | None:
    """Return a number, or a text that is one; None for any other value."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value) if isinstance(value, str) else value
        return number if math.isfinite(number) else None
    except (ValueError, OverflowError):
        return None


def _text(value: Any) -> str:
    """Return a text, or a number as text; empty for any other value."""
    return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""


def _decode_products(values: Object) -> list[Object]:
    products = _decoded(values.get("products") or [])
    if not isinstance(products, list) or not all(isinstance(each, dict) for each in products):
        raise EventRejected("InvalidProduct", "the products are not a list of objects")
    return products


def _decode_product(values: Object) -> Object:
    product = _decoded(values.get("product") or {})
    if not isinstance(product, dict):
        raise EventRejected("InvalidProduct", "the product is not an object")
    return product


def _decoded(value: Any) -> Any:
    """Return a value of a mapping, which may have parts that are JSON, as Python objects."""
    return msgspec.json.decode(msgspec.json.encode(value))
