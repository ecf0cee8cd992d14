"""The commands that call the API, against one running system."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.cli.running import Shell
from tests.system import HTTP, RunningSystem, wait_until

FILTER = {"logical": "and", "conditions": [{"property": "event", "operator": "is", "values": ["Sold"]}]}


@pytest.fixture
def connected(shell: Shell, system: RunningSystem) -> Shell:
    """Return the terminal of a user of the running system."""
    shell.connect(system)
    return shell


@pytest.fixture
def source(connected: Shell) -> str:
    """Create a source whose events are stored; return its id."""
    id_ = connected.succeed(
        *("connections", "create", "--name", "Shop", "--role", "Source", "--connector", "http")
    ).output.strip()
    members = {"connection": int(id_), "target": "Event", "enabled": True}
    connected.succeed("pipelines", "create", "-", "--name", "Store", stdin=json.dumps(members))
    return id_


def api(system: RunningSystem, path: str) -> Any:
    response = HTTP.get(f"{system.base_url}{path}", headers=system.authorization)
    assert response.status_code == 200
    return response.json()


def send(system: RunningSystem, shell: Shell, source: str, *events: dict[str, object]) -> None:
    """Send track events and wait until they are stored."""
    [key] = shell.succeed("connections", "keys", source).lines
    for event in events:
        HTTP.post(f"{system.base_url}/v1/track", json={"userId": "ada", **event}, auth=(key, "")).raise_for_status()
    path = f"/v1/events?connection={source}"
    wait_until(lambda: len(api(system, path)["events"]) >= len(events), 20)


def test_a_connection_and_its_pipelines(connected: Shell, system: RunningSystem, source: str) -> None:
    [listed] = [line for line in connected.succeed("connections", "list").lines if line.startswith(source)]
    assert listed.split() == [source, "Source", "http", "1", "Shop"]
    shown = api(system, f"/v1/connections/{source}")
    assert connected.succeed("connections", "get", source, "--json").documents == [shown]
    assert shown in connected.succeed("connections", "list", "--role", "Source", "--json").documents
    assert connected.succeed("connections", "list", "--role", "Destination", "--json").output.find(source) == -1
    assert re.search(r"^pipelines +\d+ Store$", connected.succeed("connections", "get", source).output, re.MULTILINE)
    assert connected.succeed("connections", "update", source, "--name", "Renamed").output == ""
    assert api(system, f"/v1/connections/{source}")["name"] == "Renamed"
    assert connected.succeed("connections", "test", source, "--json").documents[0]["received"] is False

    [pipeline] = connected.succeed("pipelines", "list", "--connection", source, "--json").documents
    assert pipeline == shown["pipelines"][0]
    id_ = str(pipeline["id"])
    assert [line.split()[0] for line in connected.succeed("pipelines", "list", "--connection", source).lines] == [
        "ID",
        id_,
    ]
    for action, enabled in (("disable", False), ("enable", True)):
        connected.succeed("pipelines", action, id_)
        assert connected.succeed("pipelines", "get", id_, "--json").documents[0]["enabled"] is enabled
    connected.succeed("pipelines", "update", id_, "-", stdin='{"name": "Other", "enabled": true}')
    assert "Other" in connected.succeed("pipelines", "get", id_).output
    refused = connected.run("pipelines", "run", id_)
    assert refused.status == 1
    assert refused.errors.startswith("headwater: BadRequest: ")
    assert connected.succeed("pipelines", "delete", id_, "--json").output == "{}\n"
    assert connected.succeed("connections", "delete", source).output == ""
    gone = connected.run("connections", "get", source)
    assert (gone.status, gone.output) == (1, "")
    assert gone.errors == f"headwater: NotFound: connection {source} does not exist\n"


def test_a_connection_with_settings(connected: Shell, tmp_path: Path) -> None:
    settings = tmp_path / "settings.json"
    settings.write_text('{"operationDelay": "5ms"}')
    created = connected.succeed(
        *("connections", "create", "--name", "App", "--role", "Source", "--connector", "dummy"),
        *("--settings", str(settings), "--json"),
    )
    [document] = created.documents
    assert document.keys() == {"id"}
    connected.succeed("connections", "delete", str(document["id"]))
    assert connected.run("connections", "create", "--name", "App").status == 1


def test_a_suggested_pipeline_is_created(connected: Shell, source: str) -> None:
    suggested = connected.succeed("pipelines", "suggest", "--connection", source, "--target", "User").output
    created = connected.succeed("pipelines", "create", "-", "--name", "People", stdin=suggested).output.strip()
    [shown] = connected.succeed("pipelines", "get", created, "--json").documents
    assert (shown["name"], shown["target"], shown["enabled"]) == ("People", "User", True)
    refused = connected.run("pipelines", "suggest", "--connection", source, "--event-type", "x")
    assert (refused.status, "eventType is not allowed" in refused.errors) == (1, True)


def test_write_keys(connected: Shell, source: str) -> None:
    added = connected.succeed("connections", "create-key", source).output.strip()
    keys = connected.succeed("connections", "keys", source).lines
    assert added in keys and len(keys) == 2
    connected.succeed("connections", "delete-key", source, "-", stdin=f"{added}\n")
    assert connected.succeed("connections", "keys", source, "--json").documents == [{"keys": [keys[0]]}]


def test_links(connected: Shell, system: RunningSystem, source: str) -> None:
    destination = connected.succeed(
        *("connections", "create", "-", "--name", "To", "--role", "Destination", "--connector", "dummy"),
        stdin=json.dumps({"settings": {"operationDelay": "5ms"}, "sendingMode": "Server"}),
    ).output.strip()
    connected.succeed("connections", "link", source, destination)
    assert api(system, f"/v1/connections/{source}")["linkedConnections"] == [int(destination)]
    connected.succeed("connections", "unlink", source, destination)
    assert not api(system, f"/v1/connections/{source}").get("linkedConnections")


def test_stored_events(connected: Shell, system: RunningSystem, source: str) -> None:
    send(
        system,
        connected,
        source,
        {"event": "Sold", "messageId": "cli-1", "properties": {"total": 1.50}},
        {"event": "Seen", "messageId": "cli-2"},
        {"event": "Sold", "messageId": "cli-3"},
    )
    own = ("--connection", source)
    text = HTTP.get(f"{system.base_url}/v1/events?connection={source}", headers=system.authorization).text
    lines = connected.succeed("events", "list", *own, "--json").lines
    assert len(lines) == 3
    assert all(line in text for line in lines), "each line has the bytes of the API"
    assert "1.5" in lines[-1]
    heads, first, *_ = connected.succeed("events", "list", *own, "--ascending").lines
    assert heads.split("  ")[0] == "TIME (UTC)"
    assert first.split()[-1] == "cli-1"

    def messages(*arguments: str) -> list[str]:
        return [each["messageId"] for each in connected.succeed("events", "list", *own, *arguments, "--json").documents]

    assert messages("--limit", "1") == ["cli-3"]
    assert messages("--event", "Seen") == ["cli-2"]
    assert messages("--filter", 'event is "Sold"') == messages("--filter", json.dumps(FILTER)) == ["cli-3", "cli-1"]
    assert messages("--until", "2020-01-01T00:00:00Z") == messages("--user", "eve") == []
    bad = connected.run("events", "list", "--filter", "event")
    assert bad.status == 1 and bad.errors.startswith("headwater: BadRequest: the filter is not valid")

    counts = connected.succeed("events", "counts", *own, "--by", "event", "--json").documents
    assert sorted((each["event"], each["count"]) for each in counts) == [("Seen", "1"), ("Sold", "2")]
    assert "Passed" in connected.succeed("events", "trace", "cli-1").output
    assert connected.succeed("events", "trace", "cli-1", "--json").documents == [api(system, "/v1/events/cli-1/trace")]


def test_rejected_events(connected: Shell, system: RunningSystem, source: str) -> None:
    [key] = connected.succeed("connections", "keys", source).lines
    HTTP.post(f"{system.base_url}/v1/track", json={"messageId": "bad", "event": 7}, auth=(key, ""))
    wait_until(lambda: bool(api(system, f"/v1/events/rejected?connection={source}")["events"]), 20)
    own = ("--connection", source)
    _, row = connected.succeed("events", "rejected", *own).lines
    assert "event must be a string or null" in row
    [count] = connected.succeed("events", "rejected", *own, "--counts", "--json").documents
    assert (count["code"], count["count"]) == ("BadRequest", "1")
    assert connected.succeed("events", "rejected", *own, "--protocol", "client", "--json").output == ""


def test_profiles_and_erasures(connected: Shell, system: RunningSystem, source: str) -> None:
    people = {"connection": int(source), "target": "User", "name": "People", "enabled": True}
    connected.succeed("pipelines", "create", "-", stdin=json.dumps(people))
    [key] = connected.succeed("connections", "keys", source).lines
    HTTP.post(f"{system.base_url}/v1/identify", json={"userId": "cli-ada", "traits": {}}, auth=(key, ""))
    wait_until(lambda: bool(api(system, f"/v1/connections/{source}/identities")["identities"]), 20)
    found = None
    for profile in connected.succeed("profiles", "list", "--limit", "1000", "--json").documents:
        identities = connected.succeed("profiles", "identities", profile["kpid"], "--json").documents
        if any(each.get("userId") == "cli-ada" for each in identities):
            found = profile["kpid"]
    assert found is not None
    assert found in connected.succeed("profiles", "get", found).output
    [named] = connected.succeed("profiles", "get", "--user", "cli-ada", "--connection", source, "--json").documents
    assert named["kpid"] == found
    assert found in connected.succeed("profiles", "get", "--user", "cli-ada").output
    nobody = connected.run("profiles", "get", "--anonymous", "cli-ada")
    assert (nobody.status, nobody.errors) == (1, "headwater: no profile has this id\n")
    for wrong in [(), (found, "--user", "cli-ada"), (found, "--connection", source)]:
        assert connected.run("profiles", "get", *wrong).status == 2
    assert connected.succeed("profiles", "explain", found, "--json").output == ""
    assert "cli-ada" in connected.succeed("profiles", "events", found).output
    kinds = {each["kind"] for each in connected.succeed("profiles", "export", found).documents}
    assert kinds >= {"profile", "identity", "event"}
    unknown = connected.run("profiles", "get", "ad9f745b-725e-44e3-aae6-bd244fbff5ef")
    assert unknown.status == 1 and unknown.errors.startswith("headwater: NotFound: ")

    erasure = connected.succeed("erasures", "create", "--user", "cli-ada", "--connection", source).output.strip()
    watched = connected.succeed("erasures", "watch", erasure)
    assert watched.output.startswith(f"Erasure {erasure} is completed")
    assert "Completed" in watched.errors
    [shown] = connected.succeed("erasures", "get", erasure, "--json").documents
    assert shown["status"] == "Completed"
    assert erasure in connected.succeed("erasures", "list").output
    assert connected.succeed("operations", "watch", erasure, "--json").documents[0]["status"] == "Completed"
    assert erasure in connected.succeed("operations", "list").output


def test_runs(connected: Shell) -> None:
    app = {"name": "App", "role": "Source", "connector": "dummy", "settings": {"operationDelay": "1ms"}}
    source = int(connected.succeed("connections", "create", "-", stdin=json.dumps(app)).output)
    pipeline = {"connection": source, "target": "User", "name": "Import", "enabled": False}
    created = connected.run("pipelines", "create", "-", stdin=json.dumps(pipeline))
    if created.status == 0:
        refused = connected.run("runs", "start", created.output.strip())
        assert refused.errors.startswith("headwater: PipelineDisabled: ")
    assert connected.succeed("runs", "list", "--json").status == 0
    absent = connected.run("runs", "watch", "7")
    assert (absent.status, absent.errors.splitlines()[-1][:20]) == (1, "headwater: NotFound:")
    connected.succeed("connections", "delete", str(source))


def test_dead_letters_are_sent_again(connected: Shell) -> None:
    settings = {"settings": {"operationDelay": "5ms"}, "sendingMode": "Server"}
    destination = connected.succeed(
        *("connections", "create", "-", "--name", "To", "--role", "Destination", "--connector", "dummy"),
        stdin=json.dumps(settings),
    ).output.strip()
    own = ("operations", "resend", "--destination", destination)
    assert connected.succeed(*own, "--validate-only").output == "0\n"
    started = connected.succeed(*own, "--reason", "Rejected", "--since", "2026-01-01T00:00:00Z", "--json")
    assert started.documents[0].keys() <= {"id", "total"}
    absent = connected.run("operations", "replay", "7", "--filter", 'type is "track"', "--validate-only")
    assert absent.status == 1
    assert absent.errors.startswith("headwater: ")


def test_connectors(connected: Shell, system: RunningSystem) -> None:
    listed = connected.succeed("connectors", "list", "--json").documents
    assert listed == api(system, "/v1/connectors")["connectors"]
    available = [each["code"] for each in listed if each["available"]]
    rows = connected.succeed("connectors", "list", "--available").lines
    assert [row.split()[0] for row in rows[1:]] == available
    assert "JavaScript" in connected.succeed("connectors", "get", "javascript").output


def test_keys_and_workspaces_over_the_api(connected: Shell, system: RunningSystem) -> None:
    key = connected.succeed("keys", "create", "CLI", "--read-only")
    assert "is shown only now" in key.errors
    token = key.output.strip()
    listed = connected.succeed("keys", "list", "--json").documents
    [created] = [each for each in listed if each["name"] == "CLI"]
    assert created["access"] == "Read"
    shell = connected
    shell.set({"HEADWATER_API_KEY": token})
    refused = shell.run("connections", "create", "--name", "x", "--role", "Source", "--connector", "http")
    assert refused.status == 1 and refused.errors.startswith("headwater: ReadOnlyKey: ")
    shell.connect(system)
    shell.succeed("keys", "revoke", str(created["id"]))
    assert "CLI" not in shell.succeed("keys", "list").output
    [workspace] = shell.succeed("workspaces", "list", "--json").documents
    assert shell.succeed("workspaces", "get", "--json").documents == [workspace]
    denied = shell.run("workspaces", "create", "Second")
    assert denied.status == 1 and denied.errors.startswith("headwater: Forbidden: ")


def test_commands_on_the_database_say_so_and_return_the_same_json(shell: Shell, system: RunningSystem) -> None:
    shell.set({"HEADWATER_DATA_DIR": str(system.data_dir)})
    direct = shell.succeed("keys", "list", "--json")
    assert direct.errors == f"headwater: using the database in {system.data_dir} directly; --url uses the API\n"
    over = shell.succeed("keys", "list", "--json", "--url", system.base_url)
    assert over.errors == ""
    assert [each for each in over.documents if each not in direct.documents] == []
    workspaces = shell.succeed("workspaces", "list", "--json").documents
    current = shell.succeed("workspaces", "get", "--json", "--url", system.base_url).documents[0]
    assert {"id": current["id"], "name": current["name"]} in workspaces


def test_the_key_of_the_data_directory_is_used_on_this_machine(shell: Shell, system: RunningSystem) -> None:
    shell.set({"HEADWATER_DATA_DIR": str(system.data_dir), "HEADWATER_PORT": str(system.port)})
    assert shell.succeed("connections", "list").status == 0
    shell.set({"HEADWATER_DATA_DIR": "/nowhere"})
    assert shell.succeed("connections", "list", "--data-dir", str(system.data_dir)).status == 0


def test_an_unknown_key_is_an_error_of_one_line(shell: Shell, system: RunningSystem) -> None:
    shell.set({"HEADWATER_URL": system.base_url, "HEADWATER_API_KEY": "api_" + "0123456789abcdefghij" * 2})
    result = shell.run("events", "list")
    assert (result.status, result.output) == (1, "")
    assert result.errors == "headwater: Unauthorized: the API key is not known\n"
