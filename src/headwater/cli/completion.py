"""`headwater completion`: scripts that complete commands, options and choices in bash, zsh and fish.

The scripts are made from the table of commands, so they need no start of Python to complete.
"""

import argparse
from collections.abc import Iterator, Mapping
from typing import Final

from headwater.cli.table import COMMANDS, GROUPS
from headwater.cli.usage import Argument, Command

_SUBCOMMANDS: Final = (*(command.action for command in COMMANDS if not command.group), *GROUPS)


def run(environ: Mapping[str, str], arguments: argparse.Namespace) -> None:
    """Print the script of a shell."""
    print({"bash": bash, "zsh": zsh, "fish": fish}[arguments.shell](), end="")


def bash() -> str:
    """Return the script for bash: `source <(headwater completion bash)`."""
    return f"""\
# bash completion of headwater: source <(headwater completion bash)
_headwater() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}}
    local command="${{COMP_WORDS[1]-}}" action="${{COMP_WORDS[2]-}}" words=""
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        words="{" ".join(_SUBCOMMANDS)} --help --version"
    elif ((COMP_CWORD == 2)) && [[ " {" ".join(GROUPS)} " == *" $command "* ]]; then
        case $command in
{_cases((name, " ".join(_actions(name))) for name in GROUPS)}
        esac
    else
        [[ " {" ".join(GROUPS)} " == *" $command "* ]] && command="$command $action"
        case "$command $previous" in
{_value_cases()}
        esac
        case $command in
{_cases((command.words, " ".join(_words(command))) for command in COMMANDS)}
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _headwater headwater
"""


def zsh() -> str:
    """Return the script for zsh: `source <(headwater completion zsh)`."""
    lines = [
        "#compdef headwater",
        "# zsh completion of headwater: source <(headwater completion zsh)",
        "_headwater() {",
    ]
    lines += ["    local -a items", "    local command=$words[2]", "    if ((CURRENT == 2)); then", "        items=("]
    texts = {command.action: command.help for command in COMMANDS if not command.group} | GROUPS
    lines += [f"            {_quote(f'{name}:{_plain(texts[name])}')}" for name in _SUBCOMMANDS]
    lines += ["        )", "        _describe command items", "        return", "    fi"]
    lines += ["    if ((CURRENT == 3)); then", "        case $command in"]
    for name in GROUPS:
        actions = [command for command in COMMANDS if command.group == name]
        items = " ".join(_quote(f"{command.action}:{_plain(command.help)}") for command in actions)
        lines.append(f"            {name}) items=({items}); _describe action items; return;;")
    lines += ["        esac", "    fi"]
    lines += [f'    case $command in {"|".join(GROUPS)}) command="$command $words[3]";; esac', "    case $command in"]
    for command in COMMANDS:
        options = " ".join(_quote(text) for text in _zsh_arguments(command))
        shift = 2 if command.group else 1
        lines.append(
            f"        {_quote(command.words)}) shift {shift} words; ((CURRENT -= {shift})); _arguments {options};;"
        )
    return "\n".join([*lines, "    esac", "}", "compdef _headwater headwater", ""])


def fish() -> str:
    """Return the script for fish: `headwater completion fish | source`."""
    lines = ["# fish completion of headwater: headwater completion fish | source", "complete -c headwater -f"]
    texts = {command.action: command.help for command in COMMANDS if not command.group} | GROUPS
    for name in _SUBCOMMANDS:
        lines.append(f"complete -c headwater -n __fish_use_subcommand -a {name} -d {_fish(texts[name])}")
    for name in GROUPS:
        actions = _actions(name)
        unseen = f"__fish_seen_subcommand_from {name}; and not __fish_seen_subcommand_from {' '.join(actions)}"
        for command in (each for each in COMMANDS if each.group == name):
            lines.append(f"complete -c headwater -n {_fish(unseen)} -a {command.action} -d {_fish(command.help)}")
    for command in COMMANDS:
        seen = "; and ".join(f"__fish_seen_subcommand_from {word}" for word in command.words.split())
        for argument in _visible(command):
            lines.append(f"complete -c headwater -n {_fish(seen)} {_fish_argument(argument)}")
    return "\n".join([*lines, ""])


def _actions(group: str) -> list[str]:
    return [command.action for command in COMMANDS if command.group == group]


def _visible(command: Command) -> Iterator[Argument]:
    """Yield the arguments that are completed: options, and positional arguments with choices."""
    for argument in command.all_arguments():
        if not argument.destination and (argument.is_option or argument.choices):
            yield argument


def _words(command: Command) -> Iterator[str]:
    for argument in _visible(command):
        if not argument.is_option:
            yield from argument.choices
            continue
        yield argument.name
        if argument.kind == "toggle":
            yield f"--no-{argument.name.removeprefix('--')}"
    yield "--help"


def _cases(words: Iterator[tuple[str, str]]) -> str:
    return "\n".join(f'            "{name}") words="{text}";;' for name, text in words)


def _value_cases() -> str:
    """Return the cases of bash in which the word before is an option with a value."""
    lines = []
    for command in COMMANDS:
        for argument in _visible(command):
            if not argument.is_option or argument.kind in ("flag", "toggle"):
                continue
            case = f'            "{command.words} {argument.name}") '
            if argument.choices:
                lines.append(f'{case}COMPREPLY=($(compgen -W "{" ".join(argument.choices)}" -- "$word")); return;;')
            else:
                lines.append(f"{case}return;;")  # bash completes the names of files
    return "\n".join(lines)


def _zsh_arguments(command: Command) -> Iterator[str]:
    for argument in _visible(command):
        text = _plain(argument.help).replace("[", "\\[").replace("]", "\\]")
        action = f"({' '.join(argument.choices)})" if argument.choices else "_files" if argument.is_file else " "
        if not argument.is_option:
            yield f"1:{argument.name}:{action}"
        elif argument.kind == "flag":
            yield f"{argument.name}[{text}]"
        elif argument.kind == "toggle":
            yield f"{argument.name}[{text}]"
            yield f"--no-{argument.name.removeprefix('--')}[{text}]"
        else:
            prefix = "*" if argument.kind == "list" else ""
            yield f"{prefix}{argument.name}[{text}]:{argument.metavar}:{action}"


def _fish_argument(argument: Argument) -> str:
    if not argument.is_option:
        return f"-a {_fish(' '.join(argument.choices))}"
    parts = [f"-l {argument.name.removeprefix('--')}", f"-d {_fish(argument.help)}"]
    if argument.kind in ("value", "list"):
        parts.append("-r")
        if argument.choices:
            parts.append(f"-f -a {_fish(' '.join(argument.choices))}")
        elif argument.is_file:
            parts.append("-F")
    return " ".join(parts)


def _plain(text: str) -> str:
    return text.replace(":", "\\:")


def _quote(text: str) -> str:
    """Return a text in single quotes of bash and zsh."""
    return "'" + text.replace("'", "'\\''") + "'"


def _fish(text: str) -> str:
    """Return a text in single quotes of fish."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
