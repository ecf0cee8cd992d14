"""Validates requests by the specification that a vendor publishes for machines.

A module of this package has the specification of a vendor, from a package of `requirements/specifications.txt`. The
vendor's server loads it, and each violation counts as one of the server's rules.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib import import_module
from itertools import islice
from typing import Any, Final, Protocol

import jsonschema_rs
import msgspec

from tests.connectors.specifications.schemas import Schema, coerce

MAX_ERRORS: Final = 3
"""Maximum number of errors that are reported of a request."""
MAX_ERROR_CHARACTERS: Final = 300


class Specification(Protocol):
    """A vendor's specification."""

    def find_errors(self, method: str, path: str, query: Mapping[str, list[str]], body: bytes) -> Iterable[str]:
        """Return how a request violates the specification."""


@cache
def load(name: str) -> Specification:
    """Return the specification of a module of this package."""
    specification: Specification = import_module(f"tests.connectors.specifications.{name}").SPECIFICATION
    return specification


class Operation:
    """An operation of a vendor: a method, and a path with parameters in braces.

    `query` and `body` are closed schemas. Parameters are not validated without a `query`, and a request has no body
    without a `body`.
    """

    def __init__(self, method: str, path: str, *, query: Schema | None = None, body: Schema | None = None) -> None:
        self._method = method
        self._path = re.compile("[^/]+".join(map(re.escape, re.split(r"\{[^}]*\}", path))))
        self._query = None if query is None else _Validator(query)
        self._body = None if body is None else _Validator(body)

    def matches(self, method: str, path: str) -> bool:
        return method == self._method and self._path.fullmatch(path) is not None

    def find_errors(self, query: Mapping[str, list[str]], body: Any, *, is_form: bool) -> list[str]:
        """Return the errors of parameters and of a body, which is None if there is none, and has texts in a form."""
        errors = []
        if self._query is not None:
            values = {name: each[0] if len(each) == 1 else each for name, each in query.items()}
            errors += self._query.find_errors(values, has_texts=True)
        if self._body is not None:
            errors += self._body.find_errors(body, has_texts=is_form)
        elif body is not None:
            errors.append("the operation has no body")
        return errors


class _Validator:
    """A compiled schema."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)

    def find_errors(self, value: Any, *, has_texts: bool) -> list[str]:
        """Return the first errors of a value. Texts become numbers and truth values, where the schema has these."""
        if has_texts:
            value = coerce(value, self._schema, self._schema)
        if self._validator.is_valid(value):
            return []
        return [
            f"{'/'.join(map(str, error.instance_path))}: {error.message}"[:MAX_ERROR_CHARACTERS]
            for error in islice(self._validator.iter_errors(value), MAX_ERRORS)
        ]


class Operations:
    """A specification that has operations. Bodies are JSON, or forms that `read_form` reads."""

    def __init__(self, *operations: Operation, read_form: Callable[[bytes], dict[str, Any]] | None = None) -> None:
        self._operations = operations
        self._read_form = read_form

    def find_errors(self, method: str, path: str, query: Mapping[str, list[str]], body: bytes) -> list[str]:
        operation = next((each for each in self._operations if each.matches(method, path)), None)
        if operation is None:
            return ["the specification has no such operation"]
        is_form = self._read_form is not None
        if not body and method in ("GET", "DELETE"):
            return operation.find_errors(query, None, is_form=is_form)
        try:
            decoded = msgspec.json.decode(body) if self._read_form is None else self._read_form(body)
        except msgspec.DecodeError as error:
            return [f"the body is not JSON: {error}"]
        return operation.find_errors(query, decoded, is_form=is_form)
