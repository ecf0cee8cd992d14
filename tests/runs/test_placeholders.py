"""Placeholders in the paths of written files."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.base.errors import BadRequest
from headwater.runs.placeholders import check_placeholders, expand_placeholders, has_placeholders

START = datetime(2035, 10, 30, 16, 33, 25, 999_999, tzinfo=UTC)


@pytest.mark.parametrize(
    ("path", "expanded"),
    [
        ("users.csv", "users.csv"),
        ("a/${today}.csv", "a/2035-10-30.csv"),
        ("a/${now}.csv", "a/2035-10-30-16-33-25.csv"),
        ("a/${unix}.csv", "a/2077374805.csv"),
        ("${ Today }${NOW}", "2035-10-302035-10-30-16-33-25"),
        ("$ {today} {now} $today }", "$ {today} {now} $today }"),
        ("$${today}", "$2035-10-30"),
    ],
)
def test_the_start_of_the_run_is_written(path: str, expanded: str) -> None:
    assert expand_placeholders(path, START) == expanded
    assert expand_placeholders(path, START.astimezone(timezone(timedelta(hours=9)))) == expanded


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("${today", "path has a placeholder that is not closed"),
        ("${", "path has a placeholder that is not closed"),
        ("${}", "path has an unknown placeholder: ''"),
        ("${yesterday}", "path has an unknown placeholder: 'yesterday'"),
        ("${${today}}", "path has an unknown placeholder: '${today'"),
        ("${to day}", "path has an unknown placeholder: 'to day'"),
    ],
)
def test_other_placeholders_are_rejected(path: str, message: str) -> None:
    for check in (check_placeholders, lambda text: expand_placeholders(text, START)):
        with pytest.raises(BadRequest) as caught:
            check(path)
        assert (caught.value.message, caught.value.field) == (message, "path")


@given(st.text("${}today now", max_size=20))
def test_a_path_without_placeholders_is_literal(path: str) -> None:
    if not has_placeholders(path):
        assert expand_placeholders(path, START) == path
    else:
        assert "${" in path
