"""The stored schema of a pipeline, compared with the columns of its source."""

import pytest

from headwater.connectors.contract import Column
from headwater.runs.importing.alignment import check_columns
from headwater.runs.job import RunFailed
from headwater.schemas import IntType, ObjectType, Property, StringType, Type

TEXT = StringType()


def column(type: Type | None = TEXT, *, nullable: bool = False, read_optional: bool = False) -> Column:
    issue = "" if type else "it is a map"
    return Column(name="a", type=type, issue=issue, nullable=nullable, read_optional=read_optional)


@pytest.mark.parametrize(
    ("stored", "offered", "cause"),
    [
        (Property("a", TEXT), column(), ""),
        (Property("a", TEXT, read_optional=True), column(read_optional=True), ""),
        (Property("a", TEXT, read_optional=True), column(), ""),
        (Property("a", TEXT), column(read_optional=True), "property a can now be missing when it is read"),
        (Property("a", TEXT), column(nullable=True), "property a can now be null"),
        (Property("a", TEXT), column(IntType(32)), "the type of property a was string and is now int(32)"),
        (Property("a", TEXT), column(None), "column a cannot be read: it is a map"),
        (Property("b", TEXT), column(), "property b no longer exists"),
    ],
)
def test_columns(stored: Property, offered: Column, cause: str) -> None:
    if not cause:
        check_columns(ObjectType((stored,)), [offered])
        return
    with pytest.raises(RunFailed, match=cause.replace("(", r"\(").replace(")", r"\)")) as failure:
        check_columns(ObjectType((stored,)), [offered])
    assert failure.value.step == "InputValidation"
