"""Reads the users of an application, page by page."""

import time
from collections.abc import Iterator
from datetime import datetime
from typing import Final

from headwater.base.clock import Clock, from_microseconds, microseconds
from headwater.base.errors import HeadwaterError, Unavailable
from headwater.connectors.contract import SourceUser, UserSource, UsersPage
from headwater.runs.importing.alignment import check_schema
from headwater.runs.importing.records import FailedRecord, Place, RawBatch, RawRecord
from headwater.runs.importing.waiting import WaitFor
from headwater.runs.job import Report, RunFailed
from headwater.runs.rates import RunRates
from headwater.schemas import Schema

MAX_ATTEMPTS: Final = 6
"""Attempts to read a page of an application that does not respond, before the run fails: about half a minute."""
INITIAL_PAUSE_SECONDS: Final = 1.0
"""Pause after the first failed attempt. It doubles with each one."""
MAX_PAUSE_SECONDS: Final = 300
"""Longest wait that an application can ask for. A run that has to wait longer fails."""
MAX_EMPTY_PAGES: Final = 1_000
"""Maximum number of pages without users in a row."""
SCHEMA_CHECK_SECONDS: Final = 60.0
"""Interval at which the schema of the application is compared with the stored one."""
MIN_YEAR: Final = 1900
_DEFAULT_RETRY_SECONDS: Final = 1
"""The wait that an error asks for if the application asks for none."""
_CHECK_SECONDS: Final = 0.2


class ApplicationSource:
    """Implements `Source`."""

    has_filter = True
    columns = None
    skips_repeats = True

    def __init__(self, users: UserSource, rates: RunRates, wait_for: WaitFor, report: Report, clock: Clock) -> None:
        self._users = users
        self._rates = rates
        self._wait_for = wait_for
        self._report = report
        self._clock = clock
        self._stored: Schema | None = None
        self._checked_at = 0.0

    def open(self, stored: Schema, since: int | None) -> None:
        """Check the schema of the application. Raises RunFailed."""
        self._stored = stored
        self._check_schema()

    def restarts(self, place: Place) -> bool:
        return False

    def batches(self, since: int | None, place: Place) -> Iterator[RawBatch]:
        """Read the pages from a place on. Raises RunFailed."""
        cursor, empty = place.page, 0
        cursors = {cursor}
        while True:
            page = self._read_page(cursor, None if since is None else from_microseconds(since))
            empty = 0 if page.users else empty + 1
            if page.cursor and (page.cursor in cursors or empty > MAX_EMPTY_PAGES):
                raise RunFailed(
                    "Receive", "the application repeats a cursor, or returns pages without users, without end"
                )
            yield self._batch(page, since)
            if not page.cursor:
                return
            cursor = page.cursor
            cursors = {cursor} if len(cursors) >= MAX_EMPTY_PAGES else cursors | {cursor}
            if time.monotonic() - self._checked_at > SCHEMA_CHECK_SECONDS:
                self._check_schema()

    def close(self) -> None:
        """Do nothing: the context of the connection is closed by its owner."""

    def _batch(self, page: UsersPage, since: int | None) -> RawBatch:
        now = self._clock.now()
        rows: dict[str, RawRecord] = {}
        failed: list[FailedRecord] = []
        for user in page.users:
            if user.error:
                failed.append(FailedRecord("Receive", user.error, id=user.id))
            elif user.id in rows:
                continue
            elif reason := _find_wrong_time(user, now):
                failed.append(FailedRecord("Receive", reason, id=user.id))
            else:
                updated_at = None if user.updated_at is None else microseconds(user.updated_at)
                rows[user.id] = RawRecord(user.id, user.attributes, updated_at)
        return RawBatch(Place(page=page.cursor), list(rows.values()), failed=failed)

    def _read_page(self, cursor: str, since: datetime | None) -> UsersPage:
        pause = INITIAL_PAUSE_SECONDS
        for attempt in range(1, MAX_ATTEMPTS + 1):
            self._wait_for(self._rates.wait())
            try:
                return self._wait_for(self._users.users(cursor, since))
            except Unavailable as error:
                if attempt == MAX_ATTEMPTS or error.retry_after > MAX_PAUSE_SECONDS:
                    raise RunFailed("Receive", error.message) from error
                asked = error.retry_after if error.retry_after > _DEFAULT_RETRY_SECONDS else 0.0
            except HeadwaterError as error:
                raise RunFailed("Receive", error.message) from error
            self._pause(max(pause, asked))
            pause *= 2
        raise AssertionError("the last attempt returns or raises")

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._report.check()
            time.sleep(min(left, _CHECK_SECONDS))

    def _check_schema(self) -> None:
        assert self._stored is not None, "it is open"
        try:
            check_schema(self._stored, self._wait_for(self._users.readable_schema()))
        except HeadwaterError as error:
            raise RunFailed("Receive", error.message) from error
        self._checked_at = time.monotonic()


def _find_wrong_time(user: SourceUser, now: datetime) -> str:
    """Return why the time of a user cannot be; empty if it can."""
    if user.updated_at is not None and user.updated_at.year < MIN_YEAR:
        return f"the update time of the user is before the year {MIN_YEAR}"
    return ""
