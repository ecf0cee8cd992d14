"""The formats of files. They have no connections: pipelines of file storages name one, with its settings."""

from typing import Final

from headwater.connectors.connector import Capabilities, Connector
from headwater.connectors.settings import Choice, Field, Flag, Groups, Number, SettingsRules, Text
from headwater.schemas import is_property_name


def _separator(text: str) -> str | None:
    return None if len(text) == 1 and text not in "\r\n" else "must be one character other than CR and LF"


def _property_name(text: str) -> str | None:
    return None if is_property_name(text) else "must be a property name: letters, digits and _, not a digit first"


_SEPARATOR: Final = Text("separator", 1, 4, check=_separator)


def _reading(label: str, *fields: Field) -> Capabilities:
    settings = SettingsRules(fields) if fields else None
    return Capabilities(targets=("User",), settings=settings, summary=f"Import users from {label} files.")


def _writing(label: str, *fields: Field) -> Capabilities:
    settings = SettingsRules(fields) if fields else None
    return Capabilities(targets=("User",), settings=settings, summary=f"Export profiles to {label} files.")


def _file_format(
    code: str, label: str, source: Capabilities, destination: Capabilities, extension: str, *, has_sheets: bool = False
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
    )


CONNECTORS: Final = (
    _file_format(
        "csv",
        "CSV",
        _reading(
            "CSV",
            _SEPARATOR,
            Number("numberOfColumns", 0, 1_000, default=0),
            Flag("lazyQuotes"),
            Flag("trimLeadingSpace"),
            Flag("hasColumnNames"),
        ),
        _writing("CSV", _SEPARATOR, Flag("useCRLF")),
        "csv",
    ),
    _file_format(
        "excel", "Excel", _reading("Excel", Flag("hasColumnNames")), _writing("Excel"), "xlsx", has_sheets=True
    ),
    _file_format(
        "json",
        "JSON",
        # The value says whether each record must have the property ("t") or may lack it ("f").
        _reading(
            "JSON",
            Groups(
                "properties",
                (Text("key", 1, 1_000, check=_property_name), Choice("value", ("t", "f"))),
                least=1,
                distinct="key",
            ),
        ),
        _writing("JSON", Flag("indent"), Flag("generateASCII"), Flag("allowSpecialFloats")),
        "json",
    ),
    _file_format("parquet", "Parquet", _reading("Parquet"), _writing("Parquet"), "parquet"),
)
