"""Reads the names of services in a protobuf descriptor set without the protobuf library, to keep the supervisor small.

Only these fields are read (google/protobuf/descriptor.proto): FileDescriptorSet.file = 1, FileDescriptorProto.package =
2 and .service = 6, ServiceDescriptorProto.name = 1.
"""

from collections.abc import Iterator


def service_names(descriptor_set: bytes) -> list[str]:
    """Return the full names of all services, in the order of the set. Raises ValueError if it is not a descriptor
    set."""
    names = []
    try:
        for file in _messages(descriptor_set, 1):
            package = b"".join(_messages(file, 2)).decode()
            for service in _messages(file, 6):
                name = b"".join(_messages(service, 1)).decode()
                names.append(f"{package}.{name}" if package else name)
    except IndexError:
        raise ValueError("not a protobuf descriptor set") from None
    return names


def _messages(data: bytes, number: int) -> Iterator[bytes]:
    """Yield the values of a length-delimited field."""
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        match key & 7:
            case 0:
                _, position = _varint(data, position)
            case 1:
                position += 8
            case 2:
                length, position = _varint(data, position)
                if position + length > len(data):
                    raise ValueError("not a protobuf descriptor set")
                if key >> 3 == number:
                    yield data[position : position + length]
                position += length
            case 5:
                position += 4
            case _:
                raise ValueError("not a protobuf descriptor set")


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            return value, position
        shift += 7
