"""`headwater settings` lists every variable, as README.md does, without secrets."""

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Final

import pytest

from headwater.server.setting_meanings import MEANINGS
from headwater.server.settings import SECRETS, Settings, unknown_variables, variable
from tests.cli.running import Shell

README: Final = (Path(__file__).parents[2] / "README.md").read_text()


def test_every_setting_has_a_meaning() -> None:
    assert set(MEANINGS) == {field.name for field in fields(Settings)}


def test_the_readme_has_the_same_table() -> None:
    def plain(cell: str) -> str:
        return re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", cell).replace("`", "").strip()

    rows = re.findall(r"^\| `HEADWATER_(\w+)` (?:\* )?\|(.*?)\|(.*)\|$", README, re.MULTILINE)
    table = {name.lower(): (plain(default), plain(meaning)) for name, default, meaning in rows}
    assert table == {name: (meaning.default, meaning.text) for name, meaning in MEANINGS.items()}
    assert list(table) == list(MEANINGS)


def test_settings_are_listed_with_their_values(shell: Shell) -> None:
    shell.set({"HEADWATER_BACKENDS": "3", "HEADWATER_IDLE_TIMEOUT": "90s"})
    listed = {each["name"]: each for each in shell.succeed("settings", "--json").documents}
    assert set(listed) == {variable(name) for name in MEANINGS}
    assert listed["HEADWATER_BACKENDS"]["value"] == "3"
    assert listed["HEADWATER_PORT"] == {
        "name": "HEADWATER_PORT",
        "value": None,
        "default": "8080",
        "meaning": "the public port",
    }
    changed = {each["name"] for each in shell.succeed("settings", "--changed", "--json").documents}
    assert changed == {"HEADWATER_BACKENDS", "HEADWATER_DATA_DIR", "HEADWATER_IDLE_TIMEOUT"}
    table = shell.succeed("settings").lines
    assert len(table) == len(MEANINGS) + 2, "and HEADWATER_URL, which only commands read"
    assert unknown_variables({"HEADWATER_URL": "x"}) == {}


SECRET_VALUES: Final = {
    "HEADWATER_API_KEY": "api_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG",
    "HEADWATER_SECRET_KEY": "hidden-hidden-hidden-hidden-hidden-1",
    "HEADWATER_OLD_SECRET_KEYS": "hidden-hidden-hidden-hidden-hidden-2",
    "HEADWATER_OAUTH_HUBSPOT_CLIENT_ID": "id",
    "HEADWATER_OAUTH_HUBSPOT_CLIENT_SECRET": "hidden-7",
    "HEADWATER_OAUTH_SAMPLE_OAUTH_APP_CLIENT_ID": "id",
    "HEADWATER_OAUTH_SAMPLE_OAUTH_APP_URL": "https://example.com",
    "HEADWATER_OAUTH_SAMPLE_OAUTH_APP_CLIENT_SECRET": "hidden-3",
    "HEADWATER_OAUTH_SALESFORCE_CLIENT_ID": "id",
    "HEADWATER_OAUTH_SALESFORCE_CLIENT_SECRET": "hidden-7",
    "HEADWATER_DATABASE_URL": "postgresql://u:hidden-4@db/x",
    "HEADWATER_NATS_URL": "nats://hidden-5@nats",
    "HEADWATER_OTLP_ENDPOINT": "http://u:hidden-6@collector:4318",
}


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_no_secret_is_shown(shell: Shell, form: tuple[str, ...]) -> None:
    shell.set(SECRET_VALUES)
    printed = shell.succeed("settings", *form)
    for name in SECRETS:
        assert SECRET_VALUES[variable(name)] not in printed.output
    assert "hidden" not in printed.output + printed.errors
    assert printed.output.count("(set, not shown)") == len(SECRETS) + 3  # and the URLs with passwords


def test_urls_without_a_password_are_shown(shell: Shell) -> None:
    shell.set({"DATABASE_URL": "postgresql://ada@db/x"})
    listed = {each["name"]: each["value"] for each in shell.succeed("settings", "--json").documents}
    assert listed["HEADWATER_DATABASE_URL"] == "postgresql://ada@db/x"


def test_unknown_variables_are_warnings(shell: Shell) -> None:
    shell.set({"HEADWATER_PROT": "1", "HEADWATER_WORKERS": "2"})
    result = shell.succeed("settings", "--json")
    assert result.errors.splitlines() == [
        "headwater: HEADWATER_PROT is not a setting; did you mean HEADWATER_PORT?",
        "headwater: HEADWATER_WORKERS is the earlier name of HEADWATER_BACKENDS",
    ]
    values = {each["name"]: each["value"] for each in map(json.loads, result.lines)}
    assert values["HEADWATER_BACKENDS"] == "2"


def test_a_value_that_is_not_valid_is_one_line(shell: Shell) -> None:
    shell.set({"HEADWATER_BACKENDS": "0"})
    result = shell.run("settings")
    assert (result.status, result.errors) == (
        1,
        "headwater: HEADWATER_BACKENDS must be a number from 1 to 64, not '0'\n",
    )
