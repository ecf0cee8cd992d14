"""The code of docs/connectors.md works: its connector passes the suite of event sinks, as the page says."""

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from headwater.connectors.connector import Connector
from headwater.connectors.contract import FailureScope, Outcome
from headwater.connectors.settings import Settings, describe
from tests.connectors.invalid import invalid_settings

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "connectors.md").read_text()
BLOCKS = dict(re.findall(r"```python\n# (\S+)\n(.*?)```", PAGE, flags=re.DOTALL))


def _module(path: str, package: bool = False) -> ModuleType:
    """Run a block of the page as the module that its first line names."""
    name = path.removeprefix("src/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    module = sys.modules.get(name) or ModuleType(name)
    if package:
        module.__path__ = []
    sys.modules[name] = module
    return module


def _run() -> dict[str, ModuleType]:
    modules = {path: _module(path, path.endswith("__init__.py")) for path in BLOCKS}
    for path, code in BLOCKS.items():  # in the order of the page, in which each needs only earlier ones
        exec(compile(code, path, "exec"), modules[path].__dict__)
    return modules


MODULES = _run()
PING: Any = MODULES["src/headwater/connectors/ping/__init__.py"]
TestPing = MODULES["tests/connectors/ping/test_events.py"].TestPing


def test_the_page_has_the_four_files() -> None:
    assert list(BLOCKS) == [
        "src/headwater/connectors/ping/settings.py",
        "src/headwater/connectors/ping/events.py",
        "src/headwater/connectors/ping/__init__.py",
        "tests/connectors/ping/test_events.py",
    ]
    assert PAGE.count("```python") == 4


def test_the_connector_of_the_page() -> None:
    connector: Connector = PING.CONNECTOR
    assert connector.supports_events("Destination") and connector.engine.event_sink is PING.PingSink
    settings: type[Settings] = PING.PingSettings
    assert [(field.name, field.label, field.kind, field.secret, field.required) for field in describe(settings)] == [
        ("token", "Token", "Text", True, True),
        ("region", "Region", "Choice", False, True),
        ("batchSize", "Batch size", "Number", False, False),
    ]
    with invalid_settings("settings.batchSize", "must be in the range from 1 to 50"):
        settings.read({"token": "a-secret-token", "region": "EU", "batchSize": 51})


@pytest.mark.parametrize("names", [FailureScope, Outcome])
def test_the_tables_have_every_outcome_and_scope(names: Any) -> None:
    assert all(re.search(rf"^\| `{name.name}` \|", PAGE, flags=re.MULTILINE) for name in names)


def test_the_page_names_files_that_exist() -> None:
    root = Path(__file__).resolve().parents[2]
    named = set(re.findall(r"`((?:src|tests)/[\w/.]+)`", PAGE))
    assert len(named) >= 5
    assert [path for path in named if not (root / path).exists()] == []
