"""File formats. They have no connections: pipelines of file storages name one, with its settings."""

from typing import Annotated, Final, Literal

from headwater.connectors.connector import Capabilities, Connector, Driver
from headwater.connectors.contract import ConnectorContext, Engine, Factory, FileFormat
from headwater.connectors.settings import Choice, Flag, List, Number, Settings, Text, setting
from headwater.schemas import is_property_name


def _separator(text: str) -> str | None:
    if len(text) == 1 and text not in '\r\n"\0\ufffd':
        return None
    return "must be one character other than CR, LF, NUL, a quote and U+FFFD"


def _property_name(text: str) -> str | None:
    return None if is_property_name(text) else "must be a property name: letters, digits and _, not a digit first"


Separator = Annotated[str, Text(1, 4, check=_separator, help="One character between two columns.")]


class CsvSourceSettings(Settings, frozen=True, kw_only=True):
    separator: Separator = ","
    number_of_columns: Annotated[
        int, Number(0, 1_000, help="The number of fields of each row; 0 is that of the first row.")
    ] = 0
    lazy_quotes: Annotated[bool, Flag(help="Allow quotes inside a field that is not quoted.")] = False
    trim_leading_space: Annotated[bool, Flag()] = False
    has_column_names: Annotated[bool, Flag(help="The first row has the names of the columns.")] = False


class CsvDestinationSettings(Settings, frozen=True, kw_only=True):
    separator: Separator = ","
    use_crlf: Annotated[bool, Flag(help="End lines with CR and LF instead of LF.")] = setting("useCRLF", False)


class ExcelSourceSettings(Settings, frozen=True, kw_only=True):
    has_column_names: Annotated[bool, Flag(help="The first row has the names of the columns.")] = False


class JsonProperty(Settings, frozen=True, kw_only=True):
    key: Annotated[str, Text(1, 1_000, check=_property_name, label="Name")]
    value: Annotated[
        Literal["t", "f"], Choice(label="Presence", help="t: every record has the property. f: a record may lack it.")
    ]


class JsonSourceSettings(Settings, frozen=True, kw_only=True):
    properties: Annotated[tuple[JsonProperty, ...], List(minimum=1, distinct="key")]


class JsonDestinationSettings(Settings, frozen=True, kw_only=True):
    indent: Annotated[bool, Flag()] = False
    generate_ascii: Annotated[bool, Flag()] = setting("generateASCII", False)
    allow_special_floats: Annotated[bool, Flag(help="Write NaN and infinities, which JSON does not have.")] = False


def _reading(label: str, settings: type[Settings] | None = None) -> Capabilities:
    return Capabilities(targets=("User",), settings=settings, summary=f"Import users from {label} files.")


def _writing(label: str, settings: type[Settings] | None = None) -> Capabilities:
    return Capabilities(targets=("User",), settings=settings, summary=f"Export profiles to {label} files.")


def _make_csv(settings: CsvSourceSettings | CsvDestinationSettings, context: ConnectorContext) -> FileFormat:
    from headwater.connectors.formats.csv import CsvFormat

    return CsvFormat(settings)


def _make_excel(settings: ExcelSourceSettings | None, context: ConnectorContext) -> FileFormat:
    from headwater.connectors.formats.excel import ExcelFormat

    return ExcelFormat(settings)


def _make_parquet(settings: None, context: ConnectorContext) -> FileFormat:
    from headwater.connectors.formats.parquet import ParquetFormat

    return ParquetFormat()


def _make_json(settings: JsonSourceSettings | JsonDestinationSettings, context: ConnectorContext) -> FileFormat:
    from headwater.connectors.formats.json import JsonFormat

    return JsonFormat(settings)


def _file_format(
    code: str,
    label: str,
    source: Capabilities,
    destination: Capabilities,
    extension: str,
    make: Factory[FileFormat],
    *,
    has_sheets: bool = False,
    driver: Driver | None = None,
) -> Connector:
    return Connector(
        code=code,
        label=label,
        type="File",
        categories=("File",),
        source=source,
        destination=destination,
        file_extension=extension,
        has_sheets=has_sheets,
        driver=driver,
        available=True,
        engine=Engine(file_format=make),
    )


CONNECTORS: Final = (
    _file_format(
        "csv", "CSV", _reading("CSV", CsvSourceSettings), _writing("CSV", CsvDestinationSettings), "csv", _make_csv
    ),
    _file_format(
        "excel",
        "Excel",
        _reading("Excel", ExcelSourceSettings),
        _writing("Excel"),
        "xlsx",
        _make_excel,
        has_sheets=True,
    ),
    _file_format(
        "json",
        "JSON",
        _reading("JSON", JsonSourceSettings),
        _writing("JSON", JsonDestinationSettings),
        "json",
        _make_json,
    ),
    _file_format(
        "parquet",
        "Parquet",
        _reading("Parquet"),
        _writing("Parquet"),
        "parquet",
        _make_parquet,
        driver=Driver("pyarrow", "parquet"),
    ),
)
