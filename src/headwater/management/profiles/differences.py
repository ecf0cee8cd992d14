"""The difference between two profile schemas: which properties are renamed, removed and added.

Properties are identified by their path. A request may say that a property is another one of the schema before, renamed
(the new path, with the old one), or that it is none of them (the new path, with None). Types never change.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import msgspec

from headwater.base.errors import BadRequest, Unprocessable
from headwater.catalog import Rename
from headwater.schemas import ObjectType, Property, Schema, is_path, misalignment, walk_objects

RePaths = Mapping[str, str | None]
"""For new paths: the old path of a renamed property; None for a property that is new."""


class SchemaDifference(msgspec.Struct, frozen=True):
    """The difference between a schema and the one before."""

    renames: tuple[Rename, ...]
    """The renames and removals, in the order of the schemas. Properties inside of them are not listed."""
    added: tuple[str, ...]
    """The paths of new properties. Properties inside of new objects are not listed."""


def check_re_paths(schema: Schema, re_paths: Mapping[str, object]) -> dict[str, str | None]:
    """Return `rePaths` of a request with its types. Raises BadRequest."""
    objects = {path for path, _ in walk_objects(schema)} if re_paths else set()
    checked: dict[str, str | None] = {}
    for new, old in re_paths.items():
        field = f"rePaths.{new}" if is_path(new) else "rePaths"
        if not is_path(new):
            raise BadRequest(f"rePaths: {new[:100]!r} is not the path of a property", field=field)
        if new not in objects:
            raise BadRequest(f"rePaths: property {new[:100]} does not exist in schema", field=field)
        if old is None:
            checked[new] = None
            continue
        if not isinstance(old, str) or not is_path(old):
            raise BadRequest(f"{field} must be null or the path of a property", field=field)
        if old == new:
            raise BadRequest(f"{field} must be another path than {new}", field=field)
        if old.rpartition(".")[0] != new.rpartition(".")[0]:
            raise BadRequest(f"{field} must be a path below the same parent", field=field)
        checked[new] = old
    return checked


def find_difference(old: Schema | None, new: Schema, re_paths: RePaths) -> SchemaDifference:
    """Return the difference. Raises Unprocessable with InvalidAlterSchema if the one cannot become the other."""
    comparison = _Comparison(re_paths)
    comparison.compare(old, new, "")
    return SchemaDifference(tuple(comparison.renames), tuple(comparison.added))


class _Comparison:
    def __init__(self, re_paths: RePaths) -> None:
        self._re_paths = re_paths
        self._parents = {parent for path in re_paths for parent in _parents(path)}
        self.renames: list[Rename] = []
        self.added: list[str] = []

    def compare(self, old: ObjectType | None, new: ObjectType, prefix: str) -> None:
        sources: dict[str, str] = {}
        """By the name of an old property: the path that it has now."""
        for property in new.properties:
            path = prefix + property.name
            source = self._source(old, path, property.name)
            if source is None:
                self._check_children_are_new(path)
                self.added.append(path)
                continue
            if source.name in sources:
                raise _refusal(
                    f"property {prefix}{source.name} would become both {sources[source.name]} and {path}", path
                )
            sources[source.name] = path
            if source.name != property.name:
                self._check_renamed(prefix + source.name, path, source, property)
                self.renames.append(Rename(old=prefix + source.name, new=path))
            elif isinstance(source.type, ObjectType) and isinstance(property.type, ObjectType):
                self.compare(source.type, property.type, f"{path}.")
            elif cause := _difference(source, property):
                raise _refusal(f'{cause}: to replace the property, give rePaths {{"{path}": null}}', path)
        self.renames += [Rename(old=prefix + each.name, new=None) for each in old or () if each.name not in sources]

    def _source(self, old: ObjectType | None, path: str, name: str) -> Property | None:
        """Return the old property that a property is; None if it is new."""
        if path not in self._re_paths:
            return None if old is None else old.get(name)
        old_path = self._re_paths[path]
        if old_path is None:
            return None
        source = None if old is None else old.get(old_path.rpartition(".")[2])
        if source is None:
            raise _refusal(f"property {old_path} does not exist, so it cannot become {path}", path, "rePaths")
        return source

    def _check_children_are_new(self, path: str) -> None:
        if path not in self._parents:
            return
        for new, old in self._re_paths.items():
            if old is not None and new.startswith(f"{path}."):
                raise _refusal(f"property {old} cannot become {new}: {path} is new", new, "rePaths")

    def _check_renamed(self, old: str, new: str, before: Property, after: Property) -> None:
        if new in self._parents:
            raise _refusal(f"object {old} cannot be renamed and changed together", new, "rePaths")
        if cause := _difference(before, after):
            raise _refusal(f"property {old} cannot become {new}: {cause}", new, "rePaths")


def _difference(before: Property, after: Property) -> str:
    """Return the first difference of the types of two properties, as text for people; empty if there is none.

    Their names and descriptions may differ.
    """
    stored, offered = ObjectType((before,)), ObjectType((replace(after, name=before.name),))
    if found := misalignment(stored, offered):
        return found.cause
    if found := misalignment(offered, stored):
        return f"property {found.path} is not in the schema from before"
    return ""


def _parents(path: str) -> Iterator[str]:
    return (path[:end] for end, character in enumerate(path) if character == ".")


def _refusal(message: str, path: str, member: str = "schema") -> Unprocessable:
    return Unprocessable("InvalidAlterSchema", message, field=f"{member}.{path}")
