"""The running system and its PostgreSQL: the message of a failed start, and the effects of an outage."""

import os
import signal
from pathlib import Path
from urllib.parse import quote

from tests.e2e.source import get, make_source
from tests.e2e.test_runs import make_import, processes, start_run, wait_for
from tests.postgresql import PASSWORD, PostgresqlServer
from tests.system import HTTP, free_port, serve, start, wait_until

MAX_CONNECTIONS = 10
"""The documented maximum of a process."""
COUNT_OF_CONNECTIONS = """
SELECT max(connections) FROM (
    SELECT count(*) AS connections FROM pg_stat_activity
    WHERE application_name LIKE 'headwater %' AND datname = current_database() GROUP BY application_name
) AS counted
"""


def test_a_failed_start_prints_its_reason_in_one_line(postgresql_server: PostgresqlServer, tmp_path: Path) -> None:
    """The reasons are a table in tests/base/test_postgresql.py."""
    url = postgresql_server.url("missing")
    process = serve(tmp_path, free_port(), HEADWATER_DATABASE_URL=url)
    assert process.wait(60) == 1
    errors = (tmp_path / "stderr.txt").read_text()
    last = errors.splitlines()[-1]
    assert last.startswith("headwater: ")
    assert "the PostgreSQL database 'missing' at 127.0.0.1:" in last
    assert "there is no such database" in last
    assert "Traceback" not in errors
    assert PASSWORD not in errors
    assert quote(PASSWORD, safe="") not in errors


def test_during_an_outage_events_are_accepted_and_management_is_unavailable(
    postgresql_server: PostgresqlServer, tmp_path: Path
) -> None:
    url = postgresql_server.create()
    system = start(tmp_path / "data", HEADWATER_DATABASE_URL=url)
    try:
        source = make_source(system)
        assert source.send("track", {"userId": "u", "event": "before"}).status_code == 200
        source.wait_for(1)
        postgresql_server.stop()
        try:
            for number in range(20):
                assert source.send("track", {"userId": "u", "event": f"during {number}"}).status_code == 200
            body = {"name": "Shop", "role": "Source", "connector": "http"}
            for response in (
                HTTP.post(f"{system.base_url}/v1/connections", json=body, headers=system.authorization, timeout=15),
                HTTP.get(f"{system.base_url}/v1/events", headers=system.authorization, timeout=15),
            ):
                assert response.status_code == 503
                assert response.json()["error"]["code"] == "ServiceUnavailable"
                assert response.headers["retry-after"] == "1"
            assert [each["id"] for each in get(system, "/v1/connections")["connections"]] == [source.id]
        finally:
            postgresql_server.start()
        wait_until(lambda: HTTP.get(f"{system.base_url}/v1/events", headers=system.authorization).is_success, 60)
        events = [event["event"] for event in source.wait_for(21)]
        assert events == ["before", *(f"during {number}" for number in range(20))]
        make_source(system)
        _, pipeline = make_import(system, "2s")
        run = start_run(system, pipeline)
        wait_until(lambda: any((system.data_dir / "scratch").glob(f"run-{run}-*")), 60)
        [process] = processes(system, run)
        os.kill(process, signal.SIGKILL)
        assert wait_for(system, run, "Succeeded")["passed"] == [10] * 6
        connections = postgresql_server.administer(COUNT_OF_CONNECTIONS, url.rpartition("/")[2])
        assert 0 < connections <= MAX_CONNECTIONS
    finally:
        assert system.stop() == 0
    assert PASSWORD not in system.errors
    assert quote(PASSWORD, safe="") not in system.errors
    postgresql_server.drop(url)


def test_a_second_machine_without_the_secret_key_does_not_start(
    postgresql_server: PostgresqlServer, tmp_path: Path
) -> None:
    url = postgresql_server.create(empty=True)
    first = start(tmp_path / "first", HEADWATER_DATABASE_URL=url, HEADWATER_BACKENDS="3")
    assert first.stop() == 0
    key = (tmp_path / "first" / "secret-key").read_text().strip()

    process = serve(tmp_path / "second", free_port(), HEADWATER_DATABASE_URL=url)
    assert process.wait(60) == 1
    errors = (tmp_path / "second" / "stderr.txt").read_text()
    assert "set HEADWATER_SECRET_KEY to the same key" in errors.splitlines()[-1]
    assert "Traceback" not in errors
    assert not (tmp_path / "second" / "secret-key").exists()

    keys = {"HEADWATER_SECRET_KEY": key, "HEADWATER_API_KEY": "api_of_the_second_machine_0123456789abcdef"}
    second = start(tmp_path / "second", None, HEADWATER_DATABASE_URL=url, **keys)
    assert second.stop() == 0
    again = start(tmp_path / "first", HEADWATER_DATABASE_URL=url)
    assert again.stop() == 0
    postgresql_server.drop(url)
