"""Suppressions in memory."""

from typing import Any, cast

import pytest
from sqlalchemy import Connection

from headwater.state.suppressions import Suppressions


class Unavailable:
    """A connection whose database does not respond."""

    def execute(self, *_arguments: Any) -> Any:
        raise ConnectionError


def test_suppressions_that_could_not_be_read_are_read_again() -> None:
    suppressions = Suppressions()
    with pytest.raises(ConnectionError):
        suppressions.read(cast(Connection, Unavailable()))
    assert not suppressions.is_read
