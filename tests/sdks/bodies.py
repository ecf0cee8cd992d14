"""Bodies in the forms in which public SDKs send them, as recorded from their releases of November 2026.

`TIME` stands for the time of the call, in the form of the SDK. The calls are those of a shop, with what surprises a
strict reader of each form: null ids, numeric ids, traits in the context only, a missing timestamp, repeated members of
pages, the bare token NaN, names of other systems, empty texts and placeholders.
"""

from datetime import datetime
from typing import Final

TIME: Final = "TIME"

_PYTHON: Final = """
{"batch": [
{"integrations": {}, "anonymousId": null, "timestamp": "TIME+00:00", "context": {"library":
 {"name": "analytics-python", "version": "1.1.0"}}, "type": "identify", "messageId": "py-1", "userId": "u1",
 "traits": {"email": "ada@example.com", "age": 33, "plan": "pro", "phone": "+15005550006"}},
{"integrations": {}, "anonymousId": null, "properties": {"total": 9.5, "currency": "EUR", "orderId": "o-1",
 "products": [{"product_id": "p1", "sku": "s-1", "name": "Shoe", "price": 9.5, "quantity": 1}]},
 "timestamp": "TIME+02:00", "context": {"library": {"name": "analytics-python", "version": "1.1.0"}}, "type": "track",
 "messageId": "py-2", "userId": "u1", "event": "Order Completed"},
{"integrations": {}, "anonymousId": null, "properties": {"url": "http://x.example/"}, "timestamp": "TIME+00:00",
 "context": {}, "category": null, "type": "page", "name": null, "messageId": "py-3", "userId": "u1"},
{"integrations": {}, "anonymousId": null, "properties": {}, "timestamp": "TIME+00:00", "context": {},
 "category": "App", "type": "screen", "name": "Main", "messageId": "py-4", "userId": "5"},
{"integrations": {}, "anonymousId": null, "groupId": "g1", "userId": null, "traits": {"name": "Acme"},
 "timestamp": "TIME+00:00", "context": {}, "type": "group", "messageId": "py-5"},
{"integrations": {}, "previousId": "anon1", "timestamp": "TIME+00:00", "context": {}, "type": "alias",
 "messageId": "py-6", "userId": "u1"},
{"integrations": {}, "anonymousId": null, "properties": {"score": NaN, "text": "Zoë 🚀 \\u0000"},
 "timestamp": "TIME+00:00", "context": {}, "type": "track", "messageId": "py-7", "userId": "u1", "event": "Scored"}
], "sentAt": "TIME123+00:00"}
"""
_RUDDER_PYTHON: Final = """
{"batch": [
{"integrations": {"All": true}, "anonymousId": null, "timestamp": "TIME123+00:00", "context": {"library":
 {"name": "RudderStack-python", "version": "2.1.9"}, "traits": {"email": "bob@example.com"}}, "type": "identify",
 "messageId": "rp-1", "userId": "u2", "channel": "server"},
{"integrations": {"All": true}, "anonymousId": "a-2", "timestamp": "TIME123+00:00", "context": {"traits":
 {"email": "bob@example.com"}}, "type": "track", "messageId": "rp-2", "userId": "u2", "event": "Product Added",
 "properties": {"product_id": "p1", "price": "19.99", "quantity": "2"}, "channel": "server"}
], "sentAt": "TIME123+00:00"}
"""
_NODE: Final = """
{"batch": [
{"userId": "u3", "traits": {"email": "cid@example.com"}, "type": "identify", "_metadata": {"nodeVersion": "20.1.0",
 "jsRuntime": "node"}, "context": {"library": {"name": "@customerio/cdp-analytics-node", "version": "1.0.0-beta.22"}},
 "timestamp": "TIMEZ", "messageId": "node-next-1-a", "integrations": {}},
{"userId": "", "anonymousId": "0b6a2c5f-7f0a-4b0e-9d0a-4b1d6c8e2f11", "event": "Signed Up", "type": "track",
 "properties": {}, "context": {}, "timestamp": "TIMEZ", "messageId": "node-next-1-b", "integrations": {}},
{"userId": "u3", "category": "Docs", "name": "Home", "type": "page", "properties": {"category": "Docs",
 "name": "Home"}, "context": {}, "timestamp": "TIMEZ", "messageId": "node-next-1-c"},
{"userId": "u3", "event": "Order Completed", "type": "track", "properties": {"order_id": "o-2", "total": 30,
 "currency": "EUR", "email": "cid@example.com"}, "context": {"traits": {"email": "cid@example.com"}},
 "timestamp": "TIMEZ", "messageId": "node-next-1-e"},
{"userId": 5, "event": "Trial Started", "type": "track", "properties": {"plan": null, "seats": 3, "beta": true},
 "context": {}, "timestamp": "TIMEZ", "messageId": "node-next-1-d"}
], "writeKey": "KEY", "sentAt": "TIMEZ"}
"""
_RUDDER_NODE: Final = """
{"batch": [
{"userId": "u4", "event": "Product Viewed", "properties": {"sku": "s-1", "name": "Shoe", "category": "Shoes",
 "price": 19.99}, "messageId": "rn-1", "channel": "server", "context": {"library":
 {"name": "analytics-node", "version": "3.0.13"}}, "type": "track", "originalTimestamp": "TIMEZ", "sentAt": "TIMEZ",
 "_metadata": {"nodeVersion": "20.1.0"}},
{"anonymousId": "a-4", "userId": "u4", "groupId": "g4", "traits": {"name": "Acme", "employees": 328},
 "messageId": "rn-2", "type": "group", "originalTimestamp": "TIMEZ", "sentAt": "TIMEZ"}
], "timestamp": "TIMEZ", "sentAt": "TIMEZ"}
"""
_BROWSER: Final = """
{"timestamp": "TIMEZ", "integrations": {"Google Analytics 4": {"clientId": "123.456", "sessionId": "1700000000"}},
 "type": "page", "properties": {"path": "/shoes", "referrer": "", "search": "?utm_source=news", "title": "Shoes",
 "url": "https://shop.example/shoes?utm_source=news", "name": "Shoes"}, "name": "Shoes", "context": {"page": {
 "path": "/shoes", "referrer": "", "search": "?utm_source=news", "title": "Shoes",
 "url": "https://shop.example/shoes?utm_source=news"}, "userAgent": "Mozilla/5.0 (X11; Linux x86_64)",
 "locale": "en-GB", "library": {"name": "analytics.js", "version": "npm:next-1.84.3"}, "timezone": "Europe/Oslo",
 "campaign": {"source": "news"}}, "messageId": "ajs-next-1-a", "anonymousId": "3c0f6b1e-58e8-4f7e-8d6c-0d2f3f1a9b10",
 "writeKey": "KEY", "userId": null, "sentAt": "TIMEZ", "_metadata": {"bundled": ["Segment.io"], "unbundled": []}}
"""
_BROWSER_BATCH: Final = """
{"writeKey": "KEY", "batch": [
{"timestamp": "TIMEZ", "type": "track", "event": "Cart Viewed", "properties": {"cart_id": "c1", "products": []},
 "context": {"ip": "203.0.113.7"}, "messageId": "ajs-next-1-b", "anonymousId": "undefined", "userId": "null"},
{"timestamp": "TIMEZ", "type": "track", "event": "$pageview", "properties": {"$session_id": "x"}, "context": {},
 "messageId": "ajs-next-1-c", "anonymousId": "a-5"},
{"timestamp": "TIMEZ", "type": "alias", "userId": "u5", "previousId": "a-5", "context": {}, "messageId": "ajs-next-1-d"}
], "sentAt": "TIMEZ"}
"""
_KRENALIS: Final = """
{"batch": [
{"timestamp": "TIMEZ", "messageId": "kr-1", "anonymousId": "8c1f3a52-26b7-4d17-9a1c-5b5e0f6f7d11", "type": "track",
 "event": "Checkout Started", "properties": {"value": 30, "currency": "USD", "coupon": "SPRING"}, "context":
 {"session": {"id": 1700000000000, "start": true}, "screen": {"width": 1920, "height": 1080, "density": 2}}}
], "sentAt": "TIMEZ", "writeKey": "KEY"}
"""

BODIES: Final = {
    "customerio-cdp-analytics, segment-analytics-python": _PYTHON,
    "rudder-sdk-python": _RUDDER_PYTHON,
    "@customerio/cdp-analytics-node, @segment/analytics-node": _NODE,
    "@rudderstack/rudder-sdk-node": _RUDDER_NODE,
    "@segment/analytics-next": _BROWSER,
    "@segment/analytics-next in batches": _BROWSER_BATCH,
    "krenalis": _KRENALIS,
}
"""The bodies by the SDKs that send them."""


def body_at(sdk: str, moment: datetime) -> bytes:
    """Return the body of an SDK that is called at a moment in UTC."""
    return BODIES[sdk].strip().replace(TIME, f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}").encode()
