"""Finds the users of an application by a property of profiles: its values as those of the application's property.

Values are compared as texts, byte by byte, or without letter case if the application ignores it. A user whose value is
null, or could not be read, is found by no profile.
"""

import re
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from headwater.base.errors import HeadwaterError, Unavailable
from headwater.connectors.contract import UserSource, UsersPage, find_read_rates
from headwater.runs.exporting.outbox import Outbox, OutboxThread
from headwater.runs.exporting.pausing import Pauses
from headwater.runs.job import Job, RunFailed
from headwater.runs.rates import RunRates, open_rates
from headwater.schemas import (
    MISSING,
    IntType,
    InvalidValue,
    Path,
    Record,
    Schema,
    StringType,
    Type,
    UuidType,
    Value,
    canonical_uuid,
    compile_check,
    parse_path,
    property_at,
    value_at,
)

Conversion = Callable[[Any], Value]
"""Returns a value of the profile as one of the application. Raises InvalidValue if it cannot be one."""

MAX_USERS_IN_MEMORY: Final = 10_000
_INTEGER: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,19})", re.ASCII)


def compile_conversion(source: Type, target: Type) -> Conversion:
    """Return the conversion between two types of matching properties. Raises RunFailed if there is none."""
    convert: Callable[[Any], Any]
    match source, target:
        case (IntType(), IntType()) | (StringType(), StringType()) | (UuidType(), UuidType() | StringType()):
            convert = _same
        case IntType(), StringType():
            convert = str
        case StringType(), IntType():
            convert = _integer
        case StringType(), UuidType():
            convert = _uuid
        case _:
            raise RunFailed("OutputValidation", f"values of type {source} cannot be matched with type {target}")
    check = compile_check(target)

    def run(value: Any) -> Value:
        converted: Value = convert(value)
        check(converted)
        return converted

    return run


class Matching:
    """The matching of a pipeline."""

    def __init__(self, in_path: str, out_path: str, in_schema: Schema, out_schema: Schema) -> None:
        self.in_path = in_path
        self.out_path: Path = parse_path(out_path)
        self._in: Path = parse_path(in_path)
        source, self._target = property_at(in_schema, in_path), property_at(out_schema, out_path)
        self._convert = compile_conversion(source.type, self._target.type)
        self.ignores_case = False
        """Whether the application ignores letter case in the values of the property."""

    @property
    def is_update_required(self) -> bool:
        """Whether an update needs the property too."""
        return self._target.update_required

    def value(self, record: Record) -> Value:
        """Return the value by which a profile finds its users; None without one. Raises InvalidValue."""
        value = value_at(record, self._in)
        return None if value in (None, MISSING) else self._convert(value)

    def key(self, value: Value) -> str:
        """Return the text by which a value is compared."""
        text = str(value)
        return text.casefold() if self.ignores_case else text

    def add(self, attributes: Record, text: str) -> None:
        """Put a value, given as its text, into the attributes of a user."""
        value: Value = int(text) if isinstance(self._target.type, IntType) else text
        here: Any = attributes
        for name in self.out_path[:-1]:
            here = here.setdefault(name, {})
        here[self.out_path[-1]] = value


async def read_users(job: Job, source: UserSource, matching: Matching, outbox: OutboxThread) -> None:
    """Read all users of the application, of each the value of the property. Raises RunFailed, RunCancelled."""
    async with open_rates(job, find_read_rates(source)) as rates:
        await _read_pages(job, source, rates, matching, outbox)
    await outbox.run(Outbox.index_users)


async def _read_pages(job: Job, source: UserSource, rates: RunRates, matching: Matching, outbox: OutboxThread) -> None:
    cursor, seen = "", set()
    waiting: list[tuple[str, str]] = []
    while True:
        job.report.check()
        await rates.wait()
        page = await _read_page(job, source, cursor)
        job.report.read(rows=len(page.users))
        for user in page.users:
            value = None if user.error else value_at(user.attributes, matching.out_path)
            if value not in (None, MISSING):
                waiting.append((user.id, matching.key(value)))
        if len(waiting) >= MAX_USERS_IN_MEMORY or not page.cursor:
            users, waiting = waiting, []
            await outbox.run(partial(Outbox.add_users, users=users))
        if not page.cursor:
            return
        if page.cursor in seen:
            raise RunFailed("Receive", f"{job.connector.label} returns the same page of users again and again")
        seen.add(page.cursor)
        cursor = page.cursor


async def _read_page(job: Job, source: UserSource, cursor: str) -> UsersPage:
    pauses = Pauses(job)
    while True:
        try:
            return await source.users(cursor)
        except Unavailable as error:
            await pauses.wait(f"the users of {job.connector.label} cannot be read: {error.message}", error, "Receive")
        except HeadwaterError as error:
            raise RunFailed("Receive", f"the users of {job.connector.label} cannot be read: {error.message}") from error


def _same(value: Any) -> Any:
    return value


def _integer(text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise InvalidValue("must be the digits of an integer")
    return int(text)


def _uuid(text: str) -> str:
    try:
        return canonical_uuid(text)
    except ValueError:
        raise InvalidValue("must be a UUID") from None
