"""CSV: rules of quotes and names, limits, and files of other programs."""

import csv
import io
import itertools
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.connectors.catalogue.file_formats import CsvDestinationSettings, CsvSourceSettings
from headwater.connectors.contract import Column, FileRow, InvalidFile
from headwater.connectors.formats import csv as module
from headwater.connectors.formats.csv import MAX_LINE_BYTES, CsvFormat
from headwater.connectors.formats.csv_rows import MAX_VALUE_CHARACTERS, Rules, read_rows
from headwater.schemas import (
    MISSING,
    StringType,
)
from tests.connectors.conformance.file_format import Forward
from tests.connectors.formats.growth import memory_growth
from tests.connectors.formats.typed import EVERY_TYPE, FULL_ROW

TEXT = Column(name="text", type=StringType())


def make(**given: Any) -> CsvFormat:
    return CsvFormat(CsvSourceSettings(**{"separator": ",", **given}))


def read(content: bytes | str, **given: Any) -> tuple[list[str], list[tuple[int, FileRow]]]:
    """Return the names of the columns, and the rows with their lines."""
    data = content.encode() if isinstance(content, str) else content
    with make(**given).read(io.BytesIO(data), "") as reader:
        rows = list(reader.rows())
    assert not any(row.error for row in rows)
    return [column.name for column in reader.columns], [(row.number, row.values) for row in rows]


def names(content: str) -> list[str]:
    return read(content, has_column_names=True)[0]


@pytest.mark.parametrize(
    ("content", "given", "columns", "rows"),
    [
        ("Name;Età\nAda;36\n", {"separator": ";", "has_column_names": True}, ["Name", "Eta"], [(2, ("Ada", "36"))]),
        ("Name;Età\nAda;36", {"separator": ";"}, ["A", "B"], [(1, ("Name", "Età")), (2, ("Ada", "36"))]),
        ("\ufeffa,b\n1,2\n", {"has_column_names": True}, ["a", "b"], [(2, ("1", "2"))]),
        ('\ufeff"a",b\n', {"has_column_names": True}, ["a", "b"], []),
        ("a,b\n", {"has_column_names": True}, ["a", "b"], []),
        ("a,b", {"has_column_names": True}, ["a", "b"], []),
        ("a\r\nb\r\n", {}, ["A"], [(1, ("a",)), (2, ("b",))]),
        ("a\rb\r", {}, ["A"], [(1, ("a",)), (2, ("b",))]),
        ("a\n\n\r\nb\n", {}, ["A"], [(1, ("a",)), (4, ("b",))]),
        ("\n\na,b\n", {}, ["A", "B"], [(3, ("a", "b"))]),
        ('"a\nb",c\nd,e\n', {}, ["A", "B"], [(1, ("a\nb", "c")), (3, ("d", "e"))]),
        ('"a\r\nb"\nc\n', {}, ["A"], [(1, ("a\r\nb",)), (3, ("c",))]),
        ('"a""b","",""""\n', {}, ["A", "B", "C"], [(1, ('a"b', "", '"'))]),
        ('""\n', {}, ["A"], [(1, ("",))]),
        (",\n", {}, ["A", "B"], [(1, ("", ""))]),
        ("a|b\n", {"separator": "|"}, ["A", "B"], [(1, ("a", "b"))]),
        ("a\tb\n", {"separator": "\t"}, ["A", "B"], [(1, ("a", "b"))]),
        ("a\N{GRINNING FACE}b\n", {"separator": "\N{GRINNING FACE}"}, ["A", "B"], [(1, ("a", "b"))]),
        ("a\u2028b,\x0b\x0c\x1c\x85\n", {}, ["A", "B"], [(1, ("a\u2028b", "\x0b\x0c\x1c\x85"))]),
        ("a,b\n1,2\n", {"number_of_columns": 2}, ["A", "B"], [(1, ("a", "b")), (2, ("1", "2"))]),
        (" a, b\n", {}, ["A", "B"], [(1, (" a", " b"))]),
        (" a,\t b ,\u00a0c\n", {"trim_leading_space": True}, ["A", "B", "C"], [(1, ("a", "b ", "c"))]),
        (' "a, b" \n', {"trim_leading_space": True, "lazy_quotes": True}, ["A"], [(1, ('a, b" ',))]),
        (' "a, b", " c"\n', {"trim_leading_space": True}, ["A", "B"], [(1, ("a, b", " c"))]),
        ("a,  \n", {"trim_leading_space": True}, ["A", "B"], [(1, ("a", ""))]),
        ("  \nx\n", {"trim_leading_space": True}, ["A"], [(1, ("",)), (2, ("x",))]),
        ('a "b" c,d"\n', {"lazy_quotes": True}, ["A", "B"], [(1, ('a "b" c', 'd"'))]),
        ('"a"b,c"\n', {"lazy_quotes": True}, ["A"], [(1, ('a"b,c',))]),
        ('"a "b" c",d\n', {"lazy_quotes": True}, ["A", "B"], [(1, ('a "b" c', "d"))]),
        ('a,"b\nc\n', {"lazy_quotes": True}, ["A", "B"], [(1, ("a", "b\nc"))]),
    ],
)
def test_rows_are_read(content: str, given: dict[str, Any], columns: list[str], rows: list[Any]) -> None:
    assert read(content, **given) == (columns, rows)


@pytest.mark.parametrize(
    ("headings", "columns"),
    [
        ("id,E-mail,last change", ["id", "E_mail", "last_change"]),
        ("Città di nascita, zip,1st", ["Citta_di_nascita", "zip", "_st"]),
        ('"price €",_', ["price_", "_"]),
    ],
)
def test_headings_become_names(headings: str, columns: list[str]) -> None:
    assert names(headings) == columns


def test_a_changed_heading_is_the_description_of_its_column() -> None:
    with make(has_column_names=True).read(io.BytesIO("Età,id\n".encode()), "") as reader:
        assert [(column.description, column.nullable) for column in reader.columns] == [("Età", False), ("", False)]


def test_columns_without_names_have_letters() -> None:
    columns, _ = read(",".join("x" * 703))
    assert (columns[0], columns[25], columns[26], columns[701], columns[702]) == ("A", "Z", "AA", "ZZ", "AAA")


@pytest.mark.parametrize(
    ("content", "given", "message"),
    [
        (b"", {}, "the file is empty"),
        (b"\xef\xbb\xbf", {}, "the file is empty"),
        (b"\n\n\n", {}, "the file is empty"),
        (b"Name;\n", {"separator": ";", "has_column_names": True}, "the heading '' of column 2 cannot be the name"),
        ("имя\n", {"has_column_names": True}, "the heading 'имя' of column 1 cannot be the name"),
        (b"id,name,id\n", {"has_column_names": True}, "the headings of columns 1 and 3 both give the name id"),
        (b"e-mail,e mail\n", {"has_column_names": True}, "the headings of columns 1 and 2 both give the name e_mail"),
        (b"," * 1_600, {}, "the file has 1,601 columns, and the most are 1,600"),
        (b"a,b\n" * 1_203 + b"1,2,3\n", {}, "line 1,204 has 3 fields, and the first row has 2"),
        (b"a,b\n1\n", {}, "line 2 has 1 field, and the first row has 2"),
        (b"a,b\n", {"number_of_columns": 3}, "line 1 has 2 fields, and numberOfColumns is 3"),
        (b"a,b\n1,2\n", {"number_of_columns": 1, "lazy_quotes": True}, "line 1 has 2 fields, and numberOfColumns is 1"),
        (b'a,b\n1,"2\n3,4\n', {}, "the row that begins in line 2 has a quote that is not closed"),
        (b'a\n"b"c\n', {}, "line 2 has a quote in a value"),
        (b'a\nb"c"\n', {}, "line 2 has a quote in a value"),
        (b'a\n"x\ny"\nb"\n', {}, "line 4 has a quote in a value"),
        (b'a\n"x\ny"z\n', {}, "line 3 has a quote in a value"),
        (b'a\n "b"\n', {}, "line 2 has a quote in a value"),
        (b'a\n "b"c\n', {"trim_leading_space": True}, "line 2 has a quote in a value"),
        ("a\nb\nné\n".encode("latin-1"), {}, "line 3 is not text in UTF-8: byte 6 of the file is 0xE9"),
        ("a\nné\n".encode("latin-1"), {"lazy_quotes": True}, "line 2 is not text in UTF-8: byte 4 of the file is 0xE9"),
        (b"\xef\xbb\xbfa\n\xff\n", {}, "line 2 is not text in UTF-8: byte 6 of the file is 0xFF"),
        ("a,b\n".encode("utf-16"), {}, "the file is text in UTF-16, and not CSV; save it as UTF-8"),
        ("a,b\n".encode("utf-16-be"), {"has_column_names": True}, "the first row contains the NUL character"),
        (b"PK\x03\x04" + bytes(30), {}, "the file is a Zip archive or a workbook, and not CSV"),
        (b"\x1f\x8b" + bytes(30), {}, "the file is compressed with Gzip, and not CSV"),
        (b"a" * (MAX_LINE_BYTES + 1), {}, "line 1 is longer than 4,194,304 bytes"),
        (b"a\n" * 70_000 + b"b" * (MAX_LINE_BYTES + 1) + b"\n", {}, "line 70,001 is longer than 4,194,304 bytes"),
        (b"a\n" + b"b" * (MAX_VALUE_CHARACTERS + 1), {}, "the row that begins in line 2 has a value of more than"),
        (b'a\n"' + b"b\n" * MAX_VALUE_CHARACTERS, {}, "the row that begins in line 2 has a value of more than"),
        (b'a\n"' + b"b\n" * MAX_VALUE_CHARACTERS, {"lazy_quotes": True}, "the row that begins in line 2 has a value"),
    ],
    ids=itertools.count(),
)
def test_invalid_files_are_explained(content: bytes | str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidFile) as caught:
        read(content, **given)
    assert message in caught.value.message
    assert len(caught.value.message) < 300


@pytest.mark.parametrize("lazy", [False, True])
def test_a_row_with_nul_is_an_error_of_this_row(lazy: bool) -> None:
    with make(lazy_quotes=lazy).read(io.BytesIO(b"a\nb\0c\nd\n"), "") as reader:
        rows = [(row.number, row.values, row.error) for row in reader.rows()]
    assert rows == [(1, ("a",), ""), (2, (), "the row contains the NUL character"), (3, ("d",), "")]


def test_rows_before_an_error_are_returned() -> None:
    with make().read(io.BytesIO(b"a,b\n1,2\n3\n"), "") as reader:
        rows = reader.rows()
        assert [next(rows).values, next(rows).values] == [("a", "b"), ("1", "2")]
        with pytest.raises(InvalidFile):
            next(rows)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_blocks_end_anywhere(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(module, "_BLOCK_BYTES", size)
    content = '\ufeffa,é\r\n"x\r\ny","""z"\r\n1,\N{GRINNING FACE}\r\n\r\n2,\n3,4\r5,6'.encode()
    with make(has_column_names=True).read(io.BufferedReader(Forward(content)), "") as reader:
        rows = [(row.number, row.values) for row in reader.rows()]
    smile = "\N{GRINNING FACE}"
    assert rows == [(2, ("x\r\ny", '"z')), (4, ("1", smile)), (6, ("2", "")), (7, ("3", "4")), (8, ("5", "6"))]


VALUES: Final = st.lists(st.lists(st.text(st.characters(codec="utf-8")), min_size=2, max_size=2))


@settings(deadline=None)
@given(VALUES, st.booleans(), st.sampled_from(",;\t|"), st.booleans())
def test_written_rows_are_read(rows: list[list[str]], crlf: bool, separator: str, lazy: bool) -> None:
    stream = io.BytesIO()
    written = CsvFormat(CsvDestinationSettings(separator=separator, use_crlf=crlf))
    with written.write(stream, [Column(name=name, type=StringType()) for name in "ab"], "") as writer:
        writer.write([tuple(row) for row in rows])
    read_back = CsvFormat(CsvSourceSettings(separator=separator, has_column_names=True, lazy_quotes=lazy))
    with read_back.read(io.BytesIO(stream.getvalue()), "") as reader:
        found = [row.values if not row.error else row.error for row in reader.rows()]
    nul = "the row contains the NUL character"
    assert found == [nul if "\0" in "".join(row) else tuple(row) for row in rows]


@settings(deadline=None, max_examples=500)
@given(st.text('ab,"\n\r ', max_size=30))
def test_both_readers_agree(text: str) -> None:
    """The fast reader, the exact reader of the same rules, and `csv` in its strict mode where it is exact."""
    lines = text.encode().splitlines(keepends=True)

    def exact() -> list[list[str]]:
        rows = read_rows(iter([line.decode() for line in lines]), Rules(",", False, False), 1)
        return [fields for _, _, fields in rows if fields]

    def fast() -> list[list[str]]:
        source = module._Lines(io.BytesIO(text.encode()))
        reader = module._CsvReader.__new__(module._CsvReader)
        reader._lines, reader._settings = source, CsvSourceSettings(separator=",")
        reader._rules = Rules(",", False, False)
        return [fields for _, fields in reader._read()]

    def outcome(read_all: Any) -> Any:
        try:
            return read_all()
        except InvalidFile as error:
            return error.message

    assert outcome(fast) == outcome(exact)
    if isinstance(outcome(exact), list):
        assert outcome(exact) == [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (EVERY_TYPE, FULL_ROW),
        (EVERY_TYPE, tuple(None for _ in EVERY_TYPE)),
        (EVERY_TYPE, tuple(MISSING for _ in EVERY_TYPE)),
    ],
    ids=["values", "null", "missing"],
)
def test_every_type_is_written_as_text(content: list[Column], expected: FileRow) -> None:
    stream = io.BytesIO()
    with CsvFormat(CsvDestinationSettings(separator=",")).write(stream, content, "") as writer:
        writer.write([expected])
    header, row = csv.reader(io.StringIO(stream.getvalue().decode(), newline=""))
    assert header == [column.name for column in content]
    if expected is not FULL_ROW:
        assert row == [""] * len(content)
        return
    assert dict(zip(header, row, strict=True)) == {
        "string": 'a,"b"\n',
        "boolean": "true",
        "int": "-9223372036854775808",
        "unsigned": "18446744073709551615",
        "float": "0.1",
        "float32": "0.1",
        "special": "NaN",
        "decimal": "12345678901234567890.123",
        "datetime": "2024-03-05T10:00:00.123456789Z",
        "date": "2024-03-05",
        "time": "10:00:00.5Z",
        "year": "2024",
        "uuid": "5b35a3a1-5a54-4c1d-9f0e-2f6a5f6b7c8d",
        "json": '{"a":1.0}',
        "ip": "192.0.2.1",
        "array": '["9007199254740993",1]'.replace('"', ""),
        "object": '{"b":1.50,"d":"2024-03-05"}'.replace("1.50", "1.5"),
        "map": '{"a":1,"b":null}',
    }


def test_a_formula_is_written_as_it_is() -> None:
    stream = io.BytesIO()
    with CsvFormat(CsvDestinationSettings(separator=",")).write(stream, [TEXT], "") as writer:
        writer.write([("=1+1",), ("@x",), ("-2",)])
    assert stream.getvalue() == b"text\n=1+1\n@x\n-2\n"


def test_lines_end_as_the_settings_say() -> None:
    stream = io.BytesIO()
    with CsvFormat(CsvDestinationSettings(separator=";", use_crlf=True)).write(stream, [TEXT], "") as writer:
        writer.write([("a",), ("b\nc",), ("",)])
    assert stream.getvalue() == b'text\r\na\r\n"b\nc"\r\n""\r\n'


HUGE: Final = """
from headwater.connectors.catalogue.file_formats import CsvSourceSettings
from headwater.connectors.contract import InvalidFile
from headwater.connectors.formats.csv import CsvFormat

class Endless(io.RawIOBase):
    def __init__(self, piece, count):
        self.piece, self.count = piece, count
    def read(self, size=-1):
        self.count -= 1
        return self.piece if self.count >= 0 else b""

def refuse(piece, **given):
    stream = Endless(piece, 5_000)
    try:
        with CsvFormat(CsvSourceSettings(separator=",", **given)).read(stream, "") as reader:
            for row in reader.rows():
                pass
    except InvalidFile:
        assert stream.count > 4_000
        return
    raise AssertionError("not refused")
"""


@pytest.mark.process
@pytest.mark.parametrize(
    "call",
    [
        'refuse(b"a" * 262144)',
        'refuse(b"a" * 262144, lazy_quotes=True)',
        "refuse(b'a,' * 131072)",
        "refuse(b'\"' + b'a\\n' * 131072)",
        "refuse(b'\"a\\n\",' * 43690)",
        "refuse(b'\"a\\n\",' * 43690, lazy_quotes=True)",
        "refuse(b'\"' * 262144)",
    ],
)
def test_an_endless_row_is_refused_in_little_memory(call: str) -> None:
    assert memory_growth(HUGE, call) < 150


@pytest.mark.process
def test_memory_does_not_depend_on_the_number_of_rows() -> None:
    code = """
with CsvFormat(CsvSourceSettings(separator=",")).read(Endless(b"1,ada@example.com,Ada\\n" * 10_000, 50), "") as reader:
    assert sum(1 for _ in reader.rows()) == 500_000
"""
    assert memory_growth(HUGE, code) < 20
