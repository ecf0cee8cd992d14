"""MailerLite's members of requests, which its client `mailerlite` checks: each request is given to the client."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from tests.connectors.specifications.schemas import read

_SUBSCRIBER: Final = re.compile(r"/?api/subscribers/[^/]+")
_ANY_ADDRESS: Final = "ada@example.com"


class _Sent:
    """Stands for the client's connection, and takes each request that the client sends."""

    def request(self, *_: Any, **__: Any) -> "_Sent":
        return self

    def json(self) -> None:
        return None


class _Client:
    def __init__(self) -> None:
        sent = _Sent()
        self._subscribers = read("mailerlite.sdk.subscribers", "Subscribers", "mailerlite", "mailerlite.sdk")(sent)
        self._fields = read("mailerlite.sdk.fields", "Fields")(sent)
        self._batches = read("mailerlite.sdk.batch", "Batches")(sent)

    def find_errors(self, method: str, path: str, query: Mapping[str, list[str]], body: bytes) -> Iterator[str]:
        try:
            decoded = msgspec.json.decode(body) if body else None
            self._give(method, path, {name: values[0] for name, values in query.items()}, decoded)
        except (TypeError, ValueError) as error:
            yield str(error)

    def _give(self, method: str, path: str, query: dict[str, str], body: Any) -> None:
        """Give a request to the client, which raises `TypeError` or `ValueError` if it is not valid."""
        match method, path.strip("/"):
            case "GET", "api/fields":
                self._fields.list(**query)
            case "GET", "api/subscribers":
                self._subscribers.list(**query)
            case "POST", "api/subscribers":
                self._subscribers.create(**body)
            case "PUT", subscriber if _SUBSCRIBER.fullmatch(subscriber):
                self._subscribers.update(**{"email": _ANY_ADDRESS, **body})
            case "POST", "api/batch":
                self._batches.request(body["requests"])
                for each in body["requests"]:
                    self._give(each["method"], each["path"], {}, each.get("body"))
            case _:
                raise ValueError("the client has no such request")


SPECIFICATION: Final = _Client()
