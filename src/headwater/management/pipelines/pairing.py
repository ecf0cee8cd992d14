"""Pairs the properties of two schemas whose names have the same meaning: `first_name`, `FirstName` and `FNAME`."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from headwater.catalog import Matching
from headwater.schemas import IntType, JsonType, MapType, ObjectType, Property, Schema, StringType, UuidType
from headwater.transforms.mapping import CompiledMapping, InvalidMapping

_SYNONYMS: Final = {
    synonym: meaning
    for meaning, synonyms in {
        "birthday": "birthdate dateofbirth dob",
        "city": "homecity town",
        "company": "companyname organization organisation",
        "createdat": "created signedupat",
        "email": "emailaddress emailid mail",
        "externalid": "customerid extid userid",
        "firstname": "fname givenname",
        "lastname": "familyname lname surname",
        "name": "fullname",
        "phone": "mobile mobilephone phonenumber sms telephone",
        "region": "province state",
        "street": "addr1 address1 line1 streetaddress",
        "zip": "postalcode postcode zipcode",
    }.items()
    for synonym in synonyms.split()
}
"""Names with the same meaning, in lower case and without underscores."""
_IDENTIFYING_TYPES: Final = (StringType, IntType, UuidType)
_IDENTIFYING_MEANINGS: Final = ("email", "externalid", "id", "phone")
"""Meanings of properties that identify a person, the most usual first."""


def pair_properties(inputs: Schema, outputs: Schema) -> dict[str, str]:
    """Return a mapping of properties: the path of the input property by that of the output property.

    Properties are paired by the meaning of their whole paths, otherwise by that of their last names if these are unique
    on both sides. Their types must allow a conversion. Of an output object whose required properties have no pair,
    nothing is paired: the application rejects it.
    """
    by_path = {_meaning(path): path for path in reversed(list(leaves(inputs)))}
    input_names, output_names = _unique_names(inputs), _unique_names(outputs)
    pairs: dict[str, str] = {}
    for path in leaves(outputs):
        found = by_path.get(_meaning(path))
        if found is None and output_names.get(name := _last_meaning(path)) == path:
            found = input_names.get(name)
        if found is not None and reads_property(path, found, inputs, outputs):
            pairs[path] = found
    incomplete = [
        path.rpartition(".")[0]
        for path, each in leaves(outputs).items()
        if "." in path and each.create_required and path not in pairs
    ]
    return {path: found for path, found in pairs.items() if path.rpartition(".")[0] not in incomplete}


def map_others(pairs: dict[str, str], inputs: Schema, outputs: Schema) -> dict[str, str]:
    """Return a mapping of the other input properties, if the output has one map for properties of any name.

    The last names of their paths are those in the map. A name that several properties have is left out.
    """
    maps = {each.name: each.type.element_type for each in outputs.properties if isinstance(each.type, MapType)}
    if len(maps) != 1 or not isinstance(next(iter(maps.values())), JsonType):
        return {}
    [output], paired = maps, set(pairs.values())
    names = {path: path.rpartition(".")[2] for path in leaves(inputs)}
    counts = Counter(names.values())
    members = [f'"{name}", {path}' for path, name in names.items() if path not in paired and counts[name] == 1]
    expression = f"map({', '.join(members)})"
    return {output: expression} if reads_property(output, expression, inputs, outputs) else {}


def choose_matching(
    pairs: dict[str, str], inputs: Schema, outputs: Schema, identifiers: Sequence[str]
) -> Matching | None:
    """Return the pair that identifies a person: by the first of the identifiers, or by a usual name. None without one.

    `identifiers` are paths of input properties.
    """
    properties_in, properties_out = leaves(inputs), leaves(outputs)
    possible = {
        input_: Matching(input_, output)
        for output, input_ in pairs.items()
        if isinstance(properties_in[input_].type, _IDENTIFYING_TYPES)
        and isinstance(properties_out[output].type, _IDENTIFYING_TYPES)
    }
    by_meaning = {_meaning(path): path for path in possible}
    usual = [by_meaning[each] for each in _IDENTIFYING_MEANINGS if each in by_meaning]
    return next((possible[path] for path in (*identifiers, *usual) if path in possible), None)


def leaves(schema: Schema) -> dict[str, Property]:
    """Return the properties that are no objects, by path."""
    return dict(_walk(schema, ""))


def reads_property(path: str, expression: str, inputs: Schema, outputs: Schema) -> bool:
    """Return whether the output property can have the values of the expression, and these are not constant."""
    try:
        return bool(CompiledMapping({path: expression}, inputs, outputs).in_paths)
    except InvalidMapping:
        return False


def _walk(schema: Schema, prefix: str) -> Iterator[tuple[str, Property]]:
    for each in schema.properties:
        path = prefix + each.name
        if isinstance(each.type, ObjectType):
            yield from _walk(each.type, f"{path}.")
        else:
            yield path, each


def _unique_names(schema: Schema) -> dict[str, str]:
    """Return the paths by the meaning of their last name, if no other path has it."""
    names = {path: _last_meaning(path) for path in leaves(schema)}
    counts = Counter(names.values())
    return {name: path for path, name in names.items() if counts[name] == 1}


def _last_meaning(path: str) -> str:
    return _meaning(path.rpartition(".")[2])


def _meaning(path: str) -> str:
    names = path.lower().replace("_", "").split(".")
    return ".".join(_SYNONYMS.get(name, name) for name in names)
