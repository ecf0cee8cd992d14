"""User agents: real ones, and other texts."""

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from headwater.events.context.agents import MAX_BYTES, read_agent
from headwater.events.context.names import BROWSERS, SYSTEMS

WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko)"
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"
WINDOWS = f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {WEBKIT}"
ANDROID = f"Mozilla/5.0 (Linux; Android 14; Pixel 8) {WEBKIT}"

Section = dict[str, str]


def told(user_agent: str) -> tuple[Section, Section]:
    agent = read_agent(Raw(json.dumps(user_agent).encode()))
    return json.loads(bytes(agent.browser)), json.loads(bytes(agent.os))


def named(name: str, version: str | None = None, other: str | None = None) -> Section:
    members = {"name": name, "other": other, "version": version}
    return {member: value for member, value in members.items() if value is not None}


UNKNOWN = named("Other", other="Unknown")

REAL = [
    (f"{WINDOWS} Chrome/126.0.6478.127 Safari/537.36", named("Chrome", "126.0.6478"), named("Windows", "10")),
    (
        f"{WINDOWS} Chrome/126.0.0.0 Safari/537.36 Edg/126.0.2592.87",
        named("Edge", "126.0.2592"),
        named("Windows", "10"),
    ),
    (f"{WINDOWS} Chrome/125.0.0.0 Safari/537.36 OPR/111.0.0.0", named("Opera", "111.0.0"), named("Windows", "10")),
    (
        f"{WINDOWS} Chrome/124.0.0.0 Safari/537.36 Vivaldi/6.7",
        named("Other", "6.7", "Vivaldi"),
        named("Windows", "10"),
    ),
    (
        "Mozilla/5.0 (Windows NT 6.1; WOW64; Trident/7.0; rv:11.0) like Gecko",
        named("Other", "11.0", "IE"),  # which is not Edge
        named("Windows", "7"),
    ),
    (f"{ANDROID} Chrome/126.0.6478.122 Mobile Safari/537.36", named("Chrome", "126.0.6478"), named("Android", "14")),
    (
        f"{ANDROID} SamsungBrowser/25.0 Chrome/121.0.0.0 Mobile Safari/537.36",
        named("Samsung Internet", "25.0"),
        named("Android", "14"),
    ),
    (f"{IPHONE} Version/17.4.1 Mobile/15E148 Safari/604.1", named("Safari", "17.4.1"), named("iOS", "17.4.1")),
    (f"{IPHONE} CriOS/126.0.6478.54 Mobile/15E148 Safari/604.1", named("Chrome", "126.0.6478"), named("iOS", "17.4.1")),
    (f"{IPHONE} FxiOS/127.0 Mobile/15E148 Safari/605.1.15", named("Firefox", "127.0"), named("iOS", "17.4.1")),
    (f"{IPHONE} Mobile/15E148", named("Safari"), named("iOS", "17.4.1")),
    (
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4 "
        "Safari/605.1.15",
        named("Safari", "17.4"),
        named("macOS", "10.15.7"),
    ),
    (
        f"Mozilla/5.0 (X11; Linux x86_64) {WEBKIT} Chrome/132.0.0.0 Safari/537.36",
        named("Chrome", "132.0.0"),
        named("Linux"),  # its version is not the browser's
    ),
    (
        f"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) {WEBKIT} Chrome/126.0.0.0 Safari/537.36",
        named("Chrome", "126.0.0"),
        named("Chrome OS", "14541.0.0"),
    ),
    (
        "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0",
        named("Firefox", "127.0"),
        named("Linux"),
    ),
    ("okhttp/4.12.0", named("Other", "4.12.0", "okhttp"), UNKNOWN),
    ("analytics-python/2.4.0", UNKNOWN, UNKNOWN),
    ("?", UNKNOWN, UNKNOWN),
]


@pytest.mark.parametrize(("user_agent", "browser", "os"), REAL, ids=lambda value: str(value)[:40])
def test_real_user_agents(user_agent: str, browser: Section, os: Section) -> None:
    assert told(user_agent) == (browser, os)


def test_a_version_that_is_too_long_is_none() -> None:
    browser, _ = told(f"{WINDOWS} Chrome/{'1' * 12}.{'2' * 12}.3 Safari/537.36")
    assert browser == named("Chrome")


@pytest.mark.parametrize(
    "text", [b"", b"null", b'""', b"5", b"[]", b'{"a":"Chrome/1.2"}', b'"%s"' % (b"x" * (MAX_BYTES - 1))]
)
def test_no_user_agent_tells_nothing(text: bytes) -> None:
    agent = read_agent(Raw(text))
    assert (bytes(agent.browser), bytes(agent.os)) == (b"", b"")


@given(st.text(min_size=1, max_size=100))
def test_every_name_from_a_user_agent_is_in_the_schema(user_agent: str) -> None:
    text = Raw(json.dumps(user_agent).encode())
    for section, names in ((read_agent(text).browser, BROWSERS), (read_agent(text).os, SYSTEMS)):
        if section:
            members = json.loads(bytes(section))
            assert members["name"] in set(names.values())
            assert ("other" in members) == (members["name"] == "Other")


@pytest.mark.process
def test_the_rules_are_loaded_at_the_first_use() -> None:
    """The rules take time and memory, which processes that only accept events do not need."""
    program = "import sys, headwater.events.canonical; sys.exit('ua_parser' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)
