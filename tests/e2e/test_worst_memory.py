"""The memory of each process with the worst input that the API accepts: transformations that multiply their input.

HEADWATER_WORST_MAPPINGS sets the number of pipelines that each event goes through.
"""

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest

from headwater.schemas import MAX_PROPERTIES
from headwater.transforms.mapping import MAX_EXPRESSIONS_PARTS, MAX_LENGTH
from tests.e2e.crash.arrangement import peak_mib
from tests.e2e.source import make_source, post
from tests.e2e.test_containment import outcome, wait_for_outcome
from tests.system import start, wait_until
from tests.tenants import add_tenant, function, mapping

MAX_MIB: Final = 400
REFERENCE: Final = "properties.p "
MAPPINGS: Final = int(os.environ.get("HEADWATER_WORST_MAPPINGS", "8"))
CALLS: Final = 3
"""One of each size."""
DONE_WITHIN_SECONDS: Final = 240.0
MULTIPLYING: Final = {
    "JavaScript": "function transform(e) { return { email: 'x'.repeat(1000000) + e.userId } }",
    "Python": "def transform(e):\n    return {'email': 'x' * 1000000 + e['userId']}\n",
}


def wide_schema() -> dict[str, Any]:
    """Return a schema with the maximum number of text properties."""
    text = {"kind": "string"}
    return {
        "kind": "object",
        "properties": [{"name": f"p{number}", "type": text, "readOptional": True} for number in range(MAX_PROPERTIES)],
    }


def large_text() -> dict[str, Any]:
    return {
        "kind": "object",
        "properties": [{"name": "email", "type": {"kind": "string"}, "readOptional": True}],
    }


@pytest.mark.timeout(700)
def test_memory_is_bounded_and_another_workspace_continues(tmp_path: Path) -> None:
    system = start(tmp_path / "data")
    try:
        a, b = make_source(add_tenant(system, "A")), make_source(add_tenant(system, "B"))
        base = {"connection": a.id, "target": "User", "enabled": True}
        names = [f"p{number}" for number in range(MAX_PROPERTIES)]
        repeated = REFERENCE * (MAX_EXPRESSIONS_PARTS - MAX_PROPERTIES)
        wide = mapping(dict.fromkeys(names, "properties.p") | {"p0": repeated}, wide_schema())
        long = mapping({"email": REFERENCE * min(MAX_EXPRESSIONS_PARTS, MAX_LENGTH // len(REFERENCE))}, large_text())
        for number in range(MAPPINGS):
            post(a.system, "/v1/pipelines", base | {"name": f"M{number}"} | (wide if number % 2 else long))
        for language, source in MULTIPLYING.items():
            body = function(language, source) | {"outSchema": large_text()}
            post(a.system, "/v1/pipelines", base | {"name": language} | body)
        good = post(
            b.system,
            "/v1/pipelines",
            {"connection": b.id, "target": "User", "name": "Good", "enabled": True}
            | mapping({"email": "traits.email"}),
        )["id"]
        for call in range(CALLS):
            # Few large events, many small ones, and some between.
            size, count = ((30_000, 12), (100, 100), (2_000, 50))[call % 3]
            events = [
                {"type": "track", "event": "E", "userId": f"u{index}", "messageId": f"a{call}-{index}",
                 "properties": {"p": "y" * size}}
                for index in range(count)
            ]  # fmt: skip
            assert a.send("batch", {"batch": events}).status_code == 200
            person = {"userId": "b", "traits": {"email": "b@example.com"}, "messageId": f"b{call}"}
            assert b.send("identify", person).status_code == 200
        for call in range(CALLS):
            wait_for_outcome(b, f"b{call}", good)
        assert outcome(b, "b0", good) == "Passed"
        wait_until(lambda: not _waiting(system.data_dir), DONE_WITHIN_SECONDS)
        peaks = {name: peak_mib(pid) for name, pid in {**system.children(), "supervisor": system.process.pid}.items()}
        print(json.dumps(peaks))
        assert max(peaks.values()) < MAX_MIB, peaks
    finally:
        assert system.stop() == 0, system.errors


def _waiting(data_dir: Path) -> int:
    """Return the number of entries that wait in lanes."""

    with closing(sqlite3.connect(f"file:{data_dir / 'state.db'}?mode=ro", uri=True)) as state:
        [[entries]] = state.execute("SELECT coalesce(sum(entries), 0) FROM lanes")
    return int(entries)
