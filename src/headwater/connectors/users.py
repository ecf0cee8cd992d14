"""Reads and writes users of a vendor: cursors, failures, and results of users that are written one by one."""

import asyncio
import base64
import binascii
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

from headwater.base.errors import BadRequest, Unavailable
from headwater.connectors.contract import (
    NOT_ATTEMPTED,
    ConnectorContext,
    HttpResponse,
    ItemResult,
    UserWrite,
    rejected,
    retry,
)
from headwater.connectors.responses import RETRY_AFTER, Wait, find_wait, read_safe_text

MAX_CURSOR_CHARACTERS: Final = 1_000


def format_cursor(code: str, position: str) -> str:
    """Return the cursor for a vendor's own position in its users: empty for an empty one, which is after the last page.

    Raises Unavailable for a position that is too long for a cursor.
    """
    if not position:
        return ""
    cursor = f"{code}.{base64.urlsafe_b64encode(position.encode()).decode().rstrip('=')}"
    if len(cursor) > MAX_CURSOR_CHARACTERS:
        raise Unavailable(f"the vendor's cursor has {len(position)} characters, which is too long")
    return cursor


def parse_cursor(code: str, cursor: str) -> str:
    """Return the vendor's position of a cursor; empty for the first page. Raises BadRequest."""
    if not cursor:
        return ""
    prefix, _, encoded = cursor.partition(".")
    try:
        position = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        position = ""
    if prefix != code or not position or format_cursor(code, position) != cursor:
        raise BadRequest("cursor is malformed", field="cursor")
    return position


def unavailable(
    vendor: str, response: HttpResponse, context: ConnectorContext, waits: Iterable[Wait] = (RETRY_AFTER,)
) -> Unavailable:
    """Return the error for a response that is no success and names no user, with the wait that it asks for in one of
    the headers of `waits`."""
    wait = find_wait(response.headers, waits, context.clock.now())
    text = read_safe_text(response, context, 200)
    return Unavailable(
        f"{vendor} responds with status {response.status}: {text}", retry_after=max(1, math.ceil(wait or 0.0))
    )


def read_batch(
    vendor: str,
    response: HttpResponse,
    context: ConnectorContext,
    count: int,
    *,
    is_success: bool,
    refused: Iterable[tuple[int | None, ItemResult]],
    waits: Iterable[Wait] = (RETRY_AFTER,),
) -> list[ItemResult | None]:
    """Return the results of a request that writes `count` users, None for each that is written.

    `refused` are results that the response states by the index of a user; None for an error about the request. If it is
    no success, the other users are not attempted. Raises Unavailable for a response that says nothing about users, and
    for a success that names a user who is not in the request.
    """
    if not is_success and response.status not in (400, 413):
        raise unavailable(vendor, response, context, waits)
    results: list[ItemResult | None] = [None if is_success else NOT_ATTEMPTED] * count
    for index, result in refused:
        if index is not None and 0 <= index < count:
            results[index] = rejected(result.reason, context.redact(result.message))
        elif is_success:
            raise Unavailable(f"{vendor} names user {index}, who is not in the request")
    if not is_success and count == 1 and results[0] is NOT_ATTEMPTED:
        results[0] = rejected(f"Status{response.status}", read_safe_text(response, context))
    return results


async def write_each(
    users: Sequence[UserWrite],
    write: Callable[[UserWrite], Awaitable[ItemResult]],
    *,
    max_concurrency: int | None = None,
    interval_seconds: float = 0.0,
) -> list[ItemResult]:
    """Write users with one request each, and return their results in order.

    It implements `UserSink.write_users`. All requests are under way at the same time, or at most `max_concurrency`.
    With `interval_seconds` each begins so long after the one before: for a rate that allows no burst.
    `write` raises Unavailable if the outcome is unknown: then the user is sent again. If no outcome is known, that
    error is raised.
    """
    turns = asyncio.Semaphore(max_concurrency or max(len(users), 1))

    async def attempt(index: int, user: UserWrite) -> ItemResult | Unavailable:
        if interval_seconds:
            await asyncio.sleep(index * interval_seconds)
        async with turns:
            try:
                return await write(user)
            except Unavailable as error:
                return error

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(attempt(index, user)) for index, user in enumerate(users)]
    results = [task.result() for task in tasks]
    errors = [each for each in results if isinstance(each, Unavailable)]
    if errors and len(errors) == len(results):
        raise max(errors, key=lambda error: error.retry_after)
    return [
        retry("Unavailable", each.message, float(each.retry_after)) if isinstance(each, Unavailable) else each
        for each in results
    ]
