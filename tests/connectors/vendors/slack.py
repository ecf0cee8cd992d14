"""Slack's incoming webhooks, from its pages: https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks.

| documented | where |
| --- | --- |
| POST of JSON to `https://hooks.slack.com/services/T.../B.../...`; 200 `ok` | incoming webhooks |
| a message a second in a channel, with short bursts; 429 with `Retry-After` | rate-limits |
| 400 `invalid_payload`, `user_not_found`, `no_text`; 500 `rollup_error` | incoming webhooks, changelog 2016-05-17 |
| 403 `action_prohibited`; 404 `channel_not_found`, `no_service`, `no_team`; 410 `channel_is_archived` | the same |
| `invalid_token`, `no_active_hooks`, `posting_to_general_channel_denied` | incoming webhooks, users' reports |
| `&`, `<` and `>` are control characters, and escaped as entities | formatting-message-text |
| a text over 40,000 characters is cut | changelog 2018-04-truncating-really-long-messages |
| up to 50 blocks in a message | reference/block-kit/blocks |
| no repetition is recognised | incoming webhooks |
"""

import re
from collections import Counter
from collections.abc import Callable
from html import unescape
from typing import Any, Final

import msgspec

from tests.connectors.vendors.server import CALM, Item, Plan, Reply, Request, VendorServer

PATH: Final = "T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX"
URL: Final = f"https://hooks.slack.com/services/{PATH}"
MEMBERS: Final = {"text", "blocks", "unfurl_links", "unfurl_media"}
GONE: Final = (
    (403, "action_prohibited"),
    (404, "channel_not_found"),
    (404, "no_service"),
    (404, "no_team"),
    (410, "channel_is_archived"),
    (403, "invalid_token"),
    (404, "no_active_hooks"),
    (400, "posting_to_general_channel_denied"),
    (400, "user_not_found"),
)
"""Responses to every message of a webhook that cannot be used any more."""
_SUMMARY: Final = re.compile(r"\*([0-9]+) events\*")
_LINE: Final = re.compile(r"(.+): ([0-9]+)")
_CONTROL: Final = re.compile(r"&(?!amp;|lt;|gt;)|[<>]")


def text(status: int, body: str) -> Reply:
    return Reply(status=status, headers={"content-type": "text/html"}, body=body.encode())


class SlackServer(VendorServer):
    """One webhook. `posts` has the events of each message by their labels, and `lost_summaries` those of messages for
    several events whose response was lost."""

    ORIGINS = ("https://hooks.slack.com",)
    SPECIFICATION = "slack"
    FAULTS = (
        text(500, "rollup_error"),
        text(502, "<html>bad gateway</html>"),
        text(503, ""),
    )

    def __init__(self, plan: Plan = CALM, now: Callable[[], float] | None = None) -> None:
        super().__init__(plan, now)
        self.messages: list[dict[str, Any]] = []
        self.posts: list[Counter[str]] = []
        self.lost_summaries: list[Counter[str]] = []

    def unauthorized(self) -> Reply:
        return text(*self._random.choice(GONE))

    def throttle(self) -> Reply:
        return Reply(status=429, headers={"retry-after": str(self._random.randrange(1, 31))}, body=b"rate_limited")

    def answer(self, request: Request) -> Reply:
        if request.path != f"/services/{PATH}":
            return text(404, "no_service")
        self.require(request.method == "POST", "a webhook takes POST", request)
        self.require(request.headers.get("content-type") == "application/json", "the media type is wrong", request)
        try:
            message = request.json()
        except msgspec.DecodeError:
            self.violate("the body is not JSON", request)
            return text(400, "invalid_payload")
        if not message.get("text") and not message.get("blocks"):
            return text(400, "no_text")
        if not self.count("messages", 60, 60, request):
            return text(429, "rate_limited")
        self.require(set(message) <= MEMBERS, f"unknown members: {set(message) - MEMBERS}", request)
        self.require(len(message["text"]) <= 40_000, "the text is cut", request)
        self.require(not _CONTROL.search(message["text"]), "the text is not escaped", request)
        if not self.require(len(message.get("blocks", [])) <= 50, "more than 50 blocks", request):
            return text(400, "invalid_blocks")
        return self._post(message)

    def _post(self, message: dict[str, Any]) -> Reply:
        first, *lines = unescape(message["text"]).split("\n")
        found = _SUMMARY.fullmatch(first)
        if found is None:
            label, _, id_ = first.rpartition(" ")
            if self.refuses(id_):
                return text(400, "invalid_payload")
            self.posts.append(Counter({label: 1}))
        else:
            counts = [each for line in lines if (each := _LINE.fullmatch(line))]
            post = Counter({each[1]: int(each[2]) for each in counts})
            self.require(post.total() == int(found[1]), "a summary does not account for all events")
            self.posts.append(post)
            id_ = f"summary {len(self.posts)}"
        self.messages.append(message)
        self.accept(Item(id=id_, user="", content=message), key=f"{id_} {len(self.posts)}")
        return text(200, "ok")

    def _decide(self, request: Request) -> Reply | None:
        posts = len(self.posts)
        reply = super()._decide(request)
        if reply is None:
            self.lost_summaries += [post for post in self.posts[posts:] if post.total() > 1]
        return reply
