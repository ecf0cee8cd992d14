"""Exports to an application that cannot be read: only CreateOrUpdate is possible."""

import msgspec
import pytest

from headwater.connectors.contract import Engine
from headwater.connectors.registry import CONNECTORS
from tests.management.pipelines import drafts
from tests.management.pipelines.drafts import fails, passes
from tests.management.pipelines.examples import EXAMPLES

CODE = EXAMPLES["DA"].connector


@pytest.fixture(autouse=True)
def write_only(monkeypatch: pytest.MonkeyPatch) -> None:
    dummy = CONNECTORS["dummy"].engine
    engine = Engine(user_sink=dummy.user_sink)
    changed = msgspec.structs.replace(CONNECTORS[CODE], engine=engine)
    monkeypatch.setattr(drafts, "CONNECTORS", {**CONNECTORS, CODE: changed})


def test_users_are_created_or_updated() -> None:
    passes("DA", {"exportMode": "CreateOrUpdate"})


@pytest.mark.parametrize("mode", ["CreateOnly", "UpdateOnly"])
def test_another_mode_is_refused(mode: str) -> None:
    assert fails("DA", {"exportMode": mode})[1:] == ("BadRequest", "exportMode")
