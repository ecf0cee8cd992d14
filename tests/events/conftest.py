"""The rules of user agents are loaded once, before the first test has a deadline."""

import pytest
from msgspec import Raw

from headwater.events.context.agents import agent_of


@pytest.fixture(scope="session", autouse=True)
def rules_of_user_agents() -> None:
    agent_of(Raw(b'"a user agent"'))
