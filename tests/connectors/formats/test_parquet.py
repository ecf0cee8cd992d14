"""Parquet: every type, files of other programs, values that are not representable, damaged files, and limits."""

import io
import itertools
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from headwater.connectors.contract import Column, FileRow, InvalidFile, InvalidRow
from headwater.connectors.formats import parquet
from headwater.connectors.formats.parquet import MAX_VALUE_BYTES, ParquetFormat
from headwater.schemas import (
    MISSING,
    BooleanType,
    DateTime,
    DateTimeType,
    DateType,
    DecimalType,
    FloatType,
    IntType,
    Json,
    JsonType,
    StringType,
    Time,
    TimeType,
    Type,
    UuidType,
    YearType,
)
from tests.connectors.formats.growth import memory_growth
from tests.connectors.formats.typed import EVERY_TYPE, FULL_ROW

TEXT: Final = [Column(name="text", type=StringType())]


def read(content: bytes) -> tuple[tuple[Column, ...], list[FileRow | str]]:
    with ParquetFormat().read(io.BytesIO(content), "") as reader:
        rows = list(reader.rows())
    assert reader.total_rows == len(rows)
    assert [row.number for row in rows] == list(range(1, len(rows) + 1))
    return reader.columns, [row.error or row.values for row in rows]


def by_pyarrow(**arrays: Any) -> bytes:
    """Return a file with these columns, without pyarrow's own description of its types."""
    return by_writer(pa.table(arrays))


def by_writer(table: pa.Table, **given: Any) -> bytes:
    stream = io.BytesIO()
    pq.write_table(table, stream, **{"store_schema": False, **given})
    return stream.getvalue()


def written(columns: list[Column], *rows: FileRow) -> bytes:
    stream = io.BytesIO()
    with ParquetFormat().write(stream, columns, "") as writer:
        for row in rows:
            writer.write([row])
    return stream.getvalue()


def nanoseconds(*values: int) -> Any:
    return pa.array(values, pa.int64())


@pytest.mark.parametrize(
    ("array", "type", "value"),
    [
        (pa.array([True]), BooleanType(), True),
        (pa.array([-8], pa.int8()), IntType(8), -8),
        (pa.array([-16], pa.int16()), IntType(16), -16),
        (pa.array([-32], pa.int32()), IntType(32), -32),
        (pa.array([-(2**63)], pa.int64()), IntType(64), -(2**63)),
        (pa.array([255], pa.uint8()), IntType(8, unsigned=True), 255),
        (pa.array([65_535], pa.uint16()), IntType(16, unsigned=True), 65_535),
        (pa.array([2**32 - 1], pa.uint32()), IntType(32, unsigned=True), 2**32 - 1),
        (pa.array([2**64 - 1], pa.uint64()), IntType(64, unsigned=True), 2**64 - 1),
        (pa.array([0.5], pa.float32()), FloatType(32), 0.5),
        (pa.array([0.1], pa.float64()), FloatType(64), 0.1),
        (pa.array([Decimal("1.25")], pa.decimal128(5, 2)), DecimalType(5, 2), Decimal("1.25")),
        (pa.array([Decimal("1.25")], pa.decimal128(38, 10)), DecimalType(38, 10), Decimal("1.25")),
        (pa.array([Decimal(10) ** 75], pa.decimal256(76, 0)), DecimalType(76), Decimal(10) ** 75),
        (pa.array([date(1, 1, 1)]), DateType(), date(1, 1, 1)),
        (pa.array([36_000_001], pa.int32()).cast(pa.time32("ms")), TimeType(), Time.parse("10:00:00.001")),
        (nanoseconds(36_000_000_001).cast(pa.time64("us")), TimeType(), Time.parse("10:00:00.000001")),
        (nanoseconds(36_000_000_000_001).cast(pa.time64("ns")), TimeType(), Time.parse("10:00:00.000000001")),
        (nanoseconds(1).cast(pa.timestamp("ms")), DateTimeType(), DateTime(1_000_000)),
        (nanoseconds(1).cast(pa.timestamp("us", tz="UTC")), DateTimeType(), DateTime(1_000)),
        (nanoseconds(1).cast(pa.timestamp("ns", tz="Europe/Rome")), DateTimeType(), DateTime(1)),
        (pa.array(["é"]), StringType(), "é"),
        (pa.array(["é"], pa.large_string()), StringType(), "é"),
        (pa.array([b"abc"]), StringType(), "abc"),
        (pa.array(["a"]).dictionary_encode(), StringType(), "a"),
    ],
    ids=str,
)
@pytest.mark.parametrize("store_schema", [False, True], ids=["plain", "arrow"])
def test_types_are_read(array: pa.Array, type: Type, value: Any, store_schema: bool) -> None:
    table = pa.table({"a": pa.concat_arrays([array, pa.nulls(1, array.type)])})
    assert read(by_writer(table, store_schema=store_schema)) == ((Column(name="a", type=type),), [(value,), (None,)])


def test_a_required_column_is_not_nullable() -> None:
    table = pa.table({"a": [1]}, pa.schema([pa.field("a", pa.int32(), nullable=False)]))
    assert read(by_writer(table))[0] == (Column(name="a", type=IntType(32), nullable=False),)


def test_int96_and_earlier_versions_are_read() -> None:
    moment = datetime(2026, 3, 1, 8, 30, 0, 123_456, tzinfo=UTC)
    table = pa.table({"a": pa.array([moment, datetime(3000, 1, 1, tzinfo=UTC)], pa.timestamp("us", tz="UTC"))})
    content = by_writer(table, use_deprecated_int96_timestamps=True)
    assert pq.ParquetFile(io.BytesIO(content)).schema.column(0).physical_type == "INT96"
    later = DateTime.parse("3000-01-01T00:00:00Z")
    assert read(content) == ((Column(name="a", type=DateTimeType()),), [(DateTime.of(moment),), (later,)])
    for version in ("1.0", "2.4"):
        assert read(by_writer(table, version=version))[1] == [(DateTime.of(moment),), (later,)]


def test_a_duration_is_a_number() -> None:
    array = pa.array([5], pa.duration("us"))
    assert read(by_writer(pa.table({"a": array}), store_schema=True)) == (
        (Column(name="a", type=IntType(64)),),
        [(5,)],
    )


def test_columns_that_are_not_supported_are_ignored_with_an_issue() -> None:
    content = by_pyarrow(
        **{
            "list": pa.array([[1, 2]]),
            "a": pa.array([1]),
            "group": pa.array([{"x": 1, "y": [{"z": 2}]}]),
            "map": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())),
            "half": pa.array([1.5], pa.float16()),
            "fixed": pa.array([b"abc"], pa.binary(3)),
            "scale": pa.array([Decimal(1)], pa.decimal256(50, 40)),
            "a.b": pa.array([1]),
            "1st": pa.array([1]),
            "z": pa.array(["end"]),
        }
    )
    columns, rows = read(content)
    assert {column.name: column.issue for column in columns if column.type is None} == {
        "list": "lists, maps and groups are not supported",
        "group": "lists, maps and groups are not supported",
        "map": "lists, maps and groups are not supported",
        "half": "the type Float16 is not supported",
        "fixed": "the type FIXED_LEN_BYTE_ARRAY is not supported",
        "scale": "decimal numbers of 50 digits, 40 of them after the point, are not supported",
        "a.b": "the name is not that of a property: letters, digits and _, not a digit first",
        "1st": "the name is not that of a property: letters, digits and _, not a digit first",
    }
    assert rows == [tuple({"a": 1, "z": "end"}.get(column.name, MISSING) for column in columns)]


def test_files_of_duckdb_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    duckdb.connect().execute(
        f"""COPY (SELECT 1::utinyint AS a, 1.25::decimal(18, 2) AS b, date '2026-03-01' AS c, time '10:00:00.5' AS d,
        timestamptz '2026-03-01 10:00:00+02' AS e, timestamp_ns '2026-03-01 10:00:00.123456789' AS f,
        '5b35a3a1-5a54-4c1d-9f0e-2f6a5f6b7c8d'::uuid AS g, '{{"x": 1.0}}'::json AS h, 'x'::blob AS i,
        interval '1 day' AS j, 'b'::enum('a', 'b') AS k, [1] AS l, {{'x': [1]}} AS m, NULL::int AS n
        ) TO '{path}' (FORMAT parquet)"""
    )
    columns, rows = read(path.read_bytes())
    assert [column.type for column in columns] == [
        IntType(8, unsigned=True),
        DecimalType(18, 2),
        DateType(),
        TimeType(),
        DateTimeType(),
        DateTimeType(),
        UuidType(),
        JsonType(),
        StringType(),
        None,
        StringType(),
        None,
        None,
        IntType(32),
    ]
    assert rows == [
        (
            1,
            Decimal("1.25"),
            date(2026, 3, 1),
            Time.parse("10:00:00.5"),
            DateTime.parse("2026-03-01T08:00:00Z"),
            DateTime.parse("2026-03-01T10:00:00.123456789Z"),
            "5b35a3a1-5a54-4c1d-9f0e-2f6a5f6b7c8d",
            Json('{"x":1.0}'),
            "x",
            MISSING,
            "b",
            MISSING,
            MISSING,
            None,
        )
    ]


def json_array(*texts: bytes | None) -> Any:
    return pa.ExtensionArray.from_storage(pa.json_(pa.string()), pa.array(texts, pa.binary()).view(pa.string()))


@pytest.mark.parametrize(
    ("array", "error"),
    [
        (pa.array([b"\xff"]), "the column a is not text in UTF-8"),
        (pa.array([b"\xff"]).view(pa.string()), "the column a is not text in UTF-8"),
        (pa.array(["a\0b"]), "the column a contains the NUL character"),
        (pa.array(["x" * (MAX_VALUE_BYTES + 1)]), "the column a is longer than 1,048,576 bytes"),
        (pa.array([2**31 - 1], pa.int32()).cast(pa.date32()), "the column a"),
        (nanoseconds(2**62).cast(pa.timestamp("us")), "the column a must be in the years 1 to 9999"),
        (nanoseconds(-1).cast(pa.time64("us")), "the column a must be in the range 00:00:00 to 23:59:59.999999999"),
        (json_array(b"{"), "the column a must be JSON in UTF-8"),
        (json_array(b"[" * 101 + b"]" * 101), "the column a is nested deeper than 100 levels"),
    ],
    ids=itertools.count(),
)
def test_a_value_that_cannot_be_read_is_an_error_of_its_row(array: pa.Array, error: str) -> None:
    valid = pa.nulls(1, array.type)
    table = pa.table({"a": pa.chunked_array([valid, array, valid]), "b": [1, 2, 3]})
    _, (before, invalid, after) = read(by_writer(table))
    assert (before, after) == ((None, 1), (None, 3))
    assert isinstance(invalid, str) and invalid.startswith(error)


def make_table(count: int) -> pa.Table:
    return pa.table({f"c{number}": [1] for number in range(count)})


VALID: Final = by_pyarrow(a=[f"text {number}" for number in range(1_000)])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is not Parquet"),
        (b"id,name\n", "the file is not Parquet"),
        (b"PARE" + bytes(50) + b"PARE", "the Parquet file is encrypted"),
        (VALID[:-1], "the Parquet file cannot be read: "),
        (VALID[: len(VALID) // 2], "the Parquet file cannot be read: "),
        (VALID[:-8] + b"\xff\xff\xff\x7fPAR1", "the Parquet file cannot be read: "),
        (VALID[:4] + bytes(len(VALID) - 300) + VALID[-296:], "the Parquet file cannot be read: "),
        (by_writer(pa.Table.from_arrays([pa.array([1])] * 2, ["a", "a"])), "two columns have the name 'a'"),
        (by_writer(make_table(1_601)), "the file has 1,601 columns, and the most are 1,600"),
        (by_pyarrow(a=[[1]]), "the file has no column that can be read"),
        (by_writer(pa.table({})), "the file has no column that can be read"),
    ],
    ids=itertools.count(),
)
def test_invalid_files_are_explained(content: bytes, message: str) -> None:
    with pytest.raises(InvalidFile) as caught:
        read(content)
    assert caught.value.message.startswith(message)
    assert len(caught.value.message) < 300


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=4))
def test_a_changed_file_is_read_or_explained(at: int, by: bytes) -> None:
    at %= len(VALID)
    try:
        with ParquetFormat().read(io.BytesIO(VALID[:at] + by + VALID[at + len(by) :]), "") as reader:
            list(reader.rows())
    except InvalidFile as error:
        assert error.message


def test_every_type_is_written_and_read() -> None:
    nothing = tuple(None for _ in EVERY_TYPE)
    content = written(EVERY_TYPE, FULL_ROW, nothing, tuple(MISSING for _ in EVERY_TYPE))
    columns, rows = read(content)
    kept = {"ip": StringType(), "year": IntType(32), **dict.fromkeys(("array", "object", "map"), JsonType())}
    assert columns == tuple(replace(column, type=kept.get(column.name, column.type)) for column in EVERY_TYPE)
    assert rows[1:] == [nothing, nothing]
    expected = dict(zip([column.name for column in EVERY_TYPE], FULL_ROW, strict=True)) | {
        "array": Json("[9007199254740993,1]"),
        "object": Json('{"b":1.5,"d":"2024-03-05"}'),
        "map": Json('{"a":1,"b":null}'),
    }
    found = dict(zip(expected, rows[0], strict=True))
    assert str(found.pop("special")) == str(expected.pop("special")) == "nan"
    assert found == expected


def test_columns_have_the_documented_types() -> None:
    columns = [
        *EVERY_TYPE,
        Column(name="small", type=IntType(24)),
        Column(name="d9", type=DecimalType(9, 2)),
        Column(name="d18", type=DecimalType(18, 2)),
        Column(name="wide", type=DecimalType(76, 2)),
    ]
    schema = pq.ParquetFile(io.BytesIO(written(columns))).schema
    found = {
        schema.column(index).name: (schema.column(index).physical_type, str(schema.column(index).logical_type))
        for index in range(len(columns))
    }
    assert {name: physical for name, (physical, _) in found.items()} == {
        "string": "BYTE_ARRAY",
        "boolean": "BOOLEAN",
        "int": "INT64",
        "unsigned": "INT64",
        "float": "DOUBLE",
        "float32": "FLOAT",
        "special": "DOUBLE",
        "decimal": "FIXED_LEN_BYTE_ARRAY",
        "datetime": "INT64",
        "date": "INT32",
        "time": "INT64",
        "year": "INT32",
        "uuid": "FIXED_LEN_BYTE_ARRAY",
        "json": "BYTE_ARRAY",
        "ip": "BYTE_ARRAY",
        "array": "BYTE_ARRAY",
        "object": "BYTE_ARRAY",
        "map": "BYTE_ARRAY",
        "small": "INT32",
        "d9": "INT32",
        "d18": "INT64",
        "wide": "FIXED_LEN_BYTE_ARRAY",
    }
    assert [found[name][1] for name in ("uuid", "json", "object")] == ["UUID", "JSON", "JSON"]
    assert "timeUnit=nanoseconds" in found["datetime"][1] and "timeUnit=microseconds" in found["time"][1]
    assert all(schema.column(index).max_definition_level == 1 for index in range(len(columns)))


@pytest.mark.parametrize(
    ("type", "value"),
    [
        (DateTimeType(), DateTime.parse("1677-09-21T00:00:00Z")),
        (DateTimeType(), DateTime.parse("2262-04-12T00:00:00Z")),
    ],
)
def test_a_value_that_parquet_cannot_have_is_named(type: Type, value: Any) -> None:
    with pytest.raises(InvalidRow, match="text cannot be written to Parquet: it has times of the years 1678 to 2262"):
        written([Column(name="text", type=type)], (value,))


@settings(deadline=None, max_examples=100)
@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\0")),
    st.integers(-(2**63), 2**63 - 1),
    st.decimals(allow_nan=False, allow_infinity=False, places=5, min_value=-(10**25) + 1, max_value=10**25 - 1),
    st.dates(),
    st.integers(-(2**63) + 1, 2**63 - 1),
    st.integers(0, 86_399_999_999),
    st.uuids(),
    st.integers(1, 9_999),
)
def test_written_values_are_read(
    text: str, whole: int, exact: Decimal, day: date, moment: int, time: int, uuid: Any, year: int
) -> None:
    types: list[Type] = [
        StringType(),
        IntType(64),
        DecimalType(30, 5),
        DateType(),
        DateTimeType(),
        TimeType(),
        UuidType(),
        YearType(),
    ]
    row = (text, whole, exact, day, DateTime(moment), Time(time * 1_000), str(uuid), year)
    columns = [Column(name=f"c{number}", type=type) for number, type in enumerate(types)]
    assert read(written(columns, row))[1] == [row]


def test_rows_are_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "_GROUP_ROWS", 10)
    content = written(TEXT, *[(str(number),) for number in range(25)])
    assert pq.ParquetFile(io.BytesIO(content)).num_row_groups == 3
    assert read(content)[1] == [(str(number),) for number in range(25)]


def test_other_programs_read_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(written(EVERY_TYPE, FULL_ROW))
    row = (
        duckdb.connect()
        .execute(f"SELECT decimal, datetime::varchar, uuid::varchar, json, map FROM '{path}'")
        .fetchone()
    )
    assert row is not None
    assert (row[0], *row[2:]) == (
        Decimal("12345678901234567890.123"),
        "5b35a3a1-5a54-4c1d-9f0e-2f6a5f6b7c8d",
        '{"a":1.0}',
        '{"a":1,"b":null}',
    )


@pytest.mark.process
@pytest.mark.parametrize("groups", [1, 10])
def test_memory_does_not_depend_on_the_number_of_rows(groups: int, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    text = pa.array([f"user{number}@example.com" for number in range(100_000)])
    table = pa.table({"a": pa.chunked_array([text] * 10), "b": pa.array(range(1_000_000))})
    pq.write_table(table, path, row_group_size=1_000_000 // groups)
    code = f"""
with open({str(path)!r}, "rb") as stream, ParquetFormat().read(stream, "") as reader:
    assert sum(1 for _ in reader.rows()) == 1_000_000
"""
    assert memory_growth("from headwater.connectors.formats.parquet import ParquetFormat", code) < 80


def test_without_pyarrow_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from headwater.base.errors import Unprocessable
    from headwater.connectors.registry import CONNECTORS
    from tests.connectors.conformance.context import ScriptedHttp, make_context

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "headwater.connectors.formats.parquet")
    make: Callable[..., Any] | None = CONNECTORS["parquet"].engine.file_format
    assert make is not None
    with pytest.raises(Unprocessable, match=r"pip install 'headwater\[parquet\]'") as caught:
        make(None, make_context(ScriptedHttp()))
    assert caught.value.code == "ConnectorNotAvailable"


def test_a_column_without_values_is_a_text() -> None:
    content = io.BytesIO()
    pq.write_table(pa.table({"id": [1, 2], "note": pa.nulls(2)}), content)
    content.seek(0)
    with ParquetFormat().read(content, "") as reader:
        assert [(column.type, column.issue) for column in reader.columns] == [(IntType(64), ""), (StringType(), "")]
        assert [row.values for row in reader.rows()] == [(1, None), (2, None)]
