"""Asserts that settings are invalid, with an error that names the value and the rule."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from headwater.base.errors import Unprocessable


@contextmanager
def invalid_settings(path: str, rule: str | None = None) -> Iterator[None]:
    with pytest.raises(Unprocessable) as caught:
        yield
    error = caught.value
    assert (error.status, error.code, error.field) == (422, "InvalidSettings", path), error.message
    if rule is not None:
        assert error.message == f"{path} {rule}"
