"""`headwater settings`: every HEADWATER_ variable with its meaning, default and value. Secrets are not shown."""

import argparse
import json
from collections.abc import Mapping
from typing import Final

from headwater.cli.api import print_table
from headwater.cli.warnings import warn_about_variables
from headwater.server.setting_meanings import MEANINGS
from headwater.server.setting_parsers import has_password
from headwater.server.settings import (
    RENAMED,
    SECRETS,
    SHARED_DATABASE_VARIABLE,
    URL_VARIABLE,
    read,
    variable,
)

REDACTED: Final = "(set, not shown)"
_URLS: Final = ("database_url", "nats_url", "otlp_endpoint")


def run(environ: Mapping[str, str], arguments: argparse.Namespace) -> None:
    """Print the settings that a server would have with these variables. Raises StartupError if one is not valid."""
    read(environ)
    warn_about_variables(environ)
    given = [(name, _find(environ, name)) for name in MEANINGS]
    given = [(name, value) for name, value in given if value is not None or not arguments.changed]
    if arguments.json:
        for name, value in given:
            meaning = MEANINGS[name]
            members = {"name": variable(name), "value": value, "default": meaning.default, "meaning": meaning.text}
            print(json.dumps(members, ensure_ascii=False))
        return
    rows = [
        (variable(name), "" if value is None else value, MEANINGS[name].default, MEANINGS[name].text)
        for name, value in given
    ]
    rows.append((URL_VARIABLE, environ.get(URL_VARIABLE, ""), "the port of this machine", "address that commands call"))
    print_table(("VARIABLE", "VALUE", "DEFAULT", "MEANING"), rows)


def show_value(name: str, text: str) -> str:
    """Return the text of a variable, unless it is a secret or contains a password."""
    if name in SECRETS or (name in _URLS and has_password(name, text)):
        return REDACTED
    return text


def _find(environ: Mapping[str, str], name: str) -> str | None:
    """Return the value that is given for a setting, without secrets; None if none is."""
    sources = [variable(name), *(old for old, present in RENAMED.items() if present == variable(name))]
    if name == "database_url":
        sources.append(SHARED_DATABASE_VARIABLE)
    found = next((environ[source] for source in sources if environ.get(source)), None)
    return None if found is None else show_value(name, found)
