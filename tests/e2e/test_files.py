"""File storages on a running system: the settings that are checked, and the files that are looked at."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.connectors.storages.servers import PASSWORD, USER, asyncssh_server, make_host_key
from tests.system import HTTP, RunningSystem

CSV = json.dumps({"separator": ",", "hasColumnNames": True})
TEXT = b"id,first name\n1,Ada\n2,Grace\n"


@pytest.fixture(scope="module")
def system(configured_system: RunningSystem) -> RunningSystem:
    return configured_system


def create(system: RunningSystem, connector: str, role: str = "Source", **settings: Any) -> Any:
    body = {"name": connector, "role": role, "connector": connector, "settings": settings}
    return HTTP.post(f"{system.base_url}/v1/connections", headers=system.authorization, json=body, timeout=60)


def get(system: RunningSystem, call: str, **parameters: str) -> Any:
    return HTTP.get(
        f"{system.base_url}/v1/connections/{call}", headers=system.authorization, params=parameters, timeout=60
    )


def error(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def test_files_of_the_server(system: RunningSystem, files_root: Path) -> None:
    id_ = create(system, "filesystem").json()["id"]
    path = Path(get(system, f"{id_}/files/absolute", path="users.csv").json()["path"])
    assert path.parent.parent == files_root
    path.parent.mkdir()
    path.write_bytes(TEXT)
    found = get(system, f"{id_}/files", path="users.csv", format="csv", formatSettings=CSV, limit="1")
    assert found.status_code == 200, found.text
    assert (found.json()["records"], found.json()["issues"]) == ([{"id": "1", "first_name": "Ada"}], None)
    assert [property["name"] for property in found.json()["schema"]["properties"]] == ["id", "first_name"]


@pytest.mark.parametrize(
    ("call", "parameters", "expected"),
    [
        ("files", {"path": "users.csv", "format": "csv", "limit": "1"}, (400, "BadRequest")),
        (
            "files",
            {"path": "users.csv", "format": "csv", "formatSettings": '{"separator": "--"}'},
            (422, "InvalidSettings"),
        ),
        ("files", {"path": "users.csv", "format": "xml"}, (422, "FormatNotExist")),
        ("files", {"path": "missing.csv", "format": "csv", "formatSettings": CSV}, (503, "ServiceUnavailable")),
        ("files", {"format": "csv", "formatSettings": CSV}, (400, "BadRequest")),
        ("files/sheets", {"path": "users.csv", "format": "csv", "formatSettings": CSV}, (400, "BadRequest")),
        ("files", {"path": "../users.csv", "format": "csv", "formatSettings": CSV}, (422, "InvalidPath")),
        ("files/absolute", {"path": "../users.csv"}, (422, "InvalidPath")),
        ("files/absolute", {"path": "${today}.csv"}, (422, "InvalidPlaceholder")),
        ("files/absolute", {}, (400, "BadRequest")),
    ],
)
def test_documented_errors(
    system: RunningSystem, call: str, parameters: dict[str, str], expected: tuple[int, str]
) -> None:
    id_ = create(system, "filesystem").json()["id"]
    assert error(get(system, f"{id_}/{call}", **parameters)) == expected


def test_an_sftp_server_is_asked_before_its_settings_are_stored(system: RunningSystem, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "users.csv").write_bytes(TEXT)
    host_key, public_key = make_host_key(tmp_path)
    with asyncssh_server(tmp_path / "root", host_key) as port:
        settings: dict[str, Any] = {"host": "127.0.0.1", "port": port, "username": USER, "password": PASSWORD}
        rejected = create(system, "sftp", **{**settings, "password": "another-password"})
        assert error(rejected) == (422, "InvalidSettings")
        assert "another-password" not in rejected.text
        forbidden = create(system, "sftp", **{**settings, "host": "10.0.0.1"})
        assert error(forbidden) == (503, "ServiceUnavailable")
        assert "HEADWATER_ALLOW_PRIVATE_DESTINATIONS" in forbidden.text
        for key in ("", public_key):
            id_ = create(system, "sftp", **settings, hostPublicKey=key).json()["id"]
            found = get(system, f"{id_}/files", path="users.csv", format="csv", formatSettings=CSV, limit="10")
            assert len(found.json()["records"]) == 2
    assert error(create(system, "sftp", **settings)) == (503, "ServiceUnavailable")
    with asyncssh_server(tmp_path / "root", make_host_key(tmp_path)[0]) as other:
        assert error(create(system, "sftp", **{**settings, "port": other}, hostPublicKey=public_key)) == (
            422,
            "InvalidSettings",
        )
