"""Placeholders of queries: where they are replaced, and by which literals."""

import sqlite3
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.connectors.contract import QueryRejected
from headwater.connectors.databases.placeholders import (
    CLICKHOUSE,
    DUCKDB,
    MYSQL,
    POSTGRESQL,
    SNOWFLAKE,
    SQLITE,
    InvalidPlaceholder,
    Syntax,
    check_reading,
    literal,
    replace_placeholders,
)
from headwater.schemas import DateTime, Json, Time

ALL = (POSTGRESQL, MYSQL, CLICKHOUSE, SQLITE, DUCKDB, SNOWFLAKE)
VALUES: dict[str, Any] = {"updated_at": DateTime.parse("2026-05-04T12:00:00.5Z"), "limit": 7}
AT = "'2026-05-04 12:00:00.5'"


@pytest.mark.parametrize("syntax", ALL)
@pytest.mark.parametrize(
    ("text", "replaced"),
    [
        ("SELECT 1", "SELECT 1"),
        ("${limit}", "7"),
        ("LIMIT ${ limit }", "LIMIT 7"),
        ("a >= ${updated_at} OR ${updated_at} IS NULL", f"a >= {AT} OR {AT} IS NULL"),
        ("a -- ${limit} ${x} it's\n${limit}", "a -- ${limit} ${x} it's\n7"),
        ("/* ${limit} ${x} ' */ ${limit}", "/* ${limit} ${x} ' */ 7"),
        ("'${x}' ${limit}", "'${x}' 7"),
        ("'it''s ${x}' ${limit}", "'it''s ${x}' 7"),
        ("$ {limit} {limit}", "$ {limit} {limit}"),
    ],
)
def test_where_placeholders_are_replaced(syntax: Syntax, text: str, replaced: str) -> None:
    assert replace_placeholders(text, VALUES, syntax) == replaced


@pytest.mark.parametrize(
    ("syntax", "text", "replaced"),
    [
        (POSTGRESQL, "$$ ${x} $$ ${limit}", "$$ ${x} $$ 7"),
        (POSTGRESQL, "$a$ $$ ' ${x} $a$ ${limit}", "$a$ $$ ' ${x} $a$ 7"),
        (POSTGRESQL, r"E'\' ${x}' ${limit}", r"E'\' ${x}' 7"),
        (POSTGRESQL, r"'\' ${limit}", r"'\' 7"),
        (POSTGRESQL, '"a"" ${x}" ${limit}', '"a"" ${x}" 7'),
        (POSTGRESQL, "/* /* */ ${x} */ ${limit}", "/* /* */ ${x} */ 7"),
        (MYSQL, "/* /* */ ${limit}", "/* /* */ 7"),
        (MYSQL, r"'\' ${x}' ${limit}", r"'\' ${x}' 7"),
        (MYSQL, '"it\'s ${x}" ${limit}', '"it\'s ${x}" 7'),
        (MYSQL, "`a' ${x}` ${limit}", "`a' ${x}` 7"),
        (MYSQL, "# ${x}\n${limit}", "# ${x}\n7"),
        (MYSQL, "a--${limit}", "a--7"),
        (POSTGRESQL, "a # ${limit}", "a # 7"),
        (SQLITE, "[it's ${x}] ${limit}", "[it's ${x}] 7"),
        (SNOWFLAKE, "// ${x}\n${limit}", "// ${x}\n7"),
        (CLICKHOUSE, r"'\' ${x}' ${limit}", r"'\' ${x}' 7"),
    ],
)
def test_the_syntax_of_each_database(syntax: Syntax, text: str, replaced: str) -> None:
    assert replace_placeholders(text, VALUES, syntax) == replaced


@pytest.mark.parametrize("syntax", ALL)
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${x}", "does not exist; the placeholders are ${updated_at}, ${limit}"),
        ("${}", "does not exist"),
        ("${Limit}", "does not exist"),
        ("${limit", "is not closed"),
        ("a = '${updated_at}'", "is inside quotes"),
        ("a = '${updated_at}", "is inside quotes"),
    ],
)
def test_invalid_placeholders(syntax: Syntax, text: str, message: str) -> None:
    with pytest.raises(InvalidPlaceholder) as caught:
        replace_placeholders(text, VALUES, syntax)
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "NULL"),
        (True, "TRUE"),
        (5, "5"),
        (-5, "(-5)"),
        (1.5, "1.5"),
        (float("nan"), "'nan'"),
        (Decimal("-1.50"), "(-1.50)"),
        (Decimal("1E+3"), "1000"),
        (DateTime.parse("2026-05-04T12:00:00Z"), "'2026-05-04 12:00:00'"),
        (DateTime.parse("2026-05-04T12:00:00.123456999Z"), "'2026-05-04 12:00:00.123456'"),
        (date(2026, 5, 4), "'2026-05-04'"),
        (Time.parse("10:00:00.5"), "'10:00:00.5'"),
        (Json('{"a":"it\'s"}'), "'{\"a\":\"it''s\"}'"),
        ("it's", "'it''s'"),
    ],
)
def test_literals(value: Any, text: str) -> None:
    assert literal(value, POSTGRESQL) == text


@pytest.mark.parametrize("value", ["a\0b", "\ud800", [1], {"a": 1}])
def test_values_without_a_literal(value: Any) -> None:
    with pytest.raises(QueryRejected):
        literal(value, POSTGRESQL)


def test_a_backslash_is_escaped_where_it_escapes() -> None:
    assert (literal("\\'", MYSQL), literal("\\'", POSTGRESQL)) == ("'\\\\'''", "'\\'''")


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_a_text_is_read_as_it_was(text: str) -> None:
    database = sqlite3.connect(":memory:")
    assert database.execute(replace_placeholders("SELECT ${x}", {"x": text}, SQLITE)).fetchone() == (text,)
    database.close()


@given(st.sampled_from(ALL), st.text(st.sampled_from("'\"`$-/*#\\ \na{}[]"), max_size=30), st.text("'\\;-", max_size=5))
def test_no_value_ends_its_literal(syntax: Syntax, before: str, value: str) -> None:
    """Code after a placeholder is still code after the replacement."""
    text = before + " ${x} ${y}"
    try:
        replaced = replace_placeholders(text, {"x": value, "y": 1}, syntax)
    except QueryRejected:
        return
    if not replaced.endswith("${y}"):  # else a comment
        assert replaced.endswith(f"{literal(value, syntax)} 1")


def test_queries_that_only_read_begin_with_a_word_that_reads() -> None:
    import re

    nothing = re.compile("(?!)")
    for text in ("SELECT 1", " ( select 1)", "-- c\nWITH a AS (SELECT 1) SELECT 1", "/* c */ VALUES (1)", "TABLE t"):
        check_reading(text, MYSQL, nothing)
    for text in ("", "DELETE FROM t", "/*! SELECT */ 1", "SELECT 1 /*M! INTO x */", "SELECTED", "SET a = 1"):
        with pytest.raises(QueryRejected):
            check_reading(text, MYSQL, nothing)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1 INTO OUTFILE '/tmp/x'",
        "SELECT 1 --\x01 '\n INTO OUTFILE '/tmp/x' -- '",  # MySQL: a comment, and code in the next line
        "SELECT 1 --\xa0x FROM (SELECT 1 `\xa0x`) t INTO OUTFILE '/tmp/x'",  # MySQL: no comment
        "SELECT 1 --\u2003x FROM (SELECT 1 `\u2003x`) t INTO OUTFILE '/tmp/x'",
        "SELECT 1 --\x7f '\n INTO\x0bOUTFILE '/tmp/x' -- '",
    ],
)
def test_comments_do_not_hide_words_from_the_check(text: str) -> None:
    import re

    with pytest.raises(QueryRejected, match="must not write files"):
        check_reading(text, MYSQL, re.compile(r"\bINTO\s+OUTFILE\b"))
