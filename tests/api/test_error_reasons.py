"""The reasons of errors: the protos, `headwater.base.errors` and the gateway agree."""

import re
from pathlib import Path
from typing import get_args

import pytest
from google.protobuf.descriptor import EnumValueDescriptor
from google.rpc import error_details_pb2, status_pb2

from headwater.api.errors import grpc_trailers
from headwater.base import errors
from headwater.options.v1 import options_pb2
from headwater.v1 import error_reason_pb2
from tests.test_protos import METHODS

ENVOY = Path(__file__).parents[2] / "envoy"
VALUES = [value for value in error_reason_pb2.ErrorReason.DESCRIPTOR.values if value.number]


def example(value: EnumValueDescriptor) -> options_pb2.ErrorExample:
    return value.GetOptions().Extensions[options_pb2.error]


CODES = {example(value).code: example(value) for value in VALUES}


def test_the_type_has_the_codes_of_the_enum() -> None:
    assert set(get_args(errors.Reason)) == CODES.keys()


@pytest.mark.parametrize("value", VALUES, ids=lambda value: value.name)
def test_each_value_has_an_example(value: EnumValueDescriptor) -> None:
    shown = example(value)
    assert value.name == "ERROR_REASON_" + re.sub(r"(?<=[a-z])(?=[A-Z])", "_", shown.code).upper()
    assert 400 <= shown.status <= 504
    assert shown.message


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name)
def test_the_errors_of_a_method_are_reasons_of_422(method: object) -> None:
    for reason in method.GetOptions().Extensions[options_pb2.errors].reasons:  # type: ignore[attr-defined]
        assert CODES[reason].status == 422


@pytest.mark.parametrize(
    "error",
    [
        errors.HeadwaterError("m"),
        errors.BadRequest("m"),
        errors.Unauthorized("m"),
        errors.Forbidden("m"),
        errors.NotFound("m"),
        errors.PayloadTooLarge("m"),
        errors.TooManyRequests("m"),
        errors.Unimplemented("m"),
        errors.Unavailable("m"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_the_status_of_an_error_is_that_of_its_reason(error: errors.HeadwaterError) -> None:
    assert CODES[error.code].status == error.status


@pytest.mark.parametrize("name", ["envoy.yaml.tmpl", "errors.lua"])
def test_the_gateway_uses_the_same_reasons(name: str) -> None:
    text = (ENVOY / name).read_text()
    found = set(re.findall(r'code\\?"?: ?\\?"?([A-Z][A-Za-z]+)', text)) | set(
        re.findall(r'\{ ?"([A-Z][A-Za-z]+)",', text)
    )
    assert found
    assert found <= CODES.keys()


def test_a_field_is_a_violation_for_grpc_callers() -> None:
    error = errors.Unprocessable("InvalidSettings", "settings.port is required", field="settings.port")
    ((name, packed),) = grpc_trailers(error)
    assert name == "grpc-status-details-bin"
    assert isinstance(packed, bytes)
    info, bad_request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    first, second = status_pb2.Status.FromString(packed).details
    assert first.Unpack(info)
    assert second.Unpack(bad_request)
    assert (info.reason, dict(info.metadata)) == ("InvalidSettings", {"field": "settings.port"})
    (violation,) = bad_request.field_violations
    assert (violation.field, violation.description, violation.reason) == (
        "settings.port",
        "settings.port is required",
        "InvalidSettings",
    )
