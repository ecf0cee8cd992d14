"""The error tree: statuses, codes, and details for programs."""

import pytest

from headwater.base import errors

TREE: list[tuple[errors.HeadwaterError, int, str, dict[str, str]]] = [
    (errors.HeadwaterError("m"), 500, "InternalServerError", {}),
    (errors.BadRequest("m", field="batch[2].userId"), 400, "BadRequest", {"field": "batch[2].userId"}),
    (errors.Unauthorized("m"), 401, "Unauthorized", {}),
    (errors.Forbidden("m"), 403, "Forbidden", {}),
    (errors.NotFound("m", field="id"), 404, "NotFound", {"field": "id"}),
    (errors.PayloadTooLarge("m"), 413, "PayloadTooLarge", {}),
    (errors.Unprocessable("TargetExist", "m", field="target"), 422, "TargetExist", {"field": "target"}),
    (errors.TooManyRequests("m", retry_after=30), 429, "TooManyRequests", {"retryAfter": "30"}),
    (errors.Unimplemented("m"), 501, "NotImplemented", {}),
    (errors.Unavailable("m"), 503, "ServiceUnavailable", {"retryAfter": "1"}),
]


@pytest.mark.parametrize(("error", "status", "code", "details"), TREE, ids=lambda value: type(value).__name__)
def test_the_tree(error: errors.HeadwaterError, status: int, code: str, details: dict[str, str]) -> None:
    assert (error.status, error.code, error.message, str(error), error.details) == (status, code, "m", "m", details)


def test_the_docstring_draws_the_whole_tree() -> None:
    def leaves(kind: type[errors.HeadwaterError]) -> set[type[errors.HeadwaterError]]:
        below = kind.__subclasses__()
        return {leaf for each in below for leaf in leaves(each)} if below else {kind}

    tested = {type(error) for error, *_ in TREE} - {errors.HeadwaterError}
    ours = {leaf for leaf in leaves(errors.HeadwaterError) if leaf.__module__ == errors.__name__}
    assert ours <= tested
    for kind in tested:
        assert f"── {kind.__name__} " in str(errors.__doc__)


def test_one_code_does_not_leak_into_another() -> None:
    errors.Unprocessable("TargetExist", "m")
    assert errors.Unprocessable.code == errors.HeadwaterError.code
