"""The sections browser and os: names of the schema, and values from the user agent."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from headwater.events.context.platforms import normalise_browser, normalise_os
from tests.jsontexts import json_values

TOLD = Raw(b'{"name":"Chrome","version":"126.0"}')


@pytest.mark.parametrize(
    ("sent", "normal"),
    [
        ({"name": "Chrome"}, {"name": "Chrome"}),
        ({"name": "chrome", "version": "1"}, {"name": "Chrome", "version": "1"}),
        ({"name": "FIREFOX", "x": 1.5}, {"name": "Firefox", "x": 1.5}),
        ({"name": "samsung internet"}, {"name": "Samsung Internet"}),
        ({"name": "Microsoft Edge"}, {"name": "Edge"}),
        ({"name": "Vivaldi", "version": "6"}, {"name": "Other", "version": "6", "other": "Vivaldi"}),
        ({"name": "IE"}, {"name": "Other", "other": "IE"}),
        ({"name": "Other", "other": "Vivaldi"}, {"name": "Other", "other": "Vivaldi"}),
        ({"name": "x" * 500}, {"name": "Other", "other": "x" * 500}),
        ({"version": "125"}, {"name": "Chrome", "version": "125"}),
        ({"name": "", "version": ""}, {"name": "Chrome", "version": "126.0"}),
        ({"name": None, "version": None}, {"name": "Chrome", "version": "126.0"}),
        ({}, {"name": "Chrome", "version": "126.0"}),
        (
            {"other": None, "channel": None, "build": "", "": ""},
            {"name": "Chrome", "version": "126.0", "channel": None, "build": "", "": ""},
        ),
        ({"name": "chrome", "build": None, "x": ""}, {"name": "Chrome", "build": None, "x": ""}),
        ({"name": "Vivaldi", "build": None, "x": ""}, {"name": "Other", "build": None, "x": "", "other": "Vivaldi"}),
        (None, {"name": "Chrome", "version": "126.0"}),
        ({"name": 5}, {"name": 5}),
        ("Chrome", "Chrome"),
        ([], []),
    ],
    ids=lambda value: str(value)[:40],
)
def test_browser(sent: object, normal: object) -> None:
    text = Raw(json.dumps(sent).encode())
    result = normalise_browser(text, TOLD)
    assert json.loads(bytes(result)) == normal
    assert (result is text) == (sent == normal)


@pytest.mark.parametrize(
    ("sent", "normal"),
    [
        ("ios", "iOS"),
        ("iOS", "iOS"),
        ("iPadOS", "iOS"),
        ("darwin", "macOS"),
        ("macos", "macOS"),
        ("Mac OS X", "macOS"),
        ("ANDROID", "Android"),
        ("ChromeOS", "Chrome OS"),
        ("windows", "Windows"),
        ("linux", "Linux"),
    ],
)
def test_os(sent: str, normal: str) -> None:
    assert json.loads(bytes(normalise_os(Raw(json.dumps({"name": sent}).encode()), Raw()))) == {"name": normal}


def test_an_os_that_the_schema_does_not_list_keeps_its_name() -> None:
    section = normalise_os(Raw(b'{"name":"Ubuntu","version":"24.04"}'), TOLD)
    assert json.loads(bytes(section)) == {"name": "Other", "version": "24.04", "other": "Ubuntu"}


@pytest.mark.parametrize("sent", [b"null", b"{}", b'{"version":"1"}', b'{"name":""}'])
def test_without_a_user_agent_a_section_without_a_name_stays(sent: bytes) -> None:
    text = Raw(sent)
    assert normalise_browser(text, Raw()) is text


def test_other_members_keep_every_digit() -> None:
    assert (
        bytes(normalise_browser(Raw(b'{"name":"safari","n":1.0,"z":1E400}'), Raw()))
        == b'{"name":"Safari","n":1.0,"z":1E400}'
    )


_SECTIONS = st.dictionaries(st.sampled_from(["name", "version", "other", "build", "", "x"]), json_values, max_size=5)


@given(_SECTIONS, st.sampled_from([TOLD, Raw(b'{"name":"Other","other":"Unknown"}'), Raw()]), st.booleans())
def test_only_name_version_and_other_are_touched(sent: dict[str, Any], told: Raw, is_system: bool) -> None:
    text = Raw(json.dumps(sent).encode())
    result = json.loads(bytes((normalise_os if is_system else normalise_browser)(text, told)))
    assert {name: value for name, value in result.items() if name not in ("name", "version", "other")} == {
        name: value for name, value in sent.items() if name not in ("name", "version", "other")
    }
