"""Excel: workbooks of other programs, values as they are stored, damaged and malicious workbooks, and limits."""

import datetime
import io
import itertools
import random
import zipfile
from typing import Any, Final

import openpyxl
import pytest
import xlsxwriter
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl.utils.datetime import CALENDAR_MAC_1904

from headwater.connectors.catalogue.file_formats import ExcelSourceSettings
from headwater.connectors.contract import Column, FileRow, InvalidFile, InvalidRow
from headwater.connectors.formats import excel, workbooks
from headwater.connectors.formats.excel import MAX_CELL_CHARACTERS, ExcelFormat
from headwater.schemas import MISSING, DecimalType, FloatType, IntType, StringType
from tests.connectors.formats.growth import memory_growth
from tests.connectors.formats.handmade import MAIN, RELATIONS, by_hand
from tests.connectors.formats.typed import EVERY_TYPE, FULL_ROW

TEXT: Final = [Column(name="text", type=StringType())]


def read(content: bytes, sheet: str = "Sheet", *, names: bool = False) -> tuple[list[str], list[tuple[int, FileRow]]]:
    """Return the names of the columns, and the rows with their numbers."""
    with ExcelFormat(ExcelSourceSettings(has_column_names=names)).read(io.BytesIO(content), sheet) as reader:
        rows = list(reader.rows())
    assert not any(row.error for row in rows)
    return [column.name for column in reader.columns], [(row.number, row.values) for row in rows]


def first(content: bytes) -> FileRow:
    return read(content)[1][0][1]


def by_openpyxl(
    *rows: list[Any], epoch: datetime.datetime | None = None, formats: dict[str, str] | None = None
) -> bytes:
    book = openpyxl.Workbook()
    if epoch is not None:
        book.epoch = epoch
    sheet = book.active
    assert sheet is not None
    for row in rows:
        sheet.append(row)
    for cell, format in (formats or {}).items():
        sheet[cell].number_format = format
    stream = io.BytesIO()
    book.save(stream)
    return stream.getvalue()


@pytest.mark.parametrize("epoch", [None, CALENDAR_MAC_1904])
def test_days_are_numbers_since_1900(epoch: datetime.datetime | None) -> None:
    moment, day = datetime.datetime(2026, 3, 1, 8, 30), datetime.date(2026, 3, 1)
    content = by_openpyxl([moment, day, 1_462, datetime.time(12)], epoch=epoch, formats={"C1": "0.00"})
    texts = first(content)
    assert [float(str(text)) for text in texts] == pytest.approx([46082.354166666664, 46082, 1462, 0.5])
    assert texts[2] == "1462"


@pytest.mark.parametrize(
    ("format", "is_day"),
    [
        ("yyyy-mm-dd", True),
        ("d/m", True),
        ("[$-409]mmmm yyyy", True),
        ("h:mm", False),
        ("General", False),
        ('0 "days"', False),
        (r"0\d", False),
        ("[Red]0.00", False),
        ("0_d", False),
    ],
)
def test_only_days_are_moved_to_1900(format: str, is_day: bool) -> None:
    content = by_openpyxl([100], epoch=CALENDAR_MAC_1904, formats={"A1": format})
    assert first(content) == ("1562" if is_day else "100",)


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("<c><v>0.1</v></c>", "0.1"),
        ("<c><v>1E400</v></c>", "1E400"),
        ("<c><v>12345678901234567890</v></c>", "12345678901234567890"),
        ("<c><v>-0</v></c>", "-0"),
        ("<c><v>60</v></c>", "60"),
        ('<c t="n"><v>1.50</v></c>', "1.50"),
        ('<c t="b"><v>1</v></c>', "true"),
        ('<c t="b"><v>0</v></c>', "false"),
        ('<c t="e"><v>#DIV/0!</v></c>', "#DIV/0!"),
        ('<c t="d"><v>2026-03-01T08:30:00</v></c>', "2026-03-01T08:30:00"),
        ('<c t="str"><f>"a"&amp;"b"</f><v>ab</v></c>', "ab"),
        ("<c><f>1+1</f><v>2</v></c>", "2"),
        ('<c t="inlineStr"><is><t xml:space="preserve"> a </t></is></c>', " a "),
        ('<c t="inlineStr"><is><r><t>a</t></r><r><t>b</t></r><rPh><t>x</t></rPh></is></c>', "ab"),
        ('<c t="inlineStr"><is><t>=1+1</t></is></c>', "=1+1"),
        ('<c t="inlineStr"><is><t>a_x000D_b_x005F_x0041_</t></is></c>', "a\rb_x0041_"),
        ('<c t="inlineStr"><is><t>_xD800_ _x_</t></is></c>', "_xD800_ _x_"),
        ('<c t="s"><v>1</v></c>', "shared é"),
        ('<c t="s"><v>2</v></c>', "ab"),
    ],
)
def test_values_are_read_as_they_are_stored(cell: str, value: str) -> None:
    texts = (
        "<si><t>x</t></si><si><t>shared é</t></si>"
        "<si><r><t>a</t></r><r><rPr><b/></rPr><t>b</t></r><rPh sb='0' eb='1'><t>y</t></rPh></si>"
    )
    assert first(by_hand(f"<row>{cell}</row>", texts=texts)) == (value,)


def test_a_formula_without_a_result_is_empty() -> None:
    assert read(by_openpyxl(["a", "b"], ["=1+1", "x"]), names=True) == (["a", "b"], [(2, ("", "x"))])


def test_rows_without_values_are_skipped_and_short_ones_padded() -> None:
    rows = (
        '<row r="3"><c r="A3"><v>1</v></c><c r="C3"><v>3</v></c><c r="D3" s="0"/></row>'
        '<row r="5"/><row r="6"><c r="B6"/></row><row><c/><c><v>8</v></c></row><row r="9"><c r="A9"><v>9</v></c></row>'
    )
    assert read(by_hand(rows)) == (["A", "B", "C"], [(3, ("1", "", "3")), (7, ("", "8", "")), (9, ("9", "", ""))])


def test_a_strict_workbook_is_read() -> None:
    strict = "http://purl.oclc.org/ooxml/spreadsheetml/main"
    assert first(by_hand("<row><c><v>1</v></c></row>", namespace=strict)) == ("1",)


def test_a_workbook_with_a_prefix_is_read() -> None:
    sheet = (
        f'<x:worksheet xmlns:x="{MAIN}"><x:sheetData><x:row><x:c><x:v>1</x:v></x:c></x:row></x:sheetData></x:worksheet>'
    )
    assert first(by_hand("", one=sheet)) == ("1",)


def test_sheets_are_listed_in_their_order_also_hidden_ones() -> None:
    book = openpyxl.Workbook()
    assert book.active is not None
    book.active.title = "It's"
    book.create_sheet("Städte & mehr").sheet_state = "hidden"
    book.create_chartsheet("Chart")
    stream = io.BytesIO()
    book.save(stream)
    stream.seek(0)
    assert ExcelFormat(None).sheets(stream) == ("It's", "Städte & mehr")


def test_headings_become_names() -> None:
    with ExcelFormat(None).read(io.BytesIO(by_openpyxl(["id", "E-mail", "Città"], [1])), "Sheet") as reader:
        assert [(column.name, column.description) for column in reader.columns] == [
            ("id", ""),
            ("E_mail", "E-mail"),
            ("Citta", "Città"),
        ]


def test_a_row_with_nul_is_an_error_of_this_row() -> None:
    content = by_hand(
        '<row r="1"><c><v>1</v></c></row><row r="2"><c t="str"><v>_x0000_</v></c></row><row r="3"><c><v>3</v></c></row>'
    )
    with ExcelFormat(ExcelSourceSettings()).read(io.BytesIO(content), "Sheet") as reader:
        rows = [(row.number, row.values, row.error) for row in reader.rows()]
    assert rows == [(1, ("1",), ""), (2, (), "the row contains the NUL character"), (3, ("3",), "")]


ENTITIES: Final = (
    '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    f'<worksheet xmlns="{MAIN}"><sheetData><row><c t="str"><v>&b;</v></c></row></sheetData></worksheet>'
)
ROW: Final = "<row><c><v>1</v></c></row>"


def encrypted(content: bytes) -> bytes:
    """Set the flag of encryption of every file of the archive."""
    data = bytearray(content)
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(mark)
        while at >= 0:
            data[at + offset] |= 1
            at = data.find(mark, at + 4)
    return bytes(data)


def plain_archive() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.csv", "x")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is not a workbook of Excel (.xlsx)"),
        (b"id,name\n", "the file is not a workbook of Excel (.xlsx)"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "the file is not a workbook of Excel (.xlsx): it is an old or encrypted"),
        (plain_archive(), "the file is not a workbook of Excel (.xlsx)"),
        (by_hand(ROW)[:-30], "the file is not a Zip archive, or it is truncated"),
        (by_hand(ROW, sheet="Other"), "the workbook has no sheet 'Sheet'"),
        (by_hand(""), "the sheet is empty"),
        (by_hand("<row/><row><c/></row>"), "the sheet is empty"),
        (encrypted(by_hand(ROW)), "the workbook is encrypted"),
        (by_hand(ROW, one=ENTITIES), "the workbook has a document type"),
        (by_hand(ROW, texts=f"<!DOCTYPE x>{ENTITIES}"), "the workbook is damaged"),
        (by_hand("<row><c><v>1</v></c>"), "the workbook is damaged: mismatched tag"),
        (by_hand('<row><c t="s"><v>0</v></c></row>'), "the workbook is damaged: row 1 has a text that does not exist"),
        (by_hand('<row><c t="s"><v>-1</v></c></row>', texts="<si><t>a</t></si>"), "the workbook is damaged: row 1 has"),
        (by_hand('<row r="7"><c r="1A"><v>1</v></c></row>'), "row 7 has a cell with the name '1A'"),
        (by_hand('<row r="7"><c r="AAAA1"><v>1</v></c></row>'), "row 7 has a cell with the name 'AAAA1'"),
        (by_hand('<row r="7"><c r="XFE1"><v>1</v></c></row>'), "row 7 has more than 16,384 columns"),
        (by_hand('<row><c r="BIO1"><v>1</v></c></row>'), "the file has 1,601 columns, and the most are 1,600"),
        (
            by_hand(ROW + '<row><c r="B2"><v>1</v></c></row>'),
            "row 2 has a value in column B, and the first row ends in",
        ),
        (by_hand("<row><c><v>" + "1" * 1_048_577 + "</v></c></row>"), "the workbook has a value of more than"),
        (
            by_hand(ROW, workbook=f'<workbook xmlns="{MAIN}"><sheets><sheet name="Sheet"/></sheets></workbook>'),
            "the workbook has no sheet",
        ),
    ],
    ids=itertools.count(),
)
def test_invalid_workbooks_are_explained(content: bytes, message: str) -> None:
    with pytest.raises(InvalidFile) as caught:
        read(content)
    assert caught.value.message.startswith(message)
    assert len(caught.value.message) < 300


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([["a", None, "b"]], "the heading '' of column 2 cannot be the name of a property"),
        ([["a", "a"]], "the headings of columns 1 and 2 both give the name a"),
    ],
)
def test_invalid_headings_are_explained(rows: list[list[Any]], message: str) -> None:
    with pytest.raises(InvalidFile) as caught:
        read(by_openpyxl(*rows), names=True)
    assert caught.value.message == message


def test_a_binary_workbook_is_explained() -> None:
    relations = (
        '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        f'<Relationship Id="r" Type="{RELATIONS}/officeDocument" Target="xl/workbook.bin"/></Relationships>'
    )
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("_rels/.rels", relations)
    with pytest.raises(InvalidFile, match=r"the file is a binary workbook; save it as \.xlsx"):
        read(stream.getvalue())


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 1_500), st.binary(min_size=1, max_size=3))
def test_a_changed_workbook_is_read_or_explained(at: int, by: bytes) -> None:
    content = by_hand(ROW * 3, texts="<si><t>a</t></si>")
    damaged = content[: at % len(content)] + by + content[at % len(content) + len(by) :]
    try:
        read(damaged)
    except InvalidFile as error:
        assert error.message


def test_a_sheet_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbooks, "MAX_PART_BYTES", 100_000)
    with pytest.raises(InvalidFile, match="a part of the workbook is larger than 100,000 bytes"):
        read(by_hand(ROW * 10_000))


def test_a_description_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbooks, "MAX_DESCRIPTION_BYTES", 100_000)
    with pytest.raises(InvalidFile, match="a part of the workbook is larger than 100,000 bytes"):
        read(by_hand(ROW, workbook=f'<workbook xmlns="{MAIN}">{"<sheet/>" * 100_000}</workbook>'))


def test_shared_texts_may_be_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbooks, "_MAX_TEXTS_BYTES", 200)
    texts = "".join(f"<si><t>é{number}</t></si>" for number in range(50))
    order = random.Random(1).sample(range(50), 50)
    rows = "".join(f'<row><c t="s"><v>{number}</v></c></row>' for number in order)
    assert [row for _, row in read(by_hand(rows, texts=texts))[1]] == [(f"é{number}",) for number in order]
    with pytest.raises(InvalidFile, match="has a text that does not exist"):
        read(by_hand('<row><c t="s"><v>50</v></c></row>', texts=texts))


def written(columns: list[Column], *rows: FileRow, sheet: str = "Sheet") -> bytes:
    stream = io.BytesIO()
    with ExcelFormat(None).write(stream, columns, sheet) as writer:
        for row in rows:
            writer.write([row])
    return stream.getvalue()


def test_every_type_is_written() -> None:
    content = written(EVERY_TYPE, FULL_ROW, tuple(None for _ in FULL_ROW), tuple(MISSING for _ in FULL_ROW))
    names, rows = read(content, names=True)
    assert names == [column.name for column in EVERY_TYPE]
    assert dict(zip(names, rows[0][1], strict=True)) == {
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
        "array": "[9007199254740993,1]",
        "object": '{"b":1.5,"d":"2024-03-05"}',
        "map": '{"a":1,"b":null}',
    }
    assert len(rows) == 1


def test_other_programs_read_what_is_written() -> None:
    columns = [*TEXT, Column(name="i", type=IntType(64)), Column(name="f", type=FloatType(64))]
    content = written(columns, ("=1+1", 10**14, 1 / 3), ("http://x.io", 10**15, 0.1), ("1", -5, 1e300), sheet="Users")
    book = openpyxl.load_workbook(io.BytesIO(content))
    assert book.sheetnames == ["Users"]
    rows = [[(cell.value, cell.data_type) for cell in row] for row in book["Users"].iter_rows(min_row=2)]
    assert rows == [
        [("=1+1", "s"), (10**14, "n"), (1 / 3, "n")],
        [("http://x.io", "s"), ("1000000000000000", "s"), (0.1, "n")],
        [("1", "s"), (-5, "n"), (1e300, "n")],
    ]
    assert not any(cell.hyperlink for row in book["Users"].iter_rows() for cell in row)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1), max_size=4))
def test_written_texts_are_read(texts: list[str]) -> None:
    _, rows = read(written(TEXT, *[(text,) for text in texts]), names=True)
    assert [row for _, row in rows] == [(text,) for text in texts]


@settings(deadline=None, max_examples=60)
@given(
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.decimals(allow_nan=False, allow_infinity=False, places=5, min_value=-(10**20), max_value=10**20),
)
def test_written_numbers_keep_their_value(whole: int, binary: float, exact: Any) -> None:
    columns = [
        Column(name="i", type=IntType(64)),
        Column(name="f", type=FloatType(64)),
        Column(name="d", type=DecimalType(30, 5)),
    ]
    _, rows = read(written(columns, (whole, binary, exact)), names=True)
    found = rows[0][1]
    assert (int(str(found[0])), float(str(found[1])), type(exact)(str(found[2]))) == (whole, binary, exact)


def test_limits_of_a_sheet(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidRow, match="text has more than 32,767 characters"):
        written(TEXT, ("x" * (MAX_CELL_CHARACTERS + 1),))
    monkeypatch.setattr(excel, "MAX_ROWS", 3)
    assert len(read(written(TEXT, ("a",), ("b",)))[1]) == 3
    with pytest.raises(InvalidRow, match="at most 3 rows"):
        written(TEXT, ("a",), ("b",), ("c",))
    with pytest.raises(InvalidRow, match="cannot be written"):
        written(TEXT, sheet="a/b")


BOMB: Final = f"""
import zipfile
from headwater.connectors.contract import InvalidFile
from headwater.connectors.formats.excel import ExcelFormat
from tests.connectors.formats.handmade import by_hand

def bomb(part, start, piece, count):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        with zipfile.ZipFile(io.BytesIO(by_hand("<row><c t='s'><v>1</v></c></row>"))) as original:
            for name in original.namelist():
                if name != part:
                    archive.writestr(name, original.read(name))
        with archive.open(part, "w") as content:
            content.write(start)
            for _ in range(count):
                content.write(piece)
    stream.seek(0)
    return stream

SHEET = b'<worksheet xmlns="{MAIN}"><sheetData>'
TEXTS = b'<sst xmlns="{MAIN}">'
"""


@pytest.mark.process
@pytest.mark.parametrize(
    ("part", "start", "piece", "count"),
    [
        ("xl/worksheets/one.xml", "SHEET + b'<row><c><v>'", "b'1' * 65536", 2_000),
        ("xl/worksheets/one.xml", "SHEET + b'<row a=\"'", "b'1' * 65536", 2_000),
        ("xl/worksheets/one.xml", "SHEET + b'<!--'", "b'1' * 65536", 2_000),
        ("xl/worksheets/one.xml", "SHEET + b'<row>'", "b'<c><v>1</v></c>' * 4096", 200),
        ("xl/worksheets/one.xml", "SHEET", "b'<row><c/></row>' * 4096", 200),
        ("xl/worksheets/one.xml", "SHEET", "b'<x>' * 16384", 200),
        ("xl/texts.xml", "TEXTS", "b'<si><t>some text</t></si>' * 4096", 200),
        ("xl/texts.xml", "TEXTS", "b'<si/>' * 4096", 200),
    ],
)
def test_a_bomb_is_refused_in_little_memory(part: str, start: str, piece: str, count: int) -> None:
    imports = f"{BOMB}\nstream = bomb({part!r}, {start}, {piece}, {count})"
    code = """
try:
    with ExcelFormat(None).read(stream, "Sheet") as reader:
        for row in reader.rows():
            pass
except InvalidFile as error:
    assert "not a workbook" not in error.message
else:
    raise AssertionError("not refused")
"""
    assert memory_growth(imports, code) < 60


@pytest.mark.process
def test_memory_does_not_depend_on_the_number_of_rows() -> None:
    imports = f"""{BOMB}
import xlsxwriter
stream = io.BytesIO()
with xlsxwriter.Workbook(stream, {{"constant_memory": True}}) as book:
    sheet = book.add_worksheet("Sheet")
    for number in range(100_000):
        sheet.write(number, 0, number)
stream.seek(0)
"""
    code = """
from headwater.connectors.catalogue.file_formats import ExcelSourceSettings
with ExcelFormat(ExcelSourceSettings()).read(stream, "Sheet") as reader:
    assert sum(1 for _ in reader.rows()) == 100_000
"""
    assert memory_growth(imports, code) < 20


def test_a_workbook_of_another_library_is_read() -> None:
    stream = io.BytesIO()
    with xlsxwriter.Workbook(stream) as book:
        sheet = book.add_worksheet("Sheet")
        sheet.write_row(0, 0, ["a", 1.5, True])
        sheet.write_formula(0, 3, "=1+1", None, 2)
        sheet.merge_range("E1:F1", "merged")
    assert first(stream.getvalue()) == ("a", "1.5", "true", "2", "merged")
