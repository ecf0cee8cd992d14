"""The session, wherever a client says it."""

import pytest
from msgspec import Raw

from headwater.events.context.sessions import session_of

MAX = 2**63 - 1


@pytest.mark.parametrize(
    ("session", "session_id", "session_start", "expected"),
    [
        ("", "1712345678901", "true", ('{"id":"1712345678901","start":true}', "", "")),
        ("", "1712345678901", "", ('{"id":"1712345678901"}', "", "")),
        ("", '"17"', "false", ('{"id":"17","start":false}', "", "")),
        ("null", "5", "", ('{"id":"5"}', "", "")),
        ("{}", "5", "", ('{"id":"5"}', "", "")),
        ('{"id":7}', "", "", ('{"id":"7"}', "", "")),
        ('{"id":-7,"x":1.0}', "", "", ('{"id":"-7","x":1.0}', "", "")),
        ('{"id":"7"}', "5", "true", ('{"id":"7","start":true}', "5", "")),
        ('{"id":null}', "5", "", ('{"id":"5"}', "", "")),
        ('{"id":"abc"}', "5", "", ('{"id":"abc"}', "5", "")),
        ('{"start":false}', "", "true", ('{"start":false}', "", "true")),
        (f'{{"id":{MAX}}}', "", "", (f'{{"id":"{MAX}"}}', "", "")),
        (f'{{"id":{MAX + 1}}}', "", "", (f'{{"id":{MAX + 1}}}', "", "")),
        ('{"id":1.5}', "", "", ('{"id":1.5}', "", "")),
        ('{"id":"007"}', "", "", ('{"id":"007"}', "", "")),
        ("", "1.5", "1", ("", "1.5", "1")),
        ("", "null", "null", ("", "null", "null")),
        ("5", "5", "true", ("5", "5", "true")),
    ],
)
def test_session(session: str, session_id: str, session_start: str, expected: tuple[str, str, str]) -> None:
    sent = [Raw(text.encode()) for text in (session, session_id, session_start)]
    result = session_of(*sent)
    assert tuple(bytes(text).decode() for text in result) == expected
    for before, after in zip(sent, result, strict=True):
        assert (after is before) == (bytes(after) == bytes(before))
