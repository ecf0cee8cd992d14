"""Describes commands as data: `headwater.cli.table` has the table.

The parser, the completion of shells and the tests are made from it. It imports no slow module.
"""

import argparse
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

Kind = Literal["value", "flag", "toggle", "list"]


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument of a command. A name that starts with dashes is an option, any other one is positional."""

    name: str
    help: str
    metavar: str = ""
    kind: Kind = "value"
    """A flag takes no value, a toggle has a negative form, and a list may be repeated."""
    choices: tuple[str, ...] = ()
    default: str | int | None = None
    """The value of an argument that is left out."""
    is_required: bool = True
    parse: Callable[[str], object] | None = None
    destination: str = ""
    """The name of the value, if it is not that of the argument: an earlier name of an option, which help omits."""

    @property
    def is_option(self) -> bool:
        return self.name.startswith("--")

    @property
    def is_file(self) -> bool:
        return self.metavar in ("FILE", "FOLDER")


def option(name: str, metavar: str, text: str, **members: Any) -> Argument:
    """Return an option with a value that may be left out."""
    return Argument(name, text, metavar, **{"is_required": False, **members})


def flag(name: str, text: str) -> Argument:
    """Return an option without a value."""
    return Argument(name, text, kind="flag", is_required=False)


@dataclass(frozen=True, slots=True)
class Command:
    """A command: its group and action, its arguments, and the functions that run it.

    `run` calls the API, `direct` uses the database, `local` needs neither; each is `module:function` in this package. A
    command with `run` and `direct` uses the API if a URL is given.
    """

    group: str
    action: str
    help: str
    arguments: tuple[Argument, ...] = ()
    run: str = ""
    direct: str = ""
    local: str = ""
    description: str = ""
    has_json: bool = True
    exclusive: tuple[str, ...] = ()
    """The names of options of which at most one may be given."""

    @property
    def words(self) -> str:
        """The command without its arguments, such as `runs list`."""
        return f"{self.group} {self.action}".strip()

    def all_arguments(self) -> Iterable[Argument]:
        """Return its arguments, and those that all commands with the same access have."""
        yield from self.arguments
        own = {argument.name for argument in self.arguments}
        if self.run:
            yield URL
            if WORKSPACE.name not in own:
                yield WORKSPACE
        if self.run or self.direct:
            yield DATA_DIR
        if self.direct:
            yield DATABASE_URL
        if self.has_json:
            yield JSON


URL: Final = option("--url", "URL", "address of the server [HEADWATER_URL, the port of this machine]")
WORKSPACE: Final = option("--workspace", "ID", "workspace of the call, for a key of every workspace")
DATA_DIR: Final = option("--data-dir", "FOLDER", "folder of all data [HEADWATER_DATA_DIR, ./data]")
DATABASE_URL: Final = option(
    "--database-url",
    "URL",
    "the database, if it is not in the data directory; a URL with a password only in "
    "[HEADWATER_DATABASE_URL, DATABASE_URL]",
)
JSON: Final = flag("--json", "print JSON as the API returns it, one object per line for lists")


def add_commands(parser: argparse.ArgumentParser, groups: Mapping[str, str], commands: Iterable[Command]) -> None:
    """Add the commands to a parser. `groups` are the help texts of groups, in their order."""
    top = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    actions = {}
    for name, text in groups.items():
        group = top.add_parser(name, help=text, description=text.capitalize() + ".")
        actions[name] = group.add_subparsers(dest="action", required=True, metavar="ACTION")
    for command in commands:
        place = actions[command.group] if command.group else top
        own = place.add_parser(
            command.action, help=command.help, description=command.description or command.help.capitalize() + "."
        )
        own.set_defaults(chosen=command)
        exclusive = own.add_mutually_exclusive_group() if command.exclusive else own
        for argument in command.all_arguments():
            _add(exclusive if argument.name in command.exclusive else own, argument)


def _add(parser: "argparse.ArgumentParser | argparse._MutuallyExclusiveGroup", argument: Argument) -> None:
    members: dict[str, Any] = {"help": argument.help.replace("%", "%%")}
    match argument.kind:
        case "flag":
            members["action"] = "store_true"
        case "toggle":
            members["action"] = argparse.BooleanOptionalAction
        case "list":
            members |= {"action": "append", "metavar": argument.metavar}
        case "value":
            members |= {"metavar": argument.metavar or None, "choices": argument.choices or None}
    if argument.parse is not None:
        members["type"] = argument.parse
    if argument.is_option:
        if argument.is_required:
            members["required"] = True
        elif argument.default is not None:
            members["default"] = argument.default
    elif not argument.is_required:
        members |= {"nargs": "?", "default": argument.default}
    if argument.destination:
        members |= {"dest": argument.destination, "help": argparse.SUPPRESS}
    parser.add_argument(argument.name, **members)
