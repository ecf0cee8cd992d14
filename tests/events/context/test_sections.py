"""The normal forms of the small members: device, locale, screen and session."""

import json

import pytest
from msgspec import Raw

from headwater.events.context.normalise import (
    find_described_device,
    normalise_locale,
    normalise_screen,
    normalise_session,
)

PROPERTIES = Raw(b'{"device":{"token":"p"}}')


@pytest.mark.parametrize(
    ("event", "properties", "expected"),
    [
        ("Device Created or Updated", PROPERTIES, b'{"token":"p"}'),
        ("Device Deleted", PROPERTIES, b'{"token":"p"}'),
        ("Device Deleted", Raw(), b""),
        ("Device Deleted", Raw(b'{"device":"x"}'), b""),
        ("Order Completed", PROPERTIES, b""),
        (None, PROPERTIES, b""),
    ],
)
def test_device(event: str | None, properties: Raw, expected: bytes) -> None:
    assert bytes(find_described_device(event, properties)) == expected


LOCALES = {
    "en-US": "en-US",
    "en_US": "en-US",
    "en-us": "en-US",
    "EN-us": "en-US",
    "en_US.UTF-8": "en-US",
    "it": "it",
    "IT": "it",
    "zh_hans_cn": "zh-Hans-CN",
    "zh-hant": "zh-Hant",
    "es-419": "es-419",
    "fil-PH": "fil-PH",
    "sr_RS@latin": "sr_RS@latin",
    "de-DE-1996": "de-DE-1996",
    "english": "english",
    "C": "C",
    "": "",
    "en-US ": "en-US ",
    "x" * 100: "x" * 100,
    "é-US": "é-US",
}


@pytest.mark.parametrize(("sent", "normal"), LOCALES.items())
def test_locales(sent: str, normal: str) -> None:
    text = Raw(json.dumps(sent).encode())
    result = normalise_locale(text)
    assert json.loads(bytes(result)) == normal
    assert (result is text) == (sent == normal)


@pytest.mark.parametrize("sent", [b"null", b"5", b"[]", b'{"a":"en_US"}'])
def test_what_is_no_text_stays(sent: bytes) -> None:
    text = Raw(sent)
    assert normalise_locale(text) is text


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ("2.625", "2.63"),
        ("2.624999", "2.62"),
        ("3.5000000", "3.50"),
        ("1e0", "1.00"),
        ("0.0051", "0.01"),
        ("9.994", "9.99"),
    ],
)
def test_density_is_rounded(sent: str, stored: str) -> None:
    text = Raw(b'{"width":390,"density":%s,"x":1.0}' % sent.encode())
    assert bytes(normalise_screen(text)) == b'{"width":390,"density":%s,"x":1.0}' % stored.encode()


@pytest.mark.parametrize(
    "density",
    (
        *("2", "2.5", "2.75", "0", "0.004", "9.995", "10.5", "-1.555", "1e999999999", "1e-9"),
        *("null", '"2.625"', "[]", "true", "1." + "3" * 100),
    ),
)
def test_other_densities_stay_as_sent(density: str) -> None:
    text = Raw(b'{"density":%s}' % density.encode())
    assert normalise_screen(text) is text


@pytest.mark.parametrize("sent", [b"null", b"5", b"{}", b'{"width":411.4}'])
def test_a_section_without_density_stays(sent: bytes) -> None:
    text = Raw(sent)
    assert normalise_screen(text) is text


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
    result = normalise_session(*sent)
    assert tuple(bytes(text).decode() for text in result) == expected
    for before, after in zip(sent, result, strict=True):
        assert (after is before) == (bytes(after) == bytes(before))
