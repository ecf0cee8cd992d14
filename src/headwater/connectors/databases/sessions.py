"""The sessions with a database that sources and sinks have open, and that another thread can end."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from headwater.base.errors import Unavailable

T = TypeVar("T")


def connection_closed() -> Unavailable:
    """Return the error for a call that a `close` has ended, or that comes after it."""
    return Unavailable("the connection to the database was closed")


class OpenSessions(Generic[T]):
    """The sessions of a source, one for each query that is read. `close` ends them from any thread."""

    def __init__(self, end: Callable[[T], object], close: Callable[[T], object]) -> None:
        """`end` makes the running call of a session fail, from any thread, and raises nothing. `close` frees a session.

        A session is not freed while it is ended, and not ended after it was freed.
        """
        self._end = end
        self._close = close
        self._lock = threading.Lock()
        self._open: set[T] = set()
        self.is_closed = False

    @contextmanager
    def use(self, session: T) -> Iterator[None]:
        """Free a session at the end of the block. Raises Unavailable after `close`."""
        with self._lock:
            self._open.add(session)
        try:
            if self.is_closed:
                raise connection_closed()
            yield
        finally:
            with self._lock:
                self._open.discard(session)
            self._close(session)

    def close(self) -> None:
        """End all sessions. May be called from any thread."""
        with self._lock:
            self.is_closed = True
            for session in self._open:
                self._end(session)


class KeptSession(Generic[T]):
    """The session that a sink keeps. It is opened at its first use, and again after `forget`."""

    def __init__(self, open_: Callable[[], T], end: Callable[[T], object]) -> None:
        """`end` ends and frees a session; it may be called from any thread."""
        self._open = open_
        self._end = end
        self._session: T | None = None
        self._is_closed = False

    def get(self) -> T:
        """Return the session. Raises Unavailable after `close`, and the errors of opening one."""
        self._check_open()
        session = self._session
        if session is None:
            session = self._session = self._open()
            self._check_open()  # another thread may have closed it in the meantime
        return session

    def _check_open(self) -> None:
        if self._is_closed:
            self.forget()
            raise connection_closed()

    def forget(self) -> None:
        """End the session, if there is one."""
        session, self._session = self._session, None
        if session is not None:
            self._end(session)

    def close(self) -> None:
        """End the session for good. May be called from any thread; a running call raises Unavailable."""
        self._is_closed = True
        self.forget()
