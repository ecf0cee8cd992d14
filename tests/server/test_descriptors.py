import pytest
from google.protobuf import descriptor_pb2

from headwater.server.descriptors import service_names
from headwater.server.gateway import configuration_dir


def test_agrees_with_the_protobuf_library() -> None:
    data = (configuration_dir() / "descriptors.pb").read_bytes()
    library = [
        f"{file.package}.{service.name}"
        for file in descriptor_pb2.FileDescriptorSet.FromString(data).file
        for service in file.service
    ]
    assert service_names(data) == library
    assert "headwater.v1.ConnectionService" in library


def test_a_file_without_a_package() -> None:
    files = descriptor_pb2.FileDescriptorSet()
    files.file.add(name="a.proto", service=[descriptor_pb2.ServiceDescriptorProto(name="A")])
    assert service_names(files.SerializeToString()) == ["A"]


def test_an_empty_set() -> None:
    assert service_names(b"") == []


@pytest.mark.parametrize("data", [b"\x0a", b"\x0a\x05abc", b"\x07", b"\x0a\x01\x80"])
def test_other_bytes_are_rejected(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a protobuf descriptor set"):
        service_names(data)
