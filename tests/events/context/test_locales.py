"""One spelling for each locale."""

import json

import pytest
from msgspec import Raw

from headwater.events.context.locales import locale_of

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
    result = locale_of(text)
    assert json.loads(bytes(result)) == normal
    assert (result is text) == (sent == normal)


@pytest.mark.parametrize("sent", [b"null", b"5", b"[]", b'{"a":"en_US"}'])
def test_what_is_no_text_stays(sent: bytes) -> None:
    text = Raw(sent)
    assert locale_of(text) is text
