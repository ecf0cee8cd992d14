"""Declares the settings of connectors field by field, and reads what a caller gave by these declarations.

Reading is total: what comes out has every field, of the declared type and within its limits, with defaults filled in
and unknown members left out. Anything else is 422 InvalidSettings, and its `field` is the path of the value to blame
("settings.headers[2].key"). What a remote service thinks of the values is not known here.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Final, Protocol

import msgspec

from headwater.base.errors import Unprocessable

MAX_SETTINGS_CHARACTERS: Final = 10_000
"""Characters of all settings of a connection, as JSON text."""


def invalid(path: str, rule: str) -> Unprocessable:
    """The error for the value at `path`; `rule` says what it must be ("must be true or false")."""
    return Unprocessable("InvalidSettings", f"{path} {rule}", field=path)


class Absent:
    """The type of `ABSENT`."""


ABSENT: Final = Absent()
"""What an optional field without a default reads as: it is left out."""


class Field(Protocol):
    """One member of settings."""

    @property
    def name(self) -> str: ...

    def read(self, value: object, path: str) -> object:
        """The value, checked; `value` is None when the member is absent or null. Raises Unprocessable."""
        ...


class Form(msgspec.Struct, frozen=True):
    """What the characters of a text must look like: the whole of it matches `pattern`; `rule` tells people."""

    pattern: re.Pattern[str]
    rule: str


PRINTABLE: Final = Form(re.compile(r"[ -~]*"), "must consist of printable ASCII characters")
VISIBLE: Final = Form(re.compile(r"[^\s\x00-\x1f\x7f-\x9f]*"), "must not contain spaces or control characters")


class Text(msgspec.Struct, frozen=True):
    """A string of `least` to `most` bytes of UTF-8. It may be left out when `least` is 0, or when it is `optional`."""

    name: str
    least: int
    most: int
    form: Form | None = None
    check: Callable[[str], str | None] | None = None
    """A rule that no pattern can say: what is wrong with the text, or None."""
    optional: bool = False

    def read(self, value: object, path: str) -> object:
        if value is None:
            if self.optional:
                return ABSENT
            if self.least == 0:
                return ""
            raise invalid(path, "is required")
        if not isinstance(value, str):
            raise invalid(path, "must be a string")
        try:
            length = len(value.encode())
        except UnicodeEncodeError:
            raise invalid(path, "contains a lone surrogate") from None
        if not self.least <= length <= self.most:
            raise invalid(path, f"must have {_span(self.least, self.most)} bytes")
        if "\0" in value:
            raise invalid(path, "contains the NUL character")
        if self.form is not None and not self.form.pattern.fullmatch(value):
            raise invalid(path, self.form.rule)
        if self.check is not None and (rule := self.check(value)) is not None:
            raise invalid(path, rule)
        return value


class Number(msgspec.Struct, frozen=True):
    """A whole number from `least` to `most`."""

    name: str
    least: int
    most: int
    default: int | None = None

    def read(self, value: object, path: str) -> object:
        if value is None:
            if self.default is None:
                raise invalid(path, "is required")
            return self.default
        # JSON has one kind of number, and a bool is an int to Python.
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
            raise invalid(path, "must be a whole number")
        if not self.least <= value <= self.most:
            raise invalid(path, f"must be in the range from {self.least} to {self.most}")
        return int(value)


class Flag(msgspec.Struct, frozen=True):
    """True or false; false when it is left out."""

    name: str

    def read(self, value: object, path: str) -> object:
        if value is None:
            return False
        if not isinstance(value, bool):
            raise invalid(path, "must be true or false")
        return value


class Choice(msgspec.Struct, frozen=True):
    """One of some strings."""

    name: str
    choices: tuple[str, ...]

    def read(self, value: object, path: str) -> object:
        if value is None:
            raise invalid(path, "is required")
        if value not in self.choices:
            raise invalid(path, f"must be one of {', '.join(self.choices)}")
        return value


class Group(msgspec.Struct, frozen=True):
    """An object with fields of its own."""

    name: str
    fields: tuple[Field, ...]
    optional: bool = False

    def read(self, value: object, path: str) -> object:
        if value is None:
            if self.optional:
                return ABSENT
            raise invalid(path, "is required")
        return read_fields(self.fields, value, path)


class Groups(msgspec.Struct, frozen=True):
    """An array of objects that have the same fields; with `distinct`, no two have the same value of that member."""

    name: str
    fields: tuple[Field, ...]
    least: int = 0
    distinct: str | None = None

    def read(self, value: object, path: str) -> object:
        if value is None:
            value = []
        if not isinstance(value, list):
            raise invalid(path, "must be an array")
        if len(value) < self.least:
            raise invalid(path, f"must have at least {self.least} element")
        read = [read_fields(self.fields, each, f"{path}[{index}]") for index, each in enumerate(value)]
        seen = set()
        for index, each in enumerate(read):
            if self.distinct is not None:
                if each[self.distinct] in seen:
                    raise invalid(f"{path}[{index}].{self.distinct}", "is repeated")
                seen.add(each[self.distinct])
        return read


class SettingsRules(msgspec.Struct, frozen=True):
    """All settings of a connector in one role.

    Exactly one of the fields in `one_of` must be given, when there are such fields. Settings that are not `required`
    may be left out as a whole, and then every field has its default.
    """

    fields: tuple[Field, ...]
    one_of: tuple[str, ...] = ()
    required: bool = True

    def read(self, given: object) -> dict[str, object]:
        """The settings as they are kept. Raises Unprocessable with InvalidSettings."""
        read = read_fields(self.fields, given, "settings")
        if self.one_of and sum(name in read for name in self.one_of) != 1:
            raise invalid("settings", f"must have exactly one of {' and '.join(self.one_of)}")
        if len(json.dumps(read, ensure_ascii=False)) > MAX_SETTINGS_CHARACTERS:
            raise invalid("settings", f"must not be longer than {MAX_SETTINGS_CHARACTERS} characters")
        return read


def read_fields(fields: tuple[Field, ...], given: object, path: str) -> dict[str, object]:
    """Reads an object member by member, in the order of the fields."""
    if not isinstance(given, Mapping):
        raise invalid(path, "must be an object")
    values = {field.name: field.read(given.get(field.name), f"{path}.{field.name}") for field in fields}
    return {name: value for name, value in values.items() if value is not ABSENT}


def _span(least: int, most: int) -> str:
    return str(least) if least == most else f"{least} to {most}"
