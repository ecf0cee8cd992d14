"""The table of commands is complete: every command has its function, its help and its line in the documentation."""

import re
from importlib import import_module
from pathlib import Path
from typing import Final

import pytest

from headwater.cli.table import COMMANDS, GROUPS
from headwater.cli.usage import Command
from tests.cli.running import Shell

PAGE: Final = (Path(__file__).parents[2] / "docs" / "commands.md").read_text()

every_command: Final = pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.words)


@every_command
def test_a_command_has_functions(command: Command) -> None:
    names = [name for name in (command.run, command.direct, command.local) if name]
    assert names
    for name in names:
        module, _, function = name.partition(":")
        assert callable(getattr(import_module(f"headwater.cli.{module}"), function))


@every_command
def test_a_command_has_help_with_all_options(shell: Shell, command: Command) -> None:
    result = shell.succeed(*command.words.split(), "--help")
    for argument in command.all_arguments():
        assert argument.destination or (argument.name if argument.is_option else argument.metavar) in result.output


@every_command
def test_a_command_is_documented(command: Command) -> None:
    rows = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    assert any(f"`{command.words}`" in row for row in rows)


def test_the_page_documents_no_other_commands() -> None:
    table = PAGE.partition("## All commands")[2].partition("\n###")[0]
    documented = {
        name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall("`(.*?)`", row)
    }
    assert documented == {command.words for command in COMMANDS}


def test_names_are_unique() -> None:
    words = [command.words for command in COMMANDS]
    assert len(set(words)) == len(words)
    for command in COMMANDS:
        names = [argument.name for argument in command.all_arguments()]
        assert len(set(names)) == len(names), command.words
    assert {command.group for command in COMMANDS} - {""} == set(GROUPS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("connections", "get", "x"), "'x' is not an identifier"),
        (("events", "list", "--limit", "0"), "must be a number from 1 to 1000000"),
        (("events", "list", "--type", "sale"), "invalid choice: 'sale'"),
        (("events", "list", "--url", "localhost"), "--url must be http://host:8080 or https://host"),
        (("events", "list", "--url", "http://u:p@host"), "--url must not contain a user or a password"),
        (("events", "list", "--url", "http://host/?x=1"), "--url must be http"),
        (("pipelines", "create"), "a pipeline needs a FILE"),
        (("pipelines", "create", "/none"), "/none cannot be read: No such file"),
        (("erasures", "create"), "exactly one of --profile, --user and --anonymous"),
        (("keys", "list", "--workspace", "1"), "--workspace is for calls of the API"),
        (("keys", "create", "x", "--workspace", "1", "--every-workspace"), "not allowed with argument"),
        (("keys", "list", "--url", "http://127.0.0.1:1", "--database-url", "sqlite"), "exclude each other"),
        (("connections", "create", "-", "--settings", "-"), "cannot both be standard input"),
        (("completion", "csh"), "invalid choice: 'csh'"),
    ],
)
def test_wrong_usage_exits_2(shell: Shell, arguments: tuple[str, ...], message: str) -> None:
    shell.set({"HEADWATER_API_KEY": "api_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"})
    result = shell.run(*arguments)
    assert (result.status, result.output) == (2, "")
    assert message in result.errors


@pytest.mark.parametrize("text", ["", "[]", "{", '"x"'])
def test_a_document_is_a_json_object(shell: Shell, text: str) -> None:
    shell.set({"HEADWATER_API_KEY": "api_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"})
    result = shell.run("pipelines", "create", "-", stdin=text)
    assert result.status == 2
    assert result.errors.startswith("headwater: standard input ")
    assert result.errors.count("\n") == 1
