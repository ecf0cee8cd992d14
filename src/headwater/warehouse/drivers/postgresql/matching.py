"""Decides in Python about what SQL cannot: the filter of a query, on the documents of some rows."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final

import msgspec
from msgspec import Raw

from headwater.events.record import record_of_document
from headwater.filters import CheckedFilter, Filter, Predicate, check_filter, compile_filter
from headwater.schemas import EVENT_SCHEMA

MAX_REMEMBERED: Final = 64
"""Filters that a process remembers, checked and compiled."""

DocumentTest = Callable[[str], bool]
"""Whether an event passes, by its document."""


def checked_filter(filter: Filter) -> CheckedFilter:
    """Return the filter checked against the event schema. May compute for tenths of a second."""
    return _prepared(filter)[0]


def passes_filter(filter: Filter) -> DocumentTest:
    """Return the filter as a test of documents. May compute for tenths of a second."""
    checked, predicate = _prepared(filter)
    members = frozenset(condition.path[0] for condition in checked.conditions)

    def passes(document: str) -> bool:
        found = _decode(document)
        return predicate(record_of_document({name: value for name, value in found.items() if name in members}))

    return passes


def matching(tests: Sequence[DocumentTest], documents: Sequence[str]) -> list[bool]:
    """Return for each document whether it passes all tests."""
    return [all(test(document) for test in tests) for document in documents]


@lru_cache(MAX_REMEMBERED)
def _prepared(filter: Filter) -> tuple[CheckedFilter, Predicate]:
    checked = check_filter(filter, EVENT_SCHEMA, role="Source", target="Event")
    return checked, compile_filter(checked)


_decode: Final = msgspec.json.Decoder(dict[str, Raw]).decode
