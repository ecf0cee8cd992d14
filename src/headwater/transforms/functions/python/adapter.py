"""Generates the Python code around a function, for one pair of schemas: the loop over a batch, and the conversion of
values.

Most values need no conversion from JSON. `read` parses the texts of decimals, dates and times in place. `write` turns
them into texts again, in a copy, and rejects other classes. Other values are encoded unchanged, and the server checks
them. The code is in a closure, so a function may use names like `list` or `type` for its own values.
"""

from typing import Final

from headwater.schemas import types as t
from headwater.transforms.functions.native import python_name

START: Final = "__headwater_start"
"""The name of the function that takes a batch as JSON, and stops at the first exception of the function.

It returns `UNREADABLE`, and runs nothing, if the interpreter cannot decode the batch.
"""
START_EACH: Final = "__headwater_start_each"
"""The same for a list with the JSON of each record. A record that cannot be decoded fails alone."""
RESUME: Final = "__headwater_resume"
"""The name of the function that continues after an exception."""
BIND: Final = "__headwater_bind"
"""The name of the function that receives `transform`, and the maximum size of the results in characters."""
TOO_LARGE: Final = "#"
UNREADABLE: Final = "%"

_TEMPLATE: Final = """
def __headwater_make():
    import datetime, decimal, json
    loads, dumps, Decimal = json.loads, json.dumps, decimal.Decimal
    Moment, Day, Clock = datetime.datetime, datetime.date, datetime.time
    kind, size, text, count, is_a = type, len, str, range, isinstance
    Mapping, List, Tuple, Text = dict, list, tuple, str
    Wrong, Unfit, Anything = ValueError, TypeError, Exception
    plain = (bool, int, float, str)
    state = {}

    def under(name, error):
        head, _, rule = text(error).partition("\t")
        return Wrong(name + ("" if head == "" or head[0] == "[" else ".") + head + "\t" + rule)

    def unlike(name):
        return Wrong("\tis not of type " + name)

    def refuse_strange(value):
        if value is None or kind(value) in plain:
            return
        if kind(value) is Mapping:
            for key in value:
                try:
                    refuse_strange(value[key])
                except Wrong as error:
                    raise under(text(key), error)
        elif kind(value) is List or kind(value) is Tuple:
            for index in count(size(value)):
                try:
                    refuse_strange(value[index])
                except Wrong as error:
                    raise under("[" + text(index) + "]", error)
        else:
            raise Wrong("\tis of type " + kind(value).__name__ + ", which is not the property's")

    def refused(result, error):
        try:
            if is_a(error, Unfit):
                refuse_strange(result)
        except Wrong as found:
            error = found
        found = text(error)
        if is_a(error, Wrong) and "\t" in found:
            return "-" + dumps(found.split("\t"))
        return "!" + dumps(kind(error).__name__ + ": " + found)

    {definitions}

    def bind(transform, maximum):
        state["transform"] = transform
        state["maximum"] = maximum

    def begin(records):
        state["records"] = records
        state["next"] = 0
        state["lines"] = []
        state["length"] = 0
        return resume()

    def start(batch):
        try:
            records = loads(batch)
        except Anything:
            return "%"
        return begin(records)

    def start_each(batch):
        records = []
        for item in batch:
            try:
                records.append(loads(item))
            except Anything as error:
                records.append("the record cannot be passed to Python: " + text(error).split(";")[0])
        return begin(records)

    def resume():
        transform, records, lines = state["transform"], state["records"], state["lines"]
        maximum, length = state["maximum"], state["length"]
        if size(lines) < state["next"]:
            lines.append("")
        for index in count(state["next"], size(records)):
            state["next"] = index + 1
            if kind(records[index]) is Text:
                lines.append("<" + dumps(records[index], ensure_ascii=False))
                continue
            result = transform({read})
            if kind(result) is Mapping:
                try:
                    line = dumps({write}, ensure_ascii=False)
                except Anything as error:
                    line = refused(result, error)
            else:
                line = "?" + kind(result).__name__
            lines.append(line)
            length = length + size(line)
            state["length"] = length
            if length > maximum:
                return "#"
        state["records"] = []
        return "\\n".join(lines)

    return bind, start, start_each, resume

__headwater_bind, __headwater_start, __headwater_start_each, __headwater_resume = __headwater_make()
"""


def adapter(in_schema: t.Schema | None, out_schema: t.Schema | None) -> str:
    """Return the source, which defines the functions named `BIND`, `START` and `RESUME`."""
    code = _Code()
    read = code.reader(in_schema) if in_schema is not None else None
    write = code.writer(out_schema) if out_schema is not None else None
    definitions = "\n    ".join(line for definition in code.definitions for line in definition)
    return (
        _TEMPLATE.replace("{definitions}", definitions)
        .replace("{read}", f"{read}(records[index])" if read else "records[index]")
        .replace("{write}", f"{write}(result)" if write else "result")
    )


class _Code:
    def __init__(self) -> None:
        self.definitions: list[list[str]] = []

    def _define(self, *body: str) -> str:
        name = f"f{len(self.definitions)}"
        self.definitions.append([f"def {name}(value):", *(f"    {line}" for line in body)])
        return name

    def reader(self, type: t.Type) -> str | None:
        """Return the name of the function that converts a value of the type, or None if no conversion is needed."""
        match type:
            case t.DecimalType():
                return "Decimal"
            case t.DateTimeType():
                return "Moment.fromisoformat"
            case t.DateType():
                return "Day.fromisoformat"
            case t.TimeType():
                return "Clock.fromisoformat"
            case t.ArrayType():
                element = self.reader(type.element_type)
                return None if element is None else self._define(f"return [{element}(item) for item in value]")
            case t.MapType():
                element = self.reader(type.element_type)
                return (
                    None if element is None else self._define(f"return {{key: {element}(value[key]) for key in value}}")
                )
            case t.ObjectType():
                body = []
                for property in type:
                    convert = self.reader(property.type)
                    if convert is not None:
                        name = repr(property.name)
                        body += [
                            f"if value.get({name}) is not None:",
                            f"    value[{name}] = {convert}(value[{name}])",
                        ]
                return self._define(*body, "return value") if body else None
            case _:
                return None

    def writer(self, type: t.Type) -> str | None:
        """Return the name of the function that converts a value of the type to JSON, or None if no conversion is
        needed."""
        name = repr(python_name(type, False))
        match type:
            case t.DecimalType():
                return self._scalar("Decimal", name, "text(value)")
            case t.DateTimeType():
                return self._scalar("Moment", name, "value.isoformat()")
            case t.DateType():
                return self._scalar("Day", name, "value.isoformat()")
            case t.TimeType():
                return self._scalar("Clock", name, "value.isoformat()")
            case t.ArrayType():
                element = self.writer(type.element_type)
                if element is None:
                    return None
                return self._define(
                    "if kind(value) is not List and kind(value) is not Tuple:", f"    raise unlike({name})",
                    "result = []",
                    "for item in value:",
                    "    try:",
                    f"        result.append(None if item is None else {element}(item))",
                    "    except Wrong as error:",
                    "        raise under('[' + text(size(result)) + ']', error)",
                    "return result",
                )  # fmt: skip
            case t.MapType():
                element = self.writer(type.element_type)
                if element is None:
                    return None
                return self._define(
                    "if kind(value) is not Mapping:", f"    raise unlike({name})",
                    "result = {}",
                    "for key in value:",
                    "    try:",
                    f"        result[key] = None if value[key] is None else {element}(value[key])",
                    "    except Wrong as error:",
                    "        raise under('[' + dumps(text(key)) + ']', error)",
                    "return result",
                )  # fmt: skip
            case t.ObjectType():
                writers = [(p.name, write) for p in type if (write := self.writer(p.type)) is not None]
                if not writers:
                    return None
                body = ["if kind(value) is not Mapping:", f"    raise unlike({name})", "value = value.copy()"]
                for property_name, write in writers:
                    member = repr(property_name)
                    body += [
                        f"if value.get({member}) is not None:",
                        "    try:",
                        f"        value[{member}] = {write}(value[{member}])",
                        "    except Wrong as error:",
                        f"        raise under({member}, error)",
                    ]
                return self._define(*body, "return value")
            case _:
                return None

    def _scalar(self, native: str, name: str, written: str) -> str:
        return self._define(f"if kind(value) is not {native}:", f"    raise unlike({name})", f"return {written}")
