"""The context of events in the whole system: data of the connection, the user agent and a location database."""

from pathlib import Path

from tests.e2e.source import Source, make_source
from tests.system import RunningSystem, free_port, serve

FIREFOX = "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0"
PARSED = {"browser": {"name": "Firefox", "version": "127.0"}, "os": {"name": "Linux"}}
ROME = {"city": "Rome", "country": "IT", "latitude": 41.9, "longitude": 12.5}


def page(source: Source, **context: object) -> dict[str, object]:
    """Return the stored context of a page event of a browser."""
    body = {"userId": "u"} | ({"context": context} if context else {})
    before = len(source.events())
    assert source.send("page", body, **{"user-agent": FIREFOX}).status_code == 200
    found: dict[str, object] = source.wait_for(before + 1)[-1].get("context", {})
    return found


def test_the_context_has_the_data_of_the_connection(configured_system: RunningSystem) -> None:
    source = make_source(configured_system, connector="javascript", strategy="Conversion")
    assert page(source) == {"userAgent": FIREFOX, "ip": "127.0.0.1", **PARSED}
    assert page(source, ip="255.255.0.0", userAgent=FIREFOX) == {"userAgent": FIREFOX, "ip": "127.0.0.0", **PARSED}
    assert page(source, ip="0.0.0.0", userAgent=FIREFOX) == {"userAgent": FIREFOX, **PARSED}


def test_the_context_of_a_server_is_stored(configured_system: RunningSystem) -> None:
    source = make_source(configured_system)
    assert page(source) == {}
    sent = {"ip": "203.0.113.9", "locale": "it_IT", "screen": {"width": 390, "density": 2.625}, "page": {"n": 1.0}}
    assert page(source, **sent) == {
        **sent,
        "locale": "it-IT",
        "screen": {"width": 390, "density": 2.63},
        "location": ROME,
    }


def test_an_invalid_location_database_is_reported_at_the_start(tmp_path: Path) -> None:
    process = serve(tmp_path / "data", free_port(), HEADWATER_MAXMIND_DB=str(tmp_path / "missing.mmdb"))
    assert process.wait(60) == 1
    errors = (tmp_path / "data" / "stderr.txt").read_text()
    assert errors == (
        f"headwater: HEADWATER_MAXMIND_DB cannot be read: {tmp_path}/missing.mmdb (No such file or directory)\n"
    )
