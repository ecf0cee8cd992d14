"""JSON: documents that are lists, the text of values, limits, and the options of writing."""

import io
import itertools
import json
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.connectors.catalogue.file_formats import JsonDestinationSettings, JsonProperty, JsonSourceSettings
from headwater.connectors.contract import Column, FileRow, InvalidFile
from headwater.connectors.formats import json as module
from headwater.connectors.formats.json import MAX_RECORD_CHARACTERS, JsonFormat
from headwater.schemas import MISSING, FloatType, Json, JsonType, StringType
from tests.connectors.conformance.file_format import Forward
from tests.connectors.formats.growth import memory_growth
from tests.connectors.formats.typed import EVERY_TYPE, FULL_ROW


def make(**properties: Any) -> JsonFormat:
    """Return the format for properties that are required, "t", or not, "f"."""
    wanted = properties or {"a": "t"}
    return JsonFormat(
        JsonSourceSettings(properties=tuple(JsonProperty(key=key, value=value) for key, value in wanted.items()))
    )


def read(content: bytes | str, **properties: Any) -> list[Any]:
    """Return the texts of the values of each row, or its error."""
    data = content.encode() if isinstance(content, str) else content
    with make(**properties).read(io.BytesIO(data), "") as reader:
        rows = list(reader.rows())
    assert [row.number for row in rows] == list(range(1, len(rows) + 1))
    return [row.error or tuple(text(value) for value in row.values) for row in rows]


def text(value: Any) -> Any:
    return value.text if isinstance(value, Json) else value


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ("[]", []),
        ('{"records": []}', []),
        (' \r\n\t[ {"a" : 1} , {"a":2}\n] \n', [("1",), ("2",)]),
        ('{"any name \\u00e9": [{"a": 1}]}', [("1",)]),
        ('\ufeff[{"a": 1}]', [("1",)]),
        ('[{"a": 1.0}]', [("1.0",)]),
        ('[{"a": -0}]', [("-0",)]),
        ('[{"a": 1e5}]', [("1e5",)]),
        ('[{"a": 1E+400}]', [("1E+400",)]),
        ('[{"a": 123456789012345678901234567890.10}]', [("123456789012345678901234567890.10",)]),
        ('[{"a": ' + "9" * 5_000 + "}]", [("9" * 5_000,)]),
        ('[{"a": null}]', [("null",)]),
        ('[{"a": true}]', [("true",)]),
        ('[{"a": ""}]', [('""',)]),
        ('[{"a": { "b" : [ 1.50 , { } ] } }]', [('{"b":[1.50,{}]}',)]),
        ('[{"a": "x y"}]', [('"x y"',)]),
        ('[{"a": "\\u0026\\u003c\\u00e9\\u0022\\u005c\\n\\u0001"}]', [('"&<é\\u0022\\u005c\\n\\u0001"',)]),
        ('[{"a": "\\ud83d\\ude00\\\\u0041"}]', [('"\N{GRINNING FACE}\\\\u0041"',)]),
        ('[{"b": 1, "a": 2, "c": {"a": 3}}]', [("2",)]),
        ('[{"a": "é\N{GRINNING FACE}\u2028"}]', [('"é\N{GRINNING FACE}\u2028"',)]),
    ],
)
def test_values_keep_their_text(content: str, rows: list[Any]) -> None:
    assert read(content) == rows


def test_optional_properties_may_be_missing() -> None:
    content = '[{"a": 1}, {"a": 1, "b": null}, {"b": 2}, {}]'
    lacks = "the record has no property a"
    assert read(content, a="t", b="f") == [("1", MISSING), ("1", "null"), lacks, lacks]
    with make(a="t", b="f").read(io.BytesIO(b"[]"), "") as reader:
        assert reader.columns == (
            Column(name="a", type=JsonType(), nullable=False),
            Column(name="b", type=JsonType(), nullable=False, read_optional=True),
        )


@pytest.mark.parametrize(
    ("record", "error"),
    [
        ('{"a": 1, "a": 1}', 'the record has the member "a" twice'),
        ('{"a": {"b": 1, "b": 2}}', 'the record has the member "b" twice'),
        ('{"a": ' + "[" * 101 + "]" * 101 + "}", "the property a is nested deeper than 100 levels"),
        ('{"a": "\\ud800"}', "the record has a text that is not valid Unicode"),
        ('{"a": ["\\udc00\\ud800"]}', "the record has a text that is not valid Unicode"),
    ],
)
def test_an_invalid_record_does_not_end_the_read(record: str, error: str) -> None:
    assert read(f'[{{"a": 1}}, {record}, {{"a": 2}}]') == [("1",), error, ("2",)]


def test_finding_the_repeated_member_of_many_takes_no_time() -> None:
    members = ", ".join(f'"m{number}": 0' for number in range(100_000))
    assert read(f'[{{{members}, "m99999": 1}}]') == ['the record has the member "m99999" twice']


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file is empty"),
        (" \n", "the file is empty"),
        ("\ufeff", "the file is empty"),
        ("5", "the file is not JSON with a list of objects"),
        ('"a"', "the file is not JSON with a list of objects"),
        ("{}", "the object has no member that is a list of objects"),
        ('{"a": 1}', "the member of the object is not a list of objects"),
        ('{"a": {"b": []}}', "the member of the object is not a list of objects"),
        ('{"a": [], "b": []}', "the object has more members than the list"),
        ('{"a": []', "the object is not closed; the file is truncated"),
        ("[", "record 1 is not an object; the file is truncated"),
        ("[1]", "record 1 is not an object"),
        ("[[]]", "record 1 is not an object"),
        ('[{"a": 1}, null]', "record 2 is not an object"),
        ('[{"a": 1},]', "record 2 is not an object"),
        ('[{"a": 1} {"a": 1}]', "record 1 is not followed by a comma or the end of the list"),
        ('[{"a": 1}', "record 1 is not followed by a comma or the end of the list; the file is truncated"),
        ('[{"a": 1}]x', "the file has other data after its end"),
        ('[{"a": 1}][]', "the file has other data after its end"),
        ('{"a": [{"a": 1}]}}', "the file has other data after its end"),
        ('[{"a": "x', "record 1 ends in the middle; the file is truncated"),
        ('[{"a": 1, ', "record 1 ends in the middle; the file is truncated"),
        ('[{"a" 1, "bbbbbbbbbbbbbbbbbbbbb": 2}]', "record 1 is not JSON: Expecting ':' delimiter"),
        ('[{"a": NaN}]', "record 1 is not JSON: NaN is not a JSON value"),
        ('[{"a": -Infinity}]', "record 1 is not JSON: -Infinity is not a JSON value"),
        ('[{"a": ' + "[" * 100_000 + "]" * 100_000 + "}]", "record 1 is nested too deeply"),
        (b'[{"a": "\xff"}]', "the file is not text in UTF-8: its byte 9 is 0xFF"),
        (b'[{"a": "' + b"x" * 300_000 + b'\xe9"}]', "the file is not text in UTF-8: its byte 300,009 is 0xE9"),
        (b'[{"a": 1}]\xc3', "the file is not text in UTF-8: its byte 11 is 0xC3"),
        ("[]".encode("utf-16"), "the file is text in UTF-16, and not JSON; save it as UTF-8"),
        ('{"' + "n" * 1_100_000 + '": []}', "the name of the list is longer than 1,000 characters"),
        ('[{"a": "' + "x" * (MAX_RECORD_CHARACTERS + 10) + '"}]', "record 1 is longer than 2,097,152 characters"),
    ],
    ids=itertools.count(),
)
def test_invalid_files_are_explained(content: bytes | str, message: str) -> None:
    with pytest.raises(InvalidFile) as caught:
        read(content)
    assert caught.value.message.startswith(message)
    assert len(caught.value.message) < 300


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_blocks_end_anywhere(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(module, "_BLOCK_BYTES", size)
    content = '\ufeff {"é": [ {"a": "é\\u00e9\N{GRINNING FACE}"}, {"a": [true, null, -1.5e3]} ] } '.encode()
    with make().read(io.BufferedReader(Forward(content)), "") as reader:
        rows = [tuple(text(value) for value in row.values) for row in reader.rows()]
    assert rows == [('"éé\N{GRINNING FACE}"',), ("[true,null,-1.5e3]",)]


DOCUMENTS: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=3), children, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(
    st.lists(st.fixed_dictionaries({}, optional={"a": DOCUMENTS, "b": DOCUMENTS}), max_size=4),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, "\t"]),
    st.booleans(),
)
def test_what_another_program_writes_is_read(
    records: list[dict[str, Any]], is_object: bool, ascii: bool, indent: str | None, unescaped: bool
) -> None:
    document: Any = {"list": records} if is_object else records
    content = json.dumps(document, ensure_ascii=ascii, indent=indent)
    rows = read(content, a="f", b="f")
    expected = [tuple(record.get(name, MISSING) for name in "ab") for record in records]
    assert [tuple(MISSING if t is MISSING else json.loads(t) for t in row) for row in rows] == expected


def written(columns: list[Column], rows: list[FileRow], **given: Any) -> bytes:
    stream = io.BytesIO()
    with JsonFormat(JsonDestinationSettings(**given)).write(stream, columns, "") as writer:
        for row in rows:
            writer.write([row])
        writer.write([])
    return stream.getvalue()


TEXT: Final = [Column(name="t", type=StringType())]
FLOAT: Final = [Column(name="f", type=FloatType(64))]


@pytest.mark.parametrize(
    ("columns", "rows", "given", "content"),
    [
        (TEXT, [], {}, '{"records":[]}'),
        (TEXT, [("a",), (None,), (MISSING,)], {}, '{"records":[{"t":"a"},{"t":null},{}]}'),
        (TEXT, [("é&'<>\u2028\u2029",)], {}, '{"records":[{"t":"é\\u0026\\u0027\\u003c\\u003e\\u2028\\u2029"}]}'),
        (TEXT, [("é\N{GRINNING FACE}",)], {"generate_ascii": True}, '{"records":[{"t":"\\u00e9\\ud83d\\ude00"}]}'),
        (FLOAT, [(float("nan"),), (1.5,), (1e21,)], {}, '{"records":[{"f":null},{"f":1.5},{"f":1e+21}]}'),
        (
            FLOAT,
            [(float("nan"),), (float("inf"),), (float("-inf"),)],
            {"allow_special_floats": True},
            '{"records":[{"f":NaN},{"f":Infinity},{"f":-Infinity}]}',
        ),
        (TEXT, [], {"indent": True}, '{\n\t"records": []\n}\n'),
        (
            [*TEXT, *FLOAT],
            [("a\n  b", float("nan")), (None, MISSING)],
            {"indent": True, "allow_special_floats": True},
            '{\n\t"records": [\n'
            '\t\t{\n\t\t\t"t": "a\\n  b",\n\t\t\t"f": NaN\n\t\t},\n\t\t{\n\t\t\t"t": null\n\t\t}\n\t]\n}\n',
        ),
    ],
)
def test_rows_are_written(columns: list[Column], rows: list[FileRow], given: dict[str, Any], content: str) -> None:
    assert written(columns, rows, **given).decode() == content


@pytest.mark.parametrize("given", [{}, {"indent": True}, {"generate_ascii": True}], ids=str)
def test_every_type_is_written(given: dict[str, Any]) -> None:
    content = written(EVERY_TYPE, [FULL_ROW], **given)
    (record,) = msgspec.json.decode(content, type=dict[str, list[dict[str, msgspec.Raw]]])["records"]
    found = {name: json.loads(bytes(value), parse_float=str, parse_int=str) for name, value in record.items()}
    assert found == {
        "string": 'a,"b"\n',
        "boolean": True,
        "int": "-9223372036854775808",
        "unsigned": "18446744073709551615",
        "float": "0.1",
        "float32": "0.1",
        "special": None,
        "decimal": "12345678901234567890.123",
        "datetime": "2024-03-05T10:00:00.123456789Z",
        "date": "2024-03-05",
        "time": "10:00:00.5Z",
        "year": "2024",
        "uuid": "5b35a3a1-5a54-4c1d-9f0e-2f6a5f6b7c8d",
        "json": {"a": "1.0"},
        "ip": "192.0.2.1",
        "array": ["9007199254740993", "1"],
        "object": {"b": "1.5", "d": "2024-03-05"},
        "map": {"a": "1", "b": None},
    }


@settings(deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8")), max_size=5), st.booleans(), st.booleans(), st.booleans())
def test_written_texts_are_read(texts: list[str], indent: bool, ascii: bool, special: bool) -> None:
    content = written(
        TEXT,
        [(value,) for value in texts],
        indent=indent,
        generate_ascii=ascii,
        allow_special_floats=special,
    )
    assert [json.loads(row[0]) for row in read(content, t="t")] == texts
    assert not ascii or content.isascii()


HUGE: Final = """
from headwater.connectors.catalogue.file_formats import JsonProperty, JsonSourceSettings
from headwater.connectors.contract import InvalidFile
from headwater.connectors.formats.json import JsonFormat

FORMAT = JsonFormat(JsonSourceSettings(properties=(JsonProperty(key="a", value="f"),)))

class Endless(io.RawIOBase):
    def __init__(self, start, piece, count):
        self.start, self.piece, self.count = start, piece, count
    def read(self, size=-1):
        if self.start:
            start, self.start = self.start, b""
            return start
        self.count -= 1
        return self.piece if self.count >= 0 else b""

def refuse(start, piece):
    stream = Endless(start, piece, 5_000)
    try:
        with FORMAT.read(stream, "") as reader:
            for row in reader.rows():
                pass
    except InvalidFile:
        assert stream.count > 4_900
        return
    raise AssertionError("not refused")
"""


@pytest.mark.process
@pytest.mark.parametrize(
    "call",
    [
        """refuse(b'[{"a":"', b"x" * 262144)""",
        """refuse(b'[{"a":[', b"[]," * 87381)""",
        """refuse(b'[{"a":[', b"{}," * 87381)""",
        """refuse(b'[{"a":[', b"1.5," * 65536)""",
        """refuse(b'[{"a":', b"1" * 262144)""",
        """refuse(b'[{"a":', b" " * 262144)""",
        """refuse(b'{"', b"x" * 262144)""",
    ],
)
def test_an_endless_record_is_refused_in_little_memory(call: str) -> None:
    assert memory_growth(HUGE, call) < 150


@pytest.mark.process
def test_memory_does_not_depend_on_the_number_of_records() -> None:
    code = """
with FORMAT.read(Endless(b"[{}", b',{"a": 1, "b": "ada@example.com"}' * 10_000, 20), "") as reader:
    assert sum(1 for _, row in zip(range(200_000), reader.rows())) == 200_000
"""
    assert memory_growth(HUGE, code) < 20
