"""Events as SDKs send them, with new random message ids.

`realistic`, the default, has 100,000 possible users: half of the events are from 500 of them, half are spread evenly.
Pages, referrers, agents, screens and products differ from event to event; an event has about 850 bytes. `stock` has 100
events of 700 bytes with 50 users, the same ones in every batch: comparable with older figures only. The environment
variable HEADWATER_BENCH_PAYLOAD chooses.

Events are built once. Sending one again writes other ids, another user and another time into its text, which costs the
load generator about a microsecond an event.
"""

import json
import os
import random
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any, Final

EVENTS: Final = 100
USERS: Final = 100_000
REGULAR_USERS: Final = 500
TEMPLATES: Final = 2_000
"""Number of different events, without their ids and times."""
PAYLOADS: Final = ("realistic", "stock")
PAYLOAD: Final = os.environ.get("HEADWATER_BENCH_PAYLOAD", PAYLOADS[0])

_MESSAGE: Final = "00000000-0000-4000-8000-000000000000"
_USER: Final = "user-00000000"
_ANONYMOUS: Final = "00000000-0000-4000-9000-000000000000"
_TIME: Final = "2026-11-22T10:00:00.000Z"
_SPREAD: Final = 0x9E3779B97F4B
"""An odd number: its multiples visit the anonymous ids in an order that helps no index."""
_CLOCK_SECONDS: Final = 60
"""Time between the first and the last event of a batch."""

_SHOPS: Final = ("shop.example", "store.example", "market.example", "outlet.example")
_WORDS: Final = ("linen", "walnut", "copper", "cotton", "oak", "marble", "wool", "steel", "glass", "leather", "ceramic")
_THINGS: Final = ("chair", "lamp", "table", "shirt", "mug", "rug", "shelf", "vase", "blanket", "clock", "mirror")
_NAMES: Final = ("Product Viewed", "Product Added", "Cart Viewed", "Checkout Started", "Order Completed", "Coupon Used")
_REFERRERS: Final = ("https://search.example/", "https://news.example/deals", "https://social.example/p/", "")
_LOCALES: Final = ("en-US", "en-GB", "de-DE", "fr-FR", "es-ES", "it-IT", "ja-JP", "pt-BR")
_SCREENS: Final = ((1920, 1080), (1440, 900), (390, 844), (412, 915), (2560, 1440), (768, 1024))
_AGENTS: Final = tuple(
    f"Mozilla/5.0 ({platform}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{version}.0.0.0 Safari/537.36"
    for platform in ("X11; Linux x86_64", "Windows NT 10.0; Win64; x64", "Macintosh; Intel Mac OS X 10_15_7")
    for version in range(118, 132)
)


def event(name: str = PAYLOAD, number: int = 0) -> dict[str, Any]:
    """Return event `number` of a payload, with ids and times that `Batch` and `Single` replace."""
    return _realistic(number) if name == "realistic" else _stock(number)


def user(number: int) -> tuple[str, str]:
    """Return the user id and the anonymous id of a user of the realistic payload."""
    return f"user-{number:08d}", f"{_ANONYMOUS[:24]}{number * _SPREAD % 16**12:012x}"


def random_user() -> tuple[str, str]:
    """Return the ids of a user: in half of the cases one of the regular ones."""
    return user(random.randrange(REGULAR_USERS if random.random() < 0.5 else USERS))


class Batch:
    """One batch. `refresh` gives its events new ids."""

    def __init__(self, events: int = EVENTS, payload: str = PAYLOAD) -> None:
        self.events = events
        self._refresh = _stock_batch(events) if payload == "stock" else partial(_realistic_batch, events)
        self.body = self._refresh()
        """The latest body."""

    def refresh(self) -> bytes:
        """Return a body with new ids (random hexadecimal, as long as a UUID) and, in most payloads, other events."""
        self.body = self._refresh()
        return self.body


class Single:
    """The body of a call with one event. `refresh` gives it a new id."""

    def __init__(self, payload: str = PAYLOAD) -> None:
        self._payload = payload
        self._ready: list[bytes] = []
        self._before, self._after = _json(_stock(0)).split(_MESSAGE.encode())

    def refresh(self) -> bytes:
        """Return a body with a new id."""
        if self._payload == "stock":
            return b"%b%b%b" % (self._before, os.urandom(18).hex().encode(), self._after)
        if not self._ready:
            pieces = _realistic_events(EVENTS)
            self._ready = [b"".join(pieces[at : at + _PIECES - 1]) for at in range(0, len(pieces), _PIECES)]
            random.shuffle(self._ready)
        return self._ready.pop()


def _stock(number: int) -> dict[str, Any]:
    return {
        "type": "track",
        "messageId": _MESSAGE,
        "userId": f"user-{number % 50}",
        "anonymousId": str(uuid.UUID(int=number + 7)),
        "event": "Order Completed",
        "timestamp": _TIME,
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


def _realistic(number: int) -> dict[str, Any]:
    pick = random.Random(number)
    shop, word, thing = pick.choice(_SHOPS), pick.choice(_WORDS), pick.choice(_THINGS)
    product, path = pick.randrange(10**6), f"/{thing}s/{word}-{thing}-{pick.randrange(10**5):05d}"
    width, height = pick.choice(_SCREENS)
    return {
        "type": "track",
        "messageId": _MESSAGE,
        "userId": _USER,
        "anonymousId": _ANONYMOUS,
        "event": pick.choice(_NAMES),
        "timestamp": _TIME,
        "context": {
            "library": {"name": "analytics.js", "version": "2.11.1"},
            "locale": pick.choice(_LOCALES),
            "timezone": "Europe/Berlin",
            "userAgent": pick.choice(_AGENTS),
            "screen": {"width": width, "height": height, "density": pick.choice((1, 2, 3))},
            "page": {
                "path": path,
                "referrer": pick.choice(_REFERRERS),
                "title": f"{word.title()} {thing}",
                "url": f"https://{shop}{path}?utm_source=mail{pick.randrange(100)}",
            },
        },
        "integrations": {},
        "properties": {
            "orderId": f"order-{pick.randrange(10**7)}",
            "total": pick.randrange(100, 50_000) / 100,
            "currency": "EUR",
            "products": [
                {
                    "sku": f"sku-{product}",
                    "name": f"{word} {thing}",
                    "price": pick.randrange(100, 20_000) / 100,
                    "quantity": pick.randrange(1, 5),
                }
            ],
        },
    }


_PIECES: Final = 10
"""The pieces of an event: the texts of its template, what stands between them, and a comma."""
_Template = tuple[bytes, bytes, bytes, bytes, bytes]
"""The text of an event around its message id, user id, anonymous id and time."""


@cache
def _templates() -> list[_Template]:
    return [_template(_realistic(number)) for number in range(TEMPLATES)]


def _template(made: dict[str, Any]) -> _Template:
    before, rest = _json(made).split(_MESSAGE.encode())
    to_user, rest = rest.split(_USER.encode())
    to_anonymous, rest = rest.split(_ANONYMOUS.encode())
    to_time, after = rest.split(_TIME.encode())
    return before, to_user, to_anonymous, to_time, after


@cache
def _users() -> list[tuple[bytes, bytes]]:
    ids = [user(number) for number in range(USERS)]
    return [(user_id.encode(), anonymous_id.encode()) for user_id, anonymous_id in ids]


def _realistic_events(events: int) -> list[bytes]:
    """Return the pieces of this number of events, `_PIECES` each."""
    ids = os.urandom(18 * events).hex().encode()
    before, to_user, to_anonymous, to_time, after = zip(*random.choices(_templates(), k=events), strict=True)
    everybody = _users()
    regular = everybody[:REGULAR_USERS]
    users = [*random.choices(regular, k=events // 2), *random.choices(everybody, k=events - events // 2)]
    user_ids, anonymous_ids = zip(*users, strict=True)
    pieces = [b","] * (_PIECES * events)
    pieces[0::_PIECES] = before
    pieces[1::_PIECES] = [ids[at : at + 36] for at in range(0, 36 * events, 36)]
    pieces[2::_PIECES] = to_user
    pieces[3::_PIECES] = user_ids
    pieces[4::_PIECES] = to_anonymous
    pieces[5::_PIECES] = anonymous_ids
    pieces[6::_PIECES] = to_time
    pieces[7::_PIECES] = random.choices(_clock(int(time.time()))[1], k=events)
    pieces[8::_PIECES] = after
    return pieces


_clock_at: tuple[int, tuple[bytes, list[bytes]]] = 0, (b"", [])


def _clock(second: int) -> tuple[bytes, list[bytes]]:
    """Return the present time as text, and times of the minute before; both are made once a second."""
    global _clock_at
    if _clock_at[0] != second:
        times = [_text(second - random.random() * _CLOCK_SECONDS) for _ in range(500)]
        _clock_at = second, (_text(second), times)
    return _clock_at[1]


def _text(seconds: float) -> bytes:
    return f"{datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat(timespec='milliseconds')}Z".encode()


def _realistic_batch(events: int) -> bytes:
    sent_at, _ = _clock(int(time.time()))
    return b'{"batch":[%b],"sentAt":"%b"}' % (b"".join(_realistic_events(events)[:-1]), sent_at)


def _stock_batch(events: int) -> Callable[[], bytes]:
    batch = {"batch": [_stock(number) for number in range(events)], "sentAt": "2026-11-22T10:00:01.000Z"}
    body = bytearray(_json(batch))
    offsets: list[int] = []
    start = 0
    while (found := body.find(_MESSAGE.encode(), start)) >= 0:
        offsets.append(found)
        start = found + len(_MESSAGE)

    def refresh() -> bytes:
        fresh = os.urandom(18 * events).hex().encode()
        for index, offset in enumerate(offsets):
            body[offset : offset + 36] = fresh[36 * index : 36 * index + 36]
        return bytes(body)

    return refresh


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
