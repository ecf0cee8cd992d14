"""The event types of Google Analytics: the recommended events, and events with names of one's own.

The mappings read the properties of the e-commerce events that most SDKs send: `order_id`, `products` and so on.
`items` is any JSON, because mappings do not rename members of arrays: `items.py` makes items of products.
"""

from typing import Final

from headwater.connectors.contract import EventType
from headwater.connectors.eventvalues import NUMBER
from headwater.schemas import IpType, JsonType, MapType, ObjectType, Property, StringType

CUSTOM: Final = "custom_event"
"""The event type of events with names of one's own."""

_TEXT: Final = StringType()
_CONSENT: Final = StringType(values=("GRANTED", "DENIED"))

USER: Final = (
    Property("ip_override", IpType(), prefilled="context.ip", description="IP address, for the place of the user"),
    Property("user_agent", _TEXT, prefilled="context.userAgent", description="User agent, for the device of the user"),
    Property("ad_user_data", _CONSENT, description="Consent to the use of the data for advertising"),
    Property("ad_personalization", _CONSENT, description="Consent to personalised advertising"),
    Property("user_properties", MapType(JsonType()), description="Properties of the user"),
)
"""The members of a request that are not those of an event. Every event type with a schema has them."""


def _words(name: str) -> str:
    return name.replace("_", " ").capitalize()


_LISTED: Final = "coalesce(properties.items, properties.products)"
_SINGLE: Final = "coalesce(properties.items, properties.products, array(properties))"

# Properties with a meaning that depends on the letter, in the events below. Without a value, it is that of the items.
_KINDS: Final = {
    "C": Property("currency", _TEXT, prefilled="properties.currency"),
    "V": Property("value", NUMBER, prefilled="coalesce(properties.value, properties.revenue, properties.total)"),
    "v": Property("value", NUMBER, prefilled="properties.value"),
    "i": Property("items", JsonType(), prefilled=_LISTED),
    "I": Property("items", JsonType(), prefilled=_LISTED, create_required=True),
    "1": Property("items", JsonType(), prefilled=_SINGLE, create_required=True),
}
_NUMBERS: Final = frozenset({"engagement_time_msec", "level", "score", "shipping", "tax", "value"})
_PREFILLED: Final = {
    "campaign": "context.campaign.name",
    "content": "context.campaign.content",
    "creative_name": "coalesce(properties.creative_name, properties.creative)",
    "creative_slot": "coalesce(properties.creative_slot, properties.position)",
    "engagement_time_msec": "1",
    "group_id": "groupId",
    "item_list_id": "coalesce(properties.item_list_id, properties.list_id)",
    "item_list_name": "coalesce(properties.item_list_name, properties.list)",
    "medium": "context.campaign.medium",
    "page_location": "coalesce(properties.url, context.page.url)",
    "page_referrer": "coalesce(properties.referrer, context.page.referrer)",
    "page_title": "coalesce(properties.title, context.page.title)",
    "payment_type": "coalesce(properties.payment_type, properties.payment_method)",
    "promotion_name": "coalesce(properties.promotion_name, properties.name)",
    "screen_name": "coalesce(name, properties.name)",
    "search_term": "coalesce(properties.search_term, properties.query)",
    "shipping_tier": "coalesce(properties.shipping_tier, properties.shipping_method)",
    "source": "context.campaign.source",
    "term": "context.campaign.term",
    "transaction_id": "coalesce(properties.transaction_id, properties.order_id, properties.orderId)",
}

# The id, the recommended filter or the name of the track that it is for, and the properties: a letter of the above, or
# a name. A star marks one that is required.
_EVENTS: Final = (
    ("ad_impression", "", "ad_platform ad_source ad_format ad_unit_name C v"),
    ("add_payment_info", "Payment Info Entered", "C V coupon payment_type i"),
    ("add_shipping_info", "", "C V coupon shipping_tier I"),
    ("add_to_cart", "Product Added", "C v 1"),
    ("add_to_wishlist", "Product Added to Wishlist", "C v 1"),
    ("begin_checkout", "Checkout Started", "C V coupon I"),
    ("campaign_details", "", "campaign_id campaign source medium term content"),
    ("close_convert_lead", "", "C V"),
    ("close_unconvert_lead", "", "C V unconvert_lead_reason"),
    ("disqualify_lead", "", "C V disqualified_lead_reason"),
    ("earn_virtual_currency", "", "virtual_currency_name v"),
    ("generate_lead", "", "C V lead_source"),
    ("join_group", "type is 'group'", "group_id"),
    ("level_up", "", "level character"),
    ("login", "Signed In", "method"),
    ("page_view", "type is 'page'", "page_location page_referrer page_title engagement_time_msec"),
    ("post_score", "", "score* level character"),
    ("purchase", "Order Completed", "C V customer_type transaction_id* coupon shipping tax I"),
    ("qualify_lead", "", "C V"),
    ("refund", "Order Refunded", "C transaction_id* V coupon shipping tax i"),
    ("remove_from_cart", "Product Removed", "C v 1"),
    ("screen_view", "type is 'screen'", "screen_class screen_name"),
    ("search", "Products Searched", "search_term*"),
    ("select_content", "", "content_type content_id"),
    ("select_item", "Product Clicked", "item_list_id item_list_name 1"),
    ("select_promotion", "Promotion Clicked", "creative_name creative_slot promotion_id promotion_name i"),
    ("share", "", "method content_type item_id"),
    ("sign_up", "Signed Up", "method"),
    ("spend_virtual_currency", "", "value* virtual_currency_name* item_name"),
    ("tutorial_begin", "", ""),
    ("tutorial_complete", "", ""),
    ("unlock_achievement", "", "achievement_id*"),
    ("view_cart", "Cart Viewed", "C V I"),
    ("view_item", "Product Viewed", "C v 1"),
    ("view_item_list", "Product List Viewed", "C item_list_id item_list_name I"),
    ("view_promotion", "Promotion Viewed", "creative_name creative_slot promotion_id promotion_name 1"),
    ("view_search_results", "", "search_term"),
    ("working_lead", "", "C V lead_status"),
)

_APP_EVENTS: Final = ("ad_impression", "screen_view")


def _property(text: str) -> Property:
    name = text.removesuffix("*")
    found = _KINDS.get(name)
    if found is not None:
        return Property(
            found.name,
            found.type,
            prefilled=found.prefilled,
            create_required=found.create_required,
            description=_words(found.name),
        )
    return Property(
        name,
        NUMBER if name in _NUMBERS else _TEXT,
        prefilled=_PREFILLED.get(name, f"properties.{name}"),
        create_required=text.endswith("*"),
        description=_words(name),
    )


def _event_type(id_: str, event: str, properties: str) -> EventType:
    name = id_.replace("_", " ").title()
    note = ", which documents them for app streams only" if id_ in _APP_EVENTS else ""
    is_filter = event == "" or event.startswith("type is")
    return EventType(
        id=id_,
        name=name,
        description=f"Send '{name}' events to Google Analytics{note}",
        filter=event if is_filter else f"type is 'track' and event is '{event}'",
        schema=ObjectType((*map(_property, properties.split()), *USER)) if properties else None,
    )


EVENT_TYPES: Final = (
    *(_event_type(*each) for each in _EVENTS),
    EventType(
        id=CUSTOM,
        name="Custom Event",
        description="Send the event under its own name to Google Analytics",
        filter="type is 'track'",
        schema=ObjectType(
            (
                Property("name", _TEXT, prefilled="event", create_required=True, description="Name"),
                Property("params", MapType(JsonType()), prefilled="properties", description="Parameters"),
                *USER,
            )
        ),
    ),
)

HAVE_VALUE: Final = frozenset(id_ for id_, _, properties in _EVENTS if {"V", "v"} & {*properties.split()})
"""The event types with a value."""
NEED_ITEMS: Final = frozenset(id_ for id_, _, properties in _EVENTS if {"I", "1"} & {*properties.split()})
"""The event types that Google Analytics does not take without items."""
