"""Batches of events as an SDK sends them: 100 events of about 700 bytes, every message id new and random.

A batch is built once; for each send its ids are written over the old ones in place, which costs the load generator ten
microseconds instead of a millisecond.
"""

import json
import os
import uuid

EVENTS = 100
_ID = "00000000-0000-4000-8000-000000000000"


def _event(number: int, message_id: str) -> dict[str, object]:
    return {
        "type": "track",
        "messageId": message_id,
        "userId": f"user-{number % 50}",
        "anonymousId": str(uuid.UUID(int=number + 7)),
        "event": "Order Completed",
        "timestamp": "2026-11-22T10:00:00.000Z",
        "context": {
            "library": {"name": "bench", "version": "1.0.0"},
            "locale": "en-US",
            "userAgent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0",
            "page": {"path": "/checkout", "title": "Checkout", "url": "https://shop.example/checkout?step=3"},
        },
        "integrations": {},
        "properties": {
            "orderId": f"order-{number}",
            "total": 129.95,
            "currency": "EUR",
            "products": [{"sku": f"sku-{number}", "price": 64.5, "quantity": 2}],
        },
    }


class Batch:
    """One batch, whose ids `refresh` makes new."""

    def __init__(self, events: int = EVENTS) -> None:
        batch = {"batch": [_event(number, _ID) for number in range(events)], "sentAt": "2026-11-22T10:00:01.000Z"}
        self.body = bytearray(json.dumps(batch, separators=(",", ":")).encode())
        self.events = events
        self._offsets: list[int] = []
        start = 0
        while (found := self.body.find(_ID.encode(), start)) >= 0:
            self._offsets.append(found)
            start = found + len(_ID)

    def refresh(self) -> bytes:
        """The body with new ids (random hexadecimal, as long as a UUID)."""
        fresh = os.urandom(18 * self.events).hex().encode()
        for index, offset in enumerate(self._offsets):
            self.body[offset : offset + 36] = fresh[36 * index : 36 * index + 36]
        return bytes(self.body)


class Single:
    """The body of a call with one event, whose id `refresh` makes new."""

    def __init__(self) -> None:
        self._before, self._after = json.dumps(_event(0, _ID), separators=(",", ":")).encode().split(_ID.encode())

    def refresh(self) -> bytes:
        """The body with a new id."""
        return b"%b%b%b" % (self._before, os.urandom(18).hex().encode(), self._after)
