"""Each format passes the suite of `FileFormat`."""

from headwater.connectors.catalogue.file_formats import (
    CsvDestinationSettings,
    CsvSourceSettings,
    JsonProperty,
    JsonSourceSettings,
)
from headwater.connectors.contract import Column, FileFormat, Row
from headwater.connectors.formats.csv import CsvFormat
from headwater.connectors.formats.excel import ExcelFormat
from headwater.connectors.formats.json import JsonFormat
from headwater.connectors.formats.parquet import ParquetFormat
from headwater.schemas import Json, JsonType
from tests.connectors.conformance.file_format import FileFormatConformance


class TestCsv(FileFormatConformance):
    INVALID: tuple[bytes, ...] = (b"\xff\xfe\x00", b"", b'a,b\n"open', b"a,b\n1,2,3\n", b"PK\x03\x04")

    def make(self) -> FileFormat:
        return CsvFormat(CsvSourceSettings(separator=",", has_column_names=True))


class TestCsvForDestinations(TestCsv):
    def make(self) -> FileFormat:
        return CsvFormat(CsvDestinationSettings(separator=";", use_crlf=True))

    INVALID = (b"\xff\xfe\x00", b"", b'a;b\n"open', b"a;b\n1;2;3\n")


class TestCsvWithLazyQuotes(TestCsv):
    INVALID = (b"\xff\xfe\x00", b"", b"a,b\n1,2,3\n")

    def make(self) -> FileFormat:
        return CsvFormat(CsvSourceSettings(separator=",", has_column_names=True, lazy_quotes=True))


class TestJson(FileFormatConformance):
    INVALID = (b"", b"[", b'{"a":[{"b":1}', b"[1]", b'[{"name":1,"text":2}]x', b"\xff\xfe[\x00")

    def make(self) -> FileFormat:
        return JsonFormat(
            JsonSourceSettings(properties=(JsonProperty(key="name", value="t"), JsonProperty(key="text", value="t")))
        )

    def columns(self) -> list[Column]:
        return [Column(name=name, type=JsonType()) for name in ("name", "text")]

    def rows(self) -> list[Row]:
        texts = super().rows()
        return [tuple(Json.of(value) for value in row) for row in texts]


class TestExcel(FileFormatConformance):
    SHEET = "People"
    INVALID = (b"", b"name,text\n", b"PK\x05\x06" + bytes(18), b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600))

    def make(self) -> FileFormat:
        return ExcelFormat(None)


class TestParquet(FileFormatConformance):
    INVALID = (b"", b"name,text\n", b"PAR1", b"PAR1" + bytes(100) + b"PAR1", b"PARE" + bytes(20) + b"PARE")

    def make(self) -> FileFormat:
        return ParquetFormat()
