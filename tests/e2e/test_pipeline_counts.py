"""Counts and errors of pipelines through Envoy, from events that were sent; another workspace sees none."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.e2e.source import Source, get, make_source, post
from tests.system import HTTP, RunningSystem, wait_until
from tests.tenants import add_tenant, function

TRACK = {"logical": "and", "conditions": [{"property": "type", "operator": "is", "values": ["track"]}]}
THROWING = function("JavaScript", "function transform(e) { throw new Error('no way'); }")


@pytest.fixture(scope="module")
def source(system: RunningSystem) -> Source:
    return make_source(system)


def add_pipeline(source: Source, **members: Any) -> int:
    body = {"connection": source.id, "target": "User", "name": "People", "enabled": True, **members}
    id_: int = post(source.system, "/v1/pipelines", body)["id"]
    return id_


def totals(system: RunningSystem, path: str, pipeline: int) -> tuple[list[int], list[int]]:
    found = get(system, f"/v1/pipelines/metrics/{path}?pipelines={pipeline}")
    assert set(found) == {"start", "end", "passed", "failed"}
    return [sum(step) for step in zip(*found["passed"], strict=True)], [
        sum(step) for step in zip(*found["failed"], strict=True)
    ]


def test_what_was_sent_is_counted_by_step(system: RunningSystem, source: Source) -> None:
    tracks, failing = add_pipeline(source, filter=TRACK), add_pipeline(source, **THROWING)
    for type_ in ("track", "identify", "track"):
        source.send(type_, {"userId": "ada", "event": "Seen"})
    wait_until(lambda: totals(system, "minutes/60", failing)[1][3] == 3, 60)
    today = datetime.now(UTC).date()
    for path in ("minutes/60", "hours/48", "days/30", f"dates/{today - timedelta(1)}/{today + timedelta(1)}"):
        assert totals(system, path, source.event_pipeline) == ([3, 0, 3, 0, 0, 3], [0] * 6)
        assert totals(system, path, tracks) == ([3, 0, 2, 2, 2, 2], [0, 0, 1, 0, 0, 0])
        assert totals(system, path, failing) == ([3, 0, 3, 0, 0, 0], [0, 0, 0, 3, 0, 0])
    errors = f"/v1/pipelines/errors/{today - timedelta(1)}/{today + timedelta(1)}?pipelines={failing}"
    (error,) = get(system, errors)["errors"]
    assert (error["pipeline"], error["step"], error["count"]) == (failing, 3, 3)
    assert "no way" in error["message"]
    assert get(system, f"{errors}&step=Filter") == {"errors": []}
    other = add_tenant(system, "Other")
    assert get(other, errors) == {"errors": []}
    assert totals(other, "minutes/60", failing) == ([0] * 6, [0] * 6)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("metrics/minutes/61?pipelines=1", 404),
        ("metrics/hours/x?pipelines=1", 404),
        ("metrics/dates/2026-01-02/2026-01-01?pipelines=1", 404),
        ("metrics/minutes/1", 400),
        ("metrics/minutes/1?pipelines=x", 400),
        ("metrics/minutes/1?pipelines=1&hours=2", 400),
        ("errors/x/2026-01-01?pipelines=1", 404),
        ("errors/2026-01-01/2026-01-02", 400),
        ("errors/2026-01-01/2026-01-02?pipelines=1&step=3", 400),
        ("errors/2026-01-01T00:00:00Z/2026-01-02T00:00:00.5+01:00?pipelines=1", 200),
    ],
)
def test_statuses(system: RunningSystem, path: str, status: int) -> None:
    answer = HTTP.get(f"{system.base_url}/v1/pipelines/{path}", headers=system.authorization)
    assert answer.status_code == status, answer.text
