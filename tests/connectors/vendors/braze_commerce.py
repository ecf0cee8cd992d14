"""The eCommerce events of Braze's server, from https://www.braze.com/docs/ecommerce_events.

| documented | where |
| --- | --- |
| six names; an event with one of them is dropped if it breaks its schema | recommended_events, Event validation |
| required properties, and no others outside `metadata` | Event schemas |
| amounts of at least 0, currency in ISO 4217, products with their own required properties | What we validate |
| errors name an event by its index; `message` says "success" nevertheless | When validation fails |
"""

from typing import Any, Final

TEXT: Final = str
NUMBER: Final = (int, float)
CURRENCIES: Final = frozenset({"EUR", "USD", "GBP", "JPY"})

ORDER: Final = {"total_value": NUMBER, "currency": TEXT, "products": list, "source": TEXT}
AMOUNTS: Final = {"subtotal_value": NUMBER, "tax": NUMBER, "shipping": NUMBER}
DISCOUNTS: Final = {"total_discounts": NUMBER, "discounts": list}
PRODUCT: Final = {"product_id": TEXT, "product_name": TEXT, "variant_id": TEXT, "price": NUMBER}
LINKS: Final = {"image_url": TEXT, "product_url": TEXT, "metadata": dict}

SCHEMAS: Final[dict[str, tuple[dict[str, Any], dict[str, Any]]]] = {
    "ecommerce.product_viewed": (PRODUCT | {"currency": TEXT, "source": TEXT}, LINKS | {"type": list}),
    "ecommerce.cart_updated": (
        {"cart_id": TEXT, "currency": TEXT, "products": list, "source": TEXT},
        AMOUNTS | {"total_value": NUMBER, "action": TEXT, "metadata": dict},
    ),
    "ecommerce.checkout_started": (
        ORDER | {"checkout_id": TEXT},
        AMOUNTS | {"cart_id": TEXT, "metadata": dict},
    ),
    "ecommerce.order_placed": (
        ORDER | {"order_id": TEXT},
        AMOUNTS | DISCOUNTS | {"cart_id": TEXT, "metadata": dict},
    ),
    "ecommerce.order_cancelled": (
        ORDER | {"order_id": TEXT, "cancel_reason": TEXT},
        AMOUNTS | DISCOUNTS | {"metadata": dict},
    ),
    "ecommerce.order_refunded": (ORDER | {"order_id": TEXT}, DISCOUNTS | {"metadata": dict}),
}
"""The required and the optional properties of each event, with their types."""


def find_broken_rule(name: str, properties: dict[str, Any]) -> str:
    """Return the rule that an eCommerce event breaks; empty if it breaks none, or has another name."""
    if name not in SCHEMAS:
        return ""
    required, optional = SCHEMAS[name]
    if rule := _check(properties, required, optional):
        return rule
    if properties["currency"] not in CURRENCIES:
        return "'currency' must be an ISO 4217 currency"
    action = properties.get("action", "replace")
    if action not in ("add", "remove", "replace"):
        return "'action' is not valid"
    if name == "ecommerce.cart_updated" and action == "replace" and "total_value" not in properties:
        return "'total_value' is required"
    items = (_check(each, PRODUCT | {"quantity": int}, LINKS) for each in properties.get("products", ()))
    return next(filter(None, items), "")


def _check(given: dict[str, Any], required: dict[str, Any], optional: dict[str, Any]) -> str:
    if missing := required.keys() - given.keys():
        return f"missing_property: {sorted(missing)}"
    if extra := given.keys() - required.keys() - optional.keys():
        return f"extra_property: {sorted(extra)}"
    for name, type_ in (required | optional).items():
        value = given.get(name)
        if value is not None and (not isinstance(value, type_) or isinstance(value, bool) or value == ""):
            return f"unexpected_data_type: {name}"
        if isinstance(value, NUMBER) and value < 0:
            return f"'{name}' must not be negative"
    return ""
