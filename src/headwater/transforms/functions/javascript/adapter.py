"""Generates the JavaScript that converts records between JSON and values of functions, for one pair of schemas.

`read` turns the JSON forms of 64-bit integers, NaN and the infinities into JavaScript values, in place. `write` copies
the result of a function into a new object, and rejects values of the wrong native type with their path. The server
checks constraints and nulls. `runtime.js` has the helper functions.
"""

import json
from collections.abc import Sequence
from typing import Final

from headwater.schemas import types as t
from headwater.transforms.functions.native import javascript_name

_INHERITED: Final = frozenset(
    {
        "__defineGetter__", "__defineSetter__", "__lookupGetter__", "__lookupSetter__", "__proto__", "constructor",
        "hasOwnProperty", "isPrototypeOf", "propertyIsEnumerable", "toLocaleString", "toString", "valueOf",
    }
)  # fmt: skip
"""The inherited properties of every object."""


def adapter(in_schema: t.Schema | None, out_schema: t.Schema | None, preserve_json: bool) -> str:
    """Return the definitions of `read` and `write`."""
    code = _Code(preserve_json)
    read = code.reader(in_schema) if in_schema is not None else None
    write = code.object_writer(out_schema)
    return "\n".join([*code.lines, f"const read = {read or '(value) => value'};", f"const write = {write};"])


class _Code:
    def __init__(self, preserve_json: bool) -> None:
        self.lines: list[str] = []
        self._preserve_json = preserve_json
        self._count = 0

    def _define(self, body: str) -> str:
        self._count += 1
        name = f"f{self._count}"
        self.lines.append(f"const {name} = {body};")
        return name

    def reader(self, type: t.Type) -> str | None:
        """Return the name of the function that converts a value of the type, or None if no conversion is needed."""
        match type:
            case t.IntType(bit_size=64):
                return "bigint"
            case t.FloatType(real=False):
                return "number"
            case t.ArrayType() | t.MapType():
                element = self.reader(type.element_type)
                if element is None:
                    return None
                names = "value" if isinstance(type, t.ArrayType) else "keys(value)"
                at = "index" if isinstance(type, t.ArrayType) else "names[index]"
                return self._define(
                    f"(value) => {{ const names = {names}; for (let index = 0; index < names.length; index++) "
                    f"set(value, {at}, {element}(value[{at}])); return value; }}"
                )
            case t.ObjectType():
                steps = []
                for property in type:
                    convert = self.reader(property.type)
                    if convert is not None:
                        found, name = _get(property.name), json.dumps(property.name)
                        steps.append(
                            f"{{ const it = {found}; "
                            f"if (it !== undefined && it !== null) value[{name}] = {convert}(it); }}"
                        )
                return self._define(f"(value) => {{ {' '.join(steps)} return value; }}") if steps else None
            case _:
                return None

    def object_writer(self, type: t.ObjectType | None) -> str:
        properties: Sequence[tuple[str, str]] = (
            [(property.name, self.writer(property.type)) for property in type] if type is not None else ()
        )
        known = self._define(
            "{ __proto__: null, " + ", ".join(f"[{json.dumps(name)}]: true" for name, _ in properties) + " }"
        )
        lines = []
        for index, (name, convert) in enumerate(properties):
            lines.append(
                f"at = {json.dumps(name)}; let p{index} = {_get(name)}; "
                f"if (p{index} !== undefined && p{index} !== null) p{index} = {convert}(p{index});"
            )
        members = ", ".join(f"[{json.dumps(name)}]: p{index}" for index, (name, _) in enumerate(properties))
        return self._define(
            "(value) => {\n"
            '  if (!isPlain(value)) unlike("object");\n'
            '  let at = "";\n'
            "  try {\n    " + "\n    ".join(lines) + "\n"
            f"    at = null;\n    rejectUnknown(keys(value), {known});\n    return {{ {members} }};\n"
            "  } catch (error) { throw at === null ? error : under(error, at); }\n}"
        )

    def writer(self, type: t.Type) -> str:
        """Return the name of the function that checks and converts a value of the type, which is never null or
        undefined."""
        match type:
            case t.BooleanType():
                return "toBoolean"
            case t.IntType(bit_size=64):
                return "toBigInt"
            case t.IntType() | t.YearType():
                return "toInteger"
            case t.FloatType():
                return "toFloat"
            case t.DateTimeType():
                return "toMoment"
            case t.JsonType() if not self._preserve_json:
                return "toJson"
            case t.ArrayType():
                element = self.writer(type.element_type)
                name = json.dumps(javascript_name(type, self._preserve_json))
                return self._define(f"(value) => toArray(value, {element}, {name})")
            case t.MapType():
                return self._define(f"(value) => toMap(value, {self.writer(type.element_type)})")
            case t.ObjectType():
                return self.object_writer(type)
            case _:
                return "toText"


def _get(name: str) -> str:
    if name in _INHERITED:
        return f"own(value, {json.dumps(name)}) ? value[{json.dumps(name)}] : undefined"
    return f"value[{json.dumps(name)}]"
