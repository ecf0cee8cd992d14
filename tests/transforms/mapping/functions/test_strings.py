"""lower, upper, initcap, trim, ltrim, rtrim, substring, len."""

import pytest

from headwater.schemas import BooleanType, Type
from headwater.transforms.mapping import InvalidMapping, TransformationError
from headwater.transforms.mapping.functions.strings import initcap
from tests.transforms.mapping.examples import INT32, TEXT, evaluate


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("lower('ÀB')", "àb"),
        ("upper('straße')", "STRASSE"),
        ("upper(true)", "TRUE"),
        ("upper(vip)", "TRUE"),
        ("upper(score)", "767.5"),
        ("upper(doc.s)", "TEXT"),
        ("upper(doc.b.c)", None),
        ("lower(gone)", None),
        ("lower(null)", None),
        ("lower(empty)", ""),
        ("initcap('mcDONALD farm')", "McDONALD Farm"),
        ("'Dr ' initcap(' ada lovelace')", "Dr  Ada Lovelace"),
        ("initcap(gone)", None),
        (r"trim('\u2003 a b\u00a0\n')", "a b"),
        (r"ltrim('\u2003 a b ')", "a b "),
        (r"rtrim(' a b\u3000\u0085')", " a b"),
        (r"trim('\u001c\u200ba\u001f')", "\x1c\u200ba\x1f"),  # not white space in Unicode
        ("trim(n)", "3"),
        ("trim(gone)", None),
        ("substring('résumé', 2, 4)", "ésum"),
        ("substring('résumé', 2)", "ésumé"),
        ("substring('😀bc', 2, 1)", "b"),
        ("substring('abc', 0, 2)", "ab"),
        ("substring('abc', -5)", "abc"),
        ("substring('abc', 4)", ""),
        ("substring('abc', 3, 9)", "c"),
        ("substring('abc', 1, 0)", ""),
        ("substring('abc', 2147483647, 2147483647)", ""),
        ("substring('abc', '2')", "bc"),
        ("substring('abc', 1.0)", "abc"),
        ("substring(gone, 1)", None),
        ("substring('abc', null)", None),
        ("substring('abc', 1, null)", None),
        ("substring('abc', empty)", None),
        ("substring(2024, 3)", "24"),
    ],
)
def test_gives_text(expression: str, value: str | None) -> None:
    assert evaluate(expression, TEXT) == value


def test_text_is_converted_to_the_target() -> None:
    assert evaluate("substring(2024, 3)", INT32) == 24
    assert evaluate("lower('YES')", BooleanType()) is True
    assert evaluate("substring('abc', 4)", INT32) is None


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("", ""),
        ("o'neil-smith 3d", "O'Neil-Smith 3D"),
        ("élan", "Élan"),
        ("e\u0301cole e\u0301te\u0301", "E\u0301cole E\u0301te\u0301"),  # a combining mark does not end a word
        ("ALREADY", "ALREADY"),
        ("a_b1c", "A_B1C"),
    ],
)
def test_initcap(text: str, result: str) -> None:
    assert initcap(text) == result


@pytest.mark.parametrize(
    ("expression", "length"),
    [
        ("len(null)", 0),
        ("len(gone)", 0),
        ("len(unknown)", 0),
        ("len(.null)", 0),
        ("len(first)", 3),
        ("len('résumé😀')", 7),
        ("len('')", 0),
        ("len(true)", 4),
        ("len(false)", 5),
        ("len(vip)", 4),
        ("len(-120)", 4),
        ("len(big)", 16),
        ("len(score)", 5),
        ("len(1234567.0)", 7),
        ("len(price)", 4),
        ("len(at)", 20),
        ("len(day)", 10),
        ("len(clock)", 11),
        ("len(born)", 4),
        ("len(id)", 36),
        ("len(ip)", 8),
        ("len(doc)", 7),
        ("len(doc.n)", 4),
        ("len(doc.t)", 4),
        ("len(doc.s)", 4),
        ("len(doc.l)", 2),
        ("len(doc.b.c)", 0),
        ("len(tags)", 2),
        ("len(prefs)", 3),
        ("len(address)", 3),
        ("len(array())", 0),
        ("len(map('a', 1))", 1),
        ("len('a' n)", 2),
    ],
)
def test_len(expression: str, length: int) -> None:
    assert evaluate(expression, INT32) == length


@pytest.mark.parametrize(
    ("expression", "type", "reason"),
    [
        ("lower()", TEXT, "lower takes 1 argument, and has 0"),
        ("len('a', 'b')", INT32, "len takes 1 argument, and has 2"),
        ("substring('a')", TEXT, "substring takes 2 to 3 arguments, and has 1"),
        ("lower(tags)", TEXT, "array(string) cannot be converted to string, at character 7"),
        ("trim(address)", TEXT, "object cannot be converted to string"),
        ("substring('a', 'b')", TEXT, "'b' cannot be converted to int(32): it must be the digits"),
        ("substring('a', 1.5)", TEXT, "1.5 cannot be converted to int(32): it must be a whole number"),
        ("substring('a', 1, day)", TEXT, "date cannot be converted to int(32)"),
        ("len(first)", BooleanType(), "int(32) cannot be converted to boolean, at character 1"),
    ],
)
def test_refuses(expression: str, type: Type, reason: str) -> None:
    with pytest.raises(InvalidMapping) as raised:
        evaluate(expression, type)
    assert reason in raised.value.message


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("substring('abc', 1, -1)", "the length for substring is negative"),
        ("substring('abc', first)", "argument 2 of substring must be the digits of an integer"),
        ("lower(doc)", "argument 1 of lower must be a JSON string, number or boolean"),
        ("trim(doc.l)", "argument 1 of trim must be a JSON string, number or boolean"),
    ],
)
def test_fails_for_a_record(expression: str, reason: str) -> None:
    with pytest.raises(TransformationError) as failed:
        evaluate(expression, TEXT)
    assert failed.value.reason == reason
