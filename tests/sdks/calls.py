"""The calls that the tests make with every SDK, in the names of the wire. Each call has its own message id."""

from typing import Any, Final

CONTEXT: Final = {
    "app": {"name": "Shop", "version": "2.1.0", "build": "77", "namespace": "com.example.shop"},
    "campaign": {"name": "Spring", "source": "news", "medium": "email", "term": "shoes", "content": "top"},
    "device": {"id": "d-1", "manufacturer": "Acme", "model": "X1", "name": "Zoë's phone", "type": "ios"},
    "ip": "203.0.113.7",
    "locale": "de-DE",
    "network": {"carrier": "Acme", "wifi": True, "cellular": False},
    "os": {"name": "iOS", "version": "17.1"},
    "ours": {"nested": [1, {"deep": None}], "": "a member without a name"},
}
UNUSUAL: Final = {
    "text": 'Zoë 🚀 \u202eعربى‬ 漢字 e\u0301 "quoted" \\ / \n \t \u2028 </script>',
    "control": "\u0001\u0000",
    "half of a pair": ["caf\ud83d", "\ude80", "\ud83d"],
    "no number": [float("nan"), float("inf"), float("-inf")],
    "numbers": [0, -0.0, 9007199254740991, 9007199254740993, 1e21, 1.5e-9, 0.1, 19.99, 5e-324, 1.7976931348623157e308],
    "text that looks like": ["5", "true", "null", "2026-11-22T12:00:00Z", "NaN"],
    "empty": [None, "", [], {}, False, 0],
    "": "no name",
    "a.b": {"$c": {"d e": [[[1]]]}},
    "constructor": "a word of the language",
    "long": "x" * 20_000,
}


def calls(prefix: str) -> list[dict[str, Any]]:
    """Return one call of each type, and tracks with unusual values."""
    named: list[dict[str, Any]] = [
        {"type": "identify", "userId": "u1", "traits": {"email": "zoe@example.com", "age": 33, "tags": ["a", "b"]}},
        {
            "type": "track",
            "userId": "u1",
            "event": "Order Completed",
            "properties": {"total": 9.5, "items": [{"n": 1}]},
        },
        {
            "type": "page",
            "userId": "u1",
            "category": "Docs",
            "name": "Home",
            "properties": {"url": "https://x.test/?a=b"},
        },
        {"type": "screen", "userId": "u1", "category": "App", "name": "Main", "properties": {"k": 1}},
        {"type": "group", "userId": "u1", "groupId": "g1", "traits": {"name": "Acme", "employees": 328}},
        {"type": "group", "userId": "u1", "groupId": "c1", "traits": {"object_type_id": 2, "name": "A course"}},
        {"type": "alias", "userId": "u1", "previousId": "before"},
        {"type": "track", "userId": "u1", "event": "Ünüsual ✓", "properties": UNUSUAL},
        {"type": "track", "userId": "u1", "event": "Long ago", "timestamp": "1999-12-31T23:59:59.123+05:30"},
        {"type": "track", "userId": "u1", "event": "In context", "context": CONTEXT},
        {"type": "track", "userId": "u1", "event": "To some", "integrations": {"All": False, "Mixpanel": {"ip": "0"}}},
    ]
    return [{**call, "messageId": f"{prefix}-{index}"} for index, call in enumerate(named)]
