"""Sessions that another thread closes: while they are opened, while they are used, and afterwards."""

import threading

import pytest

from headwater.base.errors import Unavailable
from headwater.connectors.databases.sessions import KeptSession, OpenSessions


def test_open_sessions_are_ended_once_and_freed_by_their_users() -> None:
    calls: list[tuple[str, str]] = []
    sessions = OpenSessions[str](lambda each: calls.append(("end", each)), lambda each: calls.append(("close", each)))
    with sessions.use("finished"):
        pass
    with sessions.use("running"):
        sessions.close()
        assert sessions.is_closed
        assert calls == [("close", "finished"), ("end", "running")]
    with pytest.raises(Unavailable), sessions.use("late"):
        pytest.fail("a session is used after the end")
    sessions.close()
    assert calls[2:] == [("close", "running"), ("close", "late")]


def test_a_session_is_not_freed_while_it_is_ended() -> None:
    is_ending, may_end, calls = threading.Event(), threading.Event(), list[str]()

    def end(_: str) -> None:
        is_ending.set()
        assert may_end.wait(10)
        calls.append("end")

    sessions = OpenSessions[str](end, lambda _: calls.append("close"))
    closing = threading.Thread(target=sessions.close)
    with sessions.use("running"):
        closing.start()
        assert is_ending.wait(10)
        threading.Timer(0.05, may_end.set).start()
    closing.join(10)
    assert calls == ["end", "close"]


def test_a_kept_session_is_opened_once_and_again_after_it_was_forgotten() -> None:
    numbers, ended = iter(range(10)), list[int]()
    kept = KeptSession(lambda: next(numbers), ended.append)
    assert [kept.get(), kept.get()] == [0, 0]
    kept.forget()
    assert kept.get() == 1
    kept.close()
    kept.close()
    with pytest.raises(Unavailable):
        kept.get()
    assert ended == [0, 1]


def test_a_session_is_ended_if_it_is_closed_while_it_is_opened() -> None:
    ended: list[int] = []

    def open_() -> int:
        kept.close()
        return 1

    kept = KeptSession(open_, ended.append)
    with pytest.raises(Unavailable):
        kept.get()
    assert ended == [1]
