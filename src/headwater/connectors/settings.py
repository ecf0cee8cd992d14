"""Declares the settings of connectors as structs, reads given values by the declaration, and describes them as a form.

    class StoreSettings(Settings, frozen=True, kw_only=True):
        host: Annotated[str, Text(1, 253)]
        api_key: Annotated[str, Text(1, 255, VISIBLE, secret=True)]
        port: Annotated[int, Number(1, 65_535)] = 443
        region: Annotated[Literal["US", "EU"], Choice()]

    StoreSettings.read({"host": "h", "apiKey": "k", "region": "EU"})     a StoreSettings, or InvalidSettings
    describe(StoreSettings)                                              the fields of the form

The same declaration decides how settings are checked, shown, stored and redacted. Reading is total: the result has
every field, of the declared type and within its limits, with defaults filled in. Unknown members are ignored. Any other
value raises 422 InvalidSettings, and `field` is the path of the value ("settings.headers[2].key"). Reading does not
contact the outside system.
"""

import json
import re
import types
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Annotated, Any, ClassVar, Final, Literal, Self, TypeVar, Union, get_args, get_origin

import msgspec

from headwater.base.errors import Unprocessable

MAX_SETTINGS_CHARACTERS: Final = 10_000
"""Characters of all settings of a connection, as JSON text."""

REDACTED: Final = "[REDACTED]"
"""Stands for a secret wherever settings are shown."""

_ACRONYMS: Final = frozenset({"api", "id", "url"})

FieldKind = Literal["Text", "Number", "Flag", "Choice", "Group", "List"]


class FormField(msgspec.Struct, frozen=True, kw_only=True):
    """One field of a form.

    `name` is the member of the settings. `minimum` and `maximum` are bytes of UTF-8 for a text, values for a number,
    elements for a list; None means no limit. `rule` completes "the value …" for a text with a pattern. `default` is
    None when there is none. `options` are those of a choice. `fields` are those of a group or of each element of a
    list. `one_of` names a set of fields of the same form, of which exactly one must be given.
    """

    name: str
    label: str
    kind: FieldKind
    help: str = ""
    secret: bool = False
    required: bool = False
    default: str | int | bool | None = None
    options: tuple[str, ...] = ()
    minimum: int | None = None
    maximum: int | None = None
    rule: str = ""
    fields: tuple["FormField", ...] = ()
    one_of: tuple[str, ...] = ()


def invalid(path: str, rule: str) -> Unprocessable:
    """Return the error for the value at `path`; `rule` completes the sentence ("must be true or false")."""
    return Unprocessable("InvalidSettings", f"{path} {rule}", field=path)


class Format(msgspec.Struct, frozen=True):
    """The format of a text: `pattern` matches all of it; `rule` describes this to users."""

    pattern: re.Pattern[str]
    rule: str


PRINTABLE: Final = Format(re.compile(r"[ -~]*"), "must consist of printable ASCII characters")
VISIBLE: Final = Format(re.compile(r"[^\s\x00-\x1f\x7f-\x9f]*"), "must not contain spaces or control characters")


class Text(msgspec.Struct, frozen=True):
    """Declares a string of `minimum` to `maximum` bytes of UTF-8.

    `check` returns the broken rule of a text, or None; it is for rules that no pattern expresses.
    """

    minimum: int
    maximum: int
    format: Format | None = None
    check: Callable[[str], str | None] | None = None
    label: str = ""
    help: str = ""
    secret: bool = False

    def read(self, value: object, path: str, type_: Any) -> str:
        if not isinstance(value, str):
            raise invalid(path, "must be a string")
        try:
            length = len(value.encode())
        except UnicodeEncodeError:
            raise invalid(path, "contains a lone surrogate") from None
        size = f"must have {_span(self.minimum, self.maximum)} bytes"
        if length > self.maximum:
            raise invalid(path, size)
        if "\0" in value:
            raise invalid(path, "contains the NUL character")
        if self.format is not None and not self.format.pattern.fullmatch(value):
            raise invalid(path, self.format.rule)  # it says more than the size of a text that is too short
        if length < self.minimum:
            raise invalid(path, size)
        if self.check is not None and (rule := self.check(value)) is not None:
            raise invalid(path, rule)
        return value

    def form(self, type_: Any) -> dict[str, Any]:
        rule = "" if self.format is None else self.format.rule
        return {"kind": "Text", "minimum": self.minimum, "maximum": self.maximum, "rule": rule, "secret": self.secret}


class Number(msgspec.Struct, frozen=True):
    """Declares a whole number from `minimum` to `maximum`."""

    minimum: int
    maximum: int
    label: str = ""
    help: str = ""

    def read(self, value: object, path: str, type_: Any) -> int:
        # JSON has one kind of number, and a bool is an int to Python.
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
            raise invalid(path, "must be a whole number")
        if not self.minimum <= value <= self.maximum:
            raise invalid(path, f"must be in the range from {self.minimum} to {self.maximum}")
        return int(value)

    def form(self, type_: Any) -> dict[str, Any]:
        return {"kind": "Number", "minimum": self.minimum, "maximum": self.maximum}


class Flag(msgspec.Struct, frozen=True):
    """Declares true or false."""

    label: str = ""
    help: str = ""

    def read(self, value: object, path: str, type_: Any) -> bool:
        if not isinstance(value, bool):
            raise invalid(path, "must be true or false")
        return value

    def form(self, type_: Any) -> dict[str, Any]:
        return {"kind": "Flag"}


class Choice(msgspec.Struct, frozen=True):
    """Declares one of some strings: those of the field's Literal type."""

    label: str = ""
    help: str = ""

    def read(self, value: object, path: str, type_: Any) -> object:
        options = get_args(type_)
        if value not in options:
            raise invalid(path, f"must be one of {', '.join(options)}")
        return value

    def form(self, type_: Any) -> dict[str, Any]:
        return {"kind": "Choice", "options": get_args(type_)}


class Group(msgspec.Struct, frozen=True):
    """Declares an object: the field's type is another Settings."""

    label: str = ""
    help: str = ""

    def read(self, value: object, path: str, type_: type["Settings"]) -> "Settings":
        return _read(type_, value, path)

    def form(self, type_: Any) -> dict[str, Any]:
        return {"kind": "Group", "fields": describe(type_)}


class List(msgspec.Struct, frozen=True):
    """Declares a list of objects: the field's type is `tuple[X, ...]`, where X is another Settings.

    With `distinct`, no two elements have the same value of that member.
    """

    minimum: int = 0
    distinct: str | None = None
    label: str = ""
    help: str = ""

    def read(self, value: object, path: str, type_: Any) -> tuple["Settings", ...]:
        if not isinstance(value, list | tuple):
            raise invalid(path, "must be an array")
        if len(value) < self.minimum:
            raise invalid(path, f"must have at least {self.minimum} element")
        element: type[Settings] = get_args(type_)[0]
        read = tuple(_read(element, each, f"{path}[{index}]") for index, each in enumerate(value))
        if self.distinct is not None:
            _check_distinct([getattr(each, self.distinct) for each in read], path, self.distinct)
        return read

    def form(self, type_: Any) -> dict[str, Any]:
        return {"kind": "List", "minimum": self.minimum, "fields": describe(get_args(type_)[0])}


def _check_distinct(values: list[object], path: str, member: str) -> None:
    for index, value in enumerate(values):
        if value in values[:index]:
            raise invalid(f"{path}[{index}].{member}", "is repeated")


Declaration = Text | Number | Flag | Choice | Group | List


def setting(name: str, default: Any = msgspec.NODEFAULT) -> Any:
    """Return a field whose member has another name than its attribute in camel case ("useCRLF")."""
    return msgspec.field(name=name, default=default)


class Settings(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The settings of a connector in one role.

    Each field is `Annotated` with a declaration of this module. A field without a default is required. A default of
    None means that the field may be left out, and then it is None; None is never stored. Subclasses are declared with
    `frozen=True, kw_only=True`. The printed form shows no secret.
    """

    ONE_OF: ClassVar[tuple[str, ...]] = ()
    """Members of which exactly one must be given."""
    REQUIRED: ClassVar[bool] = True
    """False if the settings can be left out as a whole; then every field has its default."""

    @classmethod
    def read(cls, given: object, path: str = "settings") -> Self:
        """Return the checked settings; `path` names them in errors. Raises Unprocessable with InvalidSettings."""
        settings = _read(cls, given, path)
        if cls.ONE_OF and sum(name in settings.document() for name in cls.ONE_OF) != 1:
            raise invalid(path, f"must have exactly one of {' and '.join(cls.ONE_OF)}")
        if len(json.dumps(settings.document(), ensure_ascii=False)) > MAX_SETTINGS_CHARACTERS:
            raise invalid(path, f"must not be longer than {MAX_SETTINGS_CHARACTERS} characters")
        return settings

    def document(self) -> dict[str, Any]:
        """Return the settings as they are stored: JSON values by member, secrets included."""
        return {name: _plain(value) for name, _, value in _values(self) if value is not None}

    def public_document(self) -> dict[str, Any]:
        """Return the document for display: `REDACTED` replaces every secret that is not empty."""
        return {name: _public(declared, value) for name, declared, value in _values(self) if value is not None}

    def secrets(self) -> tuple[str, ...]:
        """Return the values that no log, preview, trace or stored response may contain."""
        return tuple(_secrets(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.public_document()})"


_Settings = TypeVar("_Settings", bound=Settings)


class _Field(msgspec.Struct, frozen=True):
    """`type` is the declared type without None."""

    attribute: str
    name: str
    declared: Declaration
    type: Any
    default: Any

    @property
    def is_required(self) -> bool:
        return self.default is msgspec.NODEFAULT


def describe(settings: type[Settings]) -> tuple[FormField, ...]:
    """Return the fields of the form, in the order of the declaration."""
    return tuple(_form_field(settings, field) for field in _fields(settings))


def _form_field(settings: type[Settings], field: _Field) -> FormField:
    default = field.default if isinstance(field.default, str | int | bool) else None
    return FormField(
        name=field.name,
        label=field.declared.label or _words(field.name),
        help=field.declared.help,
        required=field.is_required,
        default=default,
        one_of=settings.ONE_OF if field.name in settings.ONE_OF else (),
        **field.declared.form(field.type),
    )


def _words(name: str) -> str:
    """Return a label for a member: "privateAPIKey" becomes "Private API key"."""
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", name)
    shown = [word.upper() if word.lower() in _ACRONYMS or _is_acronym(word) else word.lower() for word in words]
    text = " ".join(shown)
    return text[:1].upper() + text[1:]


def _is_acronym(word: str) -> bool:
    return len(word) > 1 and word.isupper()


@cache
def _fields(settings: type[Settings]) -> tuple[_Field, ...]:
    return tuple(_field(settings, info) for info in msgspec.structs.fields(settings))


def _field(settings: type[Settings], info: msgspec.structs.FieldInfo) -> _Field:
    type_, *metadata = get_args(info.type) if get_origin(info.type) is Annotated else (info.type,)
    declared = [one for one in metadata if isinstance(one, Declaration)]
    if len(declared) != 1:
        raise TypeError(f"{settings.__name__}.{info.name} must have one declaration in its annotation")
    alternatives = get_args(type_) if get_origin(type_) in (Union, types.UnionType) else (type_,)
    present = [one for one in alternatives if one is not type(None)]
    if len(present) != 1:
        raise TypeError(f"{settings.__name__}.{info.name} must have one type, or that type and None")
    return _Field(info.name, info.encode_name, declared[0], present[0], info.default)


def _read(settings: type[_Settings], given: object, path: str) -> _Settings:
    """Read an object member by member, in the order of the declaration."""
    if not isinstance(given, Mapping):
        raise invalid(path, "must be an object")
    return settings(**{field.attribute: _member(field, given, path) for field in _fields(settings)})


def _member(field: _Field, given: Mapping[Any, object], path: str) -> object:
    value, place = given.get(field.name), f"{path}.{field.name}"
    if value is not None:
        return field.declared.read(value, place, field.type)
    if not field.is_required:
        return field.default
    if isinstance(field.declared, List) and field.declared.minimum:
        raise invalid(place, f"must have at least {field.declared.minimum} element")
    raise invalid(place, "is required")


def _values(settings: Settings) -> Iterator[tuple[str, Declaration, Any]]:
    for field in _fields(type(settings)):
        yield field.name, field.declared, getattr(settings, field.attribute)


def _plain(value: Any) -> Any:
    if isinstance(value, Settings):
        return value.document()
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


def _public(declared: Declaration, value: Any) -> Any:
    if isinstance(value, Settings):
        return value.public_document()
    if isinstance(value, tuple):
        return [_public(declared, each) for each in value]
    return REDACTED if value and isinstance(declared, Text) and declared.secret else value


def _secrets(settings: Settings) -> Iterator[str]:
    for _, declared, value in _values(settings):
        for each in value if isinstance(value, tuple) else (value,):
            if isinstance(each, Settings):
                yield from _secrets(each)
            elif isinstance(declared, Text) and declared.secret and each:
                yield each


def _span(minimum: int, maximum: int) -> str:
    return str(minimum) if minimum == maximum else f"{minimum} to {maximum}"
