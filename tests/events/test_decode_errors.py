"""The texts of msgspec's errors, which are read to explain errors in the words of JSON."""

from typing import Annotated, Any

import msgspec
import pytest

from headwater.events.decode_errors import Mismatch, explain_syntax, read_mismatch


class _Part(msgspec.Struct, frozen=True):
    width: int = 0


class _Whole(msgspec.Struct, rename="camel"):
    batch: list[int]
    user_id: Annotated[str, msgspec.Meta(max_length=3)] | None = None
    number: int | str = 0
    small: Annotated[int, msgspec.Meta(le=5)] = 0
    consents: dict[str, bool] = {}
    part: _Part = _Part()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('{"batch":[]', None),
        ("[]", Mismatch("", "object", None, False, None)),
        ("{}", Mismatch("", None, None, False, "batch")),
        ('{"batch":5}', Mismatch("batch", "array", None, False, None)),
        ('{"batch":[],"userId":5}', Mismatch("userId", "str | null", None, False, None)),
        ('{"batch":[],"userId":"long"}', Mismatch("userId", "str", 3, False, None)),
        ('{"batch":[],"number":null}', Mismatch("number", "int | str", None, False, None)),
        ('{"batch":[],"small":1e99}', Mismatch("small", "int", None, False, None)),
        ('{"batch":[],"consents":{"ads":5}}', Mismatch("consents", "bool", None, True, None)),
        ('{"batch":[],"part":{"width":true}}', Mismatch("part.width", "int", None, False, None)),
        ('{"batch":[],"part":{"width":1e999}}', Mismatch("part.width", None, None, False, None)),
    ],
)
def test_the_texts_of_msgspec(body: str, expected: Mismatch | None) -> None:
    with pytest.raises(msgspec.DecodeError) as raised:
        msgspec.json.decode(body, type=_Whole)
    if expected is None:
        assert explain_syntax(body.encode(), raised.value).message == "the body is not JSON: it ends too early"
    else:
        assert isinstance(raised.value, msgspec.ValidationError)
        assert read_mismatch(raised.value) == expected


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body is empty: it must be JSON"),
        (b"{x}", "the body is not JSON: object keys must be strings"),
        (b"{} x", "the body is not JSON: trailing characters"),
    ],
)
def test_a_body_that_is_not_json(body: bytes, message: str) -> None:
    decode: Any = msgspec.json.decode
    with pytest.raises(msgspec.DecodeError) as raised:
        decode(body)
    assert explain_syntax(body, raised.value).message == message
