"""Personal data in calls that fail in every way is not in the logs."""

from pathlib import Path
from typing import Any, Final

from tests.e2e.source import make_source, post
from tests.system import HTTP, RunningSystem, start, wait_until

PERSON: Final = "ada.lovelace"
"""Part of every value that is sent. It stands for personal data, and is in no name of the system."""

FUNCTIONS: Final = {
    "JavaScript": "function transform(event) { throw new Error('no mail for ' + event.traits.email); }",
    "Python": "def transform(event):\n    raise ValueError('no mail for ' + event['traits']['email'])\n",
}
RETURNS: Final = {
    "JavaScript": "function transform(event) { return {age: event.traits.email, [event.traits.email]: 1}; }",
    "Python": "def transform(event):\n    return {'age': event['traits']['email'], event['traits']['email']: 1}\n",
}


def _schema(name: str, kind: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "object", "properties": [{"name": name, "type": kind, "readOptional": True}]}


AGE: Final = _schema("age", {"kind": "int", "bitSize": 32})


def _pipeline(system: RunningSystem, connection: int, name: str, transformation: dict[str, Any]) -> None:
    body = {"connection": connection, "target": "User", "name": name, "enabled": True, "outSchema": AGE}
    post(system, "/v1/pipelines", {**body, "transformation": transformation})


def _function(language: str, source: str) -> dict[str, Any]:
    paths = {"inPaths": ["traits"], "outPaths": ["age"], "preserveJSON": False}
    return {"function": {"language": language, "source": source, **paths}}


def test_no_data_of_events_is_logged(tmp_path: Path) -> None:
    """Logs as text have the same members: see tests/server/test_logging.py."""
    system = start(tmp_path / "data", HEADWATER_LOG_LEVEL="debug", HEADWATER_LOG_FORMAT="json")
    try:
        shop = make_source(system)
        for sources in (FUNCTIONS, RETURNS):
            for language, source in sources.items():
                _pipeline(system, shop.id, language, _function(language, source))
        _pipeline(system, shop.id, "mapping", {"mapping": {"age": "traits.email"}})
        event = {"messageId": "m", "userId": f"{PERSON}-1", "traits": {"email": f"{PERSON}@private.example"}}
        shop.send("identify", event)
        wait_until(lambda: _failed_steps(system) == 5, 30)

        _send_invalid_calls(system, shop.write_key)
        for transformation in (_function("Python", FUNCTIONS["Python"]), {"mapping": {"age": "traits.email"}}):
            data = {"traits": {"email": f"{PERSON}@private.example"}}
            body = {"data": data, "inSchema": _schema("traits", {"kind": "json"}), "outSchema": AGE}
            _call(system, "/v1/transformations", json={**body, "transformation": transformation, "purpose": "Import"})
    finally:
        assert system.stop() == 0
    assert system.errors.count("events fail in a pipeline") == 5, "one line for each pipeline"
    written = system.errors + (system.data_dir / "stdout.txt").read_text()
    assert [line for line in written.splitlines() if PERSON in line.lower()] == []


def _send_invalid_calls(system: RunningSystem, key: str) -> None:
    """Send bodies that break a rule of the track API, and one that is not JSON."""
    for body in (
        f'{{"userId": "{PERSON}", "event": ',
        f'{{"userId": "{PERSON}"}}',
        f'{{"userId": "{PERSON}", "event": "E", "timestamp": "{PERSON}"}}',
        f'{{"userId": "{PERSON}", "event": "E", "properties": "{PERSON}"}}',
        f'{{"userId": "{PERSON}", "event": "{PERSON * 10_000}"}}',
        f'["{PERSON}"]',
    ):
        HTTP.post(f"{system.base_url}/v1/track", content=body, auth=(key, ""))
        HTTP.post(f"{system.base_url}/v1/track", content=body, auth=(f"{PERSON}-unknown", ""))
    _call(system, "/v1/connections", content=f'{{"name": "{PERSON}"')
    _call(system, "/v1/pipelines", json={"connection": PERSON, "name": PERSON})


def _call(system: RunningSystem, path: str, **body: Any) -> None:
    HTTP.post(f"{system.base_url}{path}", headers=system.authorization, **body)


def _failed_steps(system: RunningSystem) -> int:
    trace = HTTP.get(f"{system.base_url}/v1/events/m/trace", headers=system.authorization)
    if trace.status_code != 200:
        return 0
    return trace.text.count('"Failed"')
