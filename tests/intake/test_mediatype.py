"""Which bodies are said to be JSON."""

import pytest

from headwater.base.errors import BadRequest
from headwater.intake.mediatype import check_is_json


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "application/json",
        "application/json;",
        " text/plain ",
        "Application/JSON; charset=UTF-8",
        'text/plain;charset="utf-8"',
        "application/json ; charset = utf8",
    ],
)
def test_json_in_utf_8(content_type: str) -> None:
    check_is_json(content_type)


@pytest.mark.parametrize(
    "content_type",
    [
        "text/html",
        "application/x-www-form-urlencoded",
        "application/json; charset=latin1",
        "application/json; profile=x",
        "application/json; charset=utf-8; charset=utf-8",
        "application/jsonp",
        "application/json, text/plain",
        "json",
    ],
)
def test_anything_else(content_type: str) -> None:
    with pytest.raises(BadRequest, match="the Content-Type must be application/json or text/plain, in UTF-8"):
        check_is_json(content_type)
